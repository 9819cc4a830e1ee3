"""Train the curriculum that make_data.py wrote, and measure the model before and after on held-out prompts.

    python examples/train_and_measure.py --model Qwen/Qwen3-4B-Instruct-2507 --run runs/example

Needs `pip install "if-factory[train,local,eval]"`. Killed, the same command goes on where it was: finished stages
are skipped, answers are in a log.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from if_factory import doctor, evaluate, repetition, report, train


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the base model, as in make_data.py")
    parser.add_argument("--run", type=Path, default=Path("runs/example"), help="the run folder")
    parser.add_argument("--prompts", type=int, default=100, help="held-out prompts")
    parser.add_argument("--saves", type=Path, default=Path("saves"), help="where the adapters are")
    args = parser.parse_args(arguments)

    for finding in doctor():
        print(finding)
    for stage in train(args.run / "yaml"):
        print(f"{stage.path.name}: {stage.steps} steps, loss {stage.losses[0]:.3f} -> {stage.losses[-1]:.3f}")

    results = evaluate(args.model, args.run / "evaluation", curriculum=args.run / "yaml", like=args.run,
                       prompts=args.prompts)
    for label in results.labels:
        rate = results.rates[label]["strict"].prompt
        print(f"{label}: {rate.value:.1%} of the prompts with every constraint satisfied "
              f"[{rate.low:.1%}, {rate.high:.1%}]")
    print(repetition([args.run / "evaluation" / "responses.jsonl"]).markdown())
    print(f"report: {report(args.run, saves=args.saves)}")


if __name__ == "__main__":
    main()
