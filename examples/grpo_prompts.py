"""Prompts for `stage: grpo` without a teacher: constraints composed onto the shipped seeds, and prompts held out.

    python examples/grpo_prompts.py --dataset-dir data
    llamafactory-cli train examples/grpo.yaml

Writes `composed_rl` (from the seeds) and `composed_rl_held_out` (from the held-out prompts of `if-factory evaluate`),
and registers both. The types of constraints and of requests are those of scripts/quickstart.yaml.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

import yaml

from if_factory.constraints.compose import compose
from if_factory.constraints.join import join
from if_factory.exporting.dataset_info import FILE_NAME, merge_entries
from if_factory.files import read_rows, write_jsonl
from if_factory.inputs.seeds import builtin
from if_factory.rewards.formats import ENTRY_COLUMNS
from if_factory.rewards.truth import ground_truth_of

SHORT = "Be brief."  # examples/grpo.yaml cuts an answer after 48 tokens
RECIPE = Path(__file__).parents[1] / "scripts" / "quickstart.yaml"


def prompts(seeds: str, per_seed: int, types: Sequence[str], categories: Sequence[str]) -> list[dict[str, object]]:
    """Alpaca rows without an answer; each seed comes ``per_seed`` times with constraints of its own."""
    rows: list[dict[str, object]] = []
    for _, row in read_rows(builtin(seeds)):
        for n in range(per_seed if row["category"] in categories else 0):
            rng = Random(f"grpo/{row['id']}/{n}")
            constraints = compose(row["prompt"], rng, low=1, high=2, include=types)
            text = join(f"{row['prompt']} {SHORT}", constraints, rng)
            rows.append({"instruction": text, "input": "", "system": "", "history": [], "seed_id": row["id"],
                         "ground_truth": ground_truth_of(constraints, text)})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, default=Path("data"), help="LLaMA-Factory's data folder")
    args = parser.parse_args(arguments)
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    entries: dict[str, dict[str, object]] = {}
    for name, seeds, per_seed in (("composed_rl", "seeds", 2), ("composed_rl_held_out", "held_out", 1)):
        rows = prompts(seeds, per_seed, recipe["options"]["include"], recipe["categories"])
        write_jsonl(args.dataset_dir / f"{name}.jsonl", rows)
        entries[name] = {"file_name": f"{name}.jsonl", "columns": ENTRY_COLUMNS}
        print(f"{name}: {len(rows)} prompts")
    merge_entries(args.dataset_dir / FILE_NAME, entries, force=True)


if __name__ == "__main__":
    main()
