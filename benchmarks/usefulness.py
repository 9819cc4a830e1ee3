"""What the usefulness gate costs: milliseconds per answer for the rules, answers per second for relevance.

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


def relevance(rows: list[Row]) -> float:
    """Answers per second of wall time, the model already loaded; every text is embedded once."""
    from if_factory.usefulness.relevance import Relevance

    items = [(Asked(prompt, constraints), response) for prompt, constraints, response in rows]
    Relevance().scores(items[:1])
    fresh = Relevance()
    started = time.perf_counter()
    fresh.scores(items)
    return len(items) / (time.perf_counter() - started)


def main() -> None:
    named = [Path(a) for a in sys.argv[1:] if not a.startswith("-")]
    for path in named or [ROOT / "data" / "quickstart_sft.jsonl"]:
        rows = rows_of(path)
        characters = sum(len(r) for _, _, r in rows) // len(rows)
        print(f"{path.name}: {len(rows)} rows, {characters} characters per answer")
        print(f"  rules: {min(rules(rows) for _ in range(ROUNDS)):.3f} ms per answer")
        if "--relevance" in sys.argv:
            print(f"  relevance: {relevance(rows):.0f} answers per second")


if __name__ == "__main__":
    main()
