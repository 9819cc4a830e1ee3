"""What the usefulness gate costs in CPU time: milliseconds per answer for the rules, answers per second for relevance.

    python benchmarks/usefulness.py [--relevance] [rows]

Rows are IFEval-style files, or exported alpaca files with their provenance; default: the shipped SFT data.
Times are CPU times of this process, best of five, everything included that a run does once per record or answer.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from if_factory.inputs.ifeval import read_constraints
from if_factory.records import Constraint
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.rules import why_not
from if_factory.usefulness.settings import THRESHOLD

ROUNDS = 5
ROOT = Path(__file__).parents[1]


Row = tuple[str, list[Constraint], str]


def rows_of(path: Path) -> list[Row]:
    """IFEval-style rows, or an exported alpaca file with its provenance beside it."""
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if "response" in read[0]:
        return [(r["prompt"], read_constraints(r, f"{path}:{n}"), r["response"]) for n, r in enumerate(read, 1)]
    beside = path.with_suffix(".provenance.jsonl").read_text(encoding="utf-8").splitlines()
    known = ([Constraint(**c) for c in json.loads(line)["constraints"]] for line in beside)
    return [(r["instruction"], c, r["output"]) for r, c in zip(read, known, strict=True)]


def rules(rows: list[Row]) -> float:
    started = time.process_time()
    for prompt, constraints, response in rows:
        why_not(Asked(prompt, constraints), response)
    return (time.process_time() - started) / len(rows) * 1000


def relevance(rows: list[Row], threshold: float | None) -> float:
    """Answers per second of CPU time in one thread, the model already loaded; nothing is in memory from before.

    ``threshold``: as a run has it; ``None`` reads every answer as a whole.
    """
    import torch

    from if_factory.usefulness.relevance import Relevance

    torch.set_num_threads(1)
    Relevance().scores([(Asked(*rows[0][:2]), rows[0][2])])
    items = [(Asked(prompt, constraints), response) for prompt, constraints, response in rows]
    fresh = Relevance()
    started = time.process_time()
    fresh.scores(items, threshold)
    return len(items) / (time.process_time() - started)


def main() -> None:
    named = [Path(a) for a in sys.argv[1:] if not a.startswith("-")]
    for path in named or [ROOT / "data" / "complex_to_simple" / "quickstart_sft.jsonl"]:
        rows = rows_of(path)
        characters = sum(len(r) for _, _, r in rows) // len(rows)
        print(f"{path.name}: {len(rows)} rows, {characters} characters per answer")
        print(f"  rules: {min(rules(rows) for _ in range(ROUNDS)):.3f} ms per answer")
        if "--relevance" in sys.argv:
            for name, threshold in (("whole answers", None), ("opening first", THRESHOLD)):
                print(f"  relevance, {name}: {max(relevance(rows, threshold) for _ in range(ROUNDS)):.0f} answers "
                      "per second of CPU time, one thread")


if __name__ == "__main__":
    main()
