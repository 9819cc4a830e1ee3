"""From seed prompts to LLaMA-Factory data and a curriculum: what the README does with commands, from Python.

    python examples/make_data.py --student http://localhost:8000/v1 --dataset-dir ~/LLaMA-Factory/data

The endpoint is any OpenAI-compatible server (`embedded`: the small built-in model). Killed, the same command goes
on where it was. Training and measuring follow in train_and_measure.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from if_factory import audit, check, curriculum, export, init, load_recipe, plan, preview, report, run


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, help="default: a new one, out/recipe_to_edit.yaml")
    parser.add_argument("--student", default="embedded", help="URL of the model to improve")
    parser.add_argument("--teacher", help="URL of a larger model that corrects; without one: best of n")
    parser.add_argument("--model", default="Qwen/Qwen3-4B-Instruct-2507", help="what the curriculum will train")
    parser.add_argument("--limit", type=int, default=20, help="seed prompts")
    parser.add_argument("--out", type=Path, default=Path("runs/example"), help="run folder and YAML files")
    parser.add_argument("--dataset-dir", type=Path, default=Path("data"), help="LLaMA-Factory's data folder")
    args = parser.parse_args(arguments)

    # A recipe decides a run. `init` makes one with every default visible: edit it, keep it under version control.
    if (path := args.recipe) is None:
        path = args.out / "recipe_to_edit.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(init("complex_to_simple"), encoding="utf-8")
    endpoints = {"student": args.student} | ({"teacher": args.teacher} if args.teacher else {})
    recipe = load_recipe(path, endpoints=endpoints, limit=args.limit)

    planned = plan(recipe)
    print(f"{planned.seeds} seeds, at most {sum(c.high for c in planned.calls)} requests, "
          f"{planned.minutes[0]:.0f} to {planned.minutes[1]:.0f} minutes at the embedded model's speed")
    for record in preview(recipe, args.out, rows=1).records:
        print(f"for example: {record.prompt}")

    made = run(recipe, args.out)
    print(f"rows that can be exported: { {k: v['rows'] for k, v in made.emission.counts().items()} }")

    exported = export(args.out, args.dataset_dir, force=True)
    for dataset in exported.datasets:
        print(f"{dataset.name}: {dataset.written} rows, {dataset.accepted} accepted by LLaMA-Factory's rules")

    # Both are independent of the run: they read the files as anybody's.
    assert all(found.ok for found in check(args.dataset_dir, [d.name for d in exported.datasets]))
    for whole in (d for d in exported.manifest.datasets if d.bin == "all"):
        print(f"{whole.name}: {audit(args.dataset_dir / whole.file).score:.0%} of the answers are what it claims")

    stages = curriculum(args.out, model=args.model, dataset_dir=args.dataset_dir, out=args.out / "yaml",
                        settings={"num_train_epochs": 2, "dpo.learning_rate": 5e-6})
    for stage in stages.stages:
        print(f"llamafactory-cli train {stage}")
    print(f"report: {report(args.out)}")


if __name__ == "__main__":
    main()
