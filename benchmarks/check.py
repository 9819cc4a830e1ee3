"""`check` on a large alpaca file, beside plain `json.loads` over the same lines: time on one core and memory.

    python benchmarks/check.py [--rows 1000000] [--rounds 3]

Two files are generated (about 600 bytes a row) and removed afterwards. In `ordinary` one row in five has accents
or other letters, one in twenty an emoji, one in ten a history, one in ten thousand an `<image>`, and an eighth of the
system prompts are null; in `plain` all rows are ASCII text without a history. Both ways run in a process of their own,
in turns; the ratio is that of the best runs. Peak memory is the process's largest resident set, at a tenth, at three
tenths and at all of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = ["the", "a", "of", "to", "in", "and", "is", "that", "for", "with", "as", "at", "from", "by", "this", "it", "be",
         "are", "was", "not", "have", "one", "all", "can", "more", "when", "there", "which", "their", "time", "about",
         "write", "answer", "because", "water", "light", "house", "people", "small", "large", "question"]
FOREIGN = ["é", "naïve", "Größe", "日本語", "привет", "“so”", "–"]
EMOJI = ["🙂", "🚀", "👍"]
KINDS = ("plain", "ordinary")


def rows(number: int, kind: str) -> Iterator[dict[str, Any]]:
    """Alpaca SFT rows, the same for the same number and kind."""
    rng = random.Random(0)
    stock = [" ".join(rng.choices(WORDS, k=k)) for k in range(8, 60) for _ in range(20)]  # drawing words is slow
    for n in range(number):
        answer = f'{rng.choice(stock)}.\n\n{rng.choice(stock)}: "{rng.choice(WORDS)}".'
        row: dict[str, Any] = {"instruction": f"{n}. {rng.choice(stock)}?", "input": "", "output": answer,
                               "system": "You are helpful.", "history": []}
        if kind == "ordinary":
            if n % 5 == 0:
                row["output"] = f"{row['output']} {rng.choice(FOREIGN)}"
            if n % 20 == 7:
                row["output"] = f"{row['output']} {rng.choice(EMOJI)}"
            if n % 10 == 0:
                row["history"] = [[rng.choice(stock), rng.choice(stock)]]
            if n % 8 == 1:
                row["system"] = None
            if n % 10_000 == 77:
                row["instruction"] = f"{row['instruction']} <image>"
        yield row


def generate(folder: Path, number: int, kind: str) -> Path:
    """The file and its entry; ASCII like our exports for `plain`, UTF-8 for `ordinary`."""
    folder.mkdir()
    path = folder / "d.jsonl"
    with path.open("w", encoding="utf-8") as f:
        for row in rows(number, kind):
            f.write(json.dumps(row, ensure_ascii=kind == "plain") + "\n")
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system",
               "history": "history"}
    (folder / "dataset_info.json").write_text(json.dumps({"d": {"file_name": path.name, "columns": columns}}))
    return path


def once(what: str, path: Path) -> dict[str, float]:
    """One run in this process. Imports are not timed; memory is the whole process's."""
    told: list[int] = []
    if what == "check":
        from if_factory.exporting.acceptance import check_dataset

        start, cpu = time.perf_counter(), time.process_time()
        report = check_dataset(path.parent, "d", say=told.append)
        result: dict[str, float] = {"rows": report.rows, "accepted": report.accepted, "told": len(told),
                                    "problems": len(report.problems)}
    else:
        start, cpu = time.perf_counter(), time.process_time()
        number = 0
        with path.open("rb") as f:
            for line in f:
                json.loads(line)
                number += 1
        result = {"rows": number}
    return result | {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu,
                     "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run(what: str, path: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--once", what, str(path)], capture_output=True, text=True,
                          check=True)
    return dict(json.loads(done.stdout))


def compare(kind: str, number: int, rounds: int, folder: Path) -> None:
    path = generate(folder / kind, number, kind)
    print(f"{kind}: {number:,} rows, {path.stat().st_size / 1e6:.0f} MB; load average {os.getloadavg()[0]:.1f} on "
          f"{os.cpu_count()} cores", flush=True)
    found: dict[str, list[dict[str, float]]] = {"json.loads": [], "check": []}
    for _ in range(rounds):
        for what, runs in found.items():
            runs.append(run(what, path))
    for what, runs in found.items():
        cpu, wall = (" ".join(f"{r[clock]:.2f}" for r in runs) for clock in ("cpu", "wall"))
        print(f"  {what:<11} CPU s {cpu}   wall s {wall}   peak {max(r['mib'] for r in runs):.0f} MiB", flush=True)
    best = {(what, clock): min(r[clock] for r in runs) for what, runs in found.items() for clock in ("cpu", "wall")}
    last = found["check"][-1]
    print(f"  check / json.loads: CPU {best['check', 'cpu'] / best['json.loads', 'cpu']:.2f}, "
          f"wall {best['check', 'wall'] / best['json.loads', 'wall']:.2f}; {last['accepted']:,.0f} of "
          f"{last['rows']:,.0f} accepted, {last['problems']:.0f} remarks, progress told {last['told']:.0f} times",
          flush=True)
    for share in (0.1, 0.3):
        part = generate(folder / f"{kind}{share}", int(number * share), kind)
        print(f"  peak at {int(number * share):,} rows: {run('check', part)['mib']:.0f} MiB", flush=True)
        part.unlink()
    path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: both")
    parser.add_argument("--once", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.once[0], Path(given.once[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="if-factory-check-") as folder:
        for kind in given.kind or KINDS:
            compare(kind, given.rows, given.rounds, Path(folder))


if __name__ == "__main__":
    main()
