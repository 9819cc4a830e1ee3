"""Every method from the command line at scale, against scripted models (named as such) behind one endpoint.

    python benchmarks/methods.py --seeds 5000
    python benchmarks/methods.py --seeds 300 --methods soft_steps,decif
    python benchmarks/methods.py --seeds 1000 --parent ../other_checkout --rounds 3

One process runs `if-factory run`, this one serves it. Wall time stands beside the ideal, what the endpoint's delay
alone would take at this concurrency. CPU seconds (user and system) are those of the run and its child processes;
the endpoint's own are apart. Peak is the run's largest resident set; requests per emitted row are what a teacher that
does as it is told costs, with the methods' default options but for what scripted words can satisfy. Relevance by
embeddings is off, as it is where the ``[embed]`` extra is not installed: IF_FACTORY_EMBEDDINGS=on includes it.

With ``--parent`` the package of another checkout runs the same cases, in turn with this one's: of each the round with
the least CPU is shown, and whether both wrote the same files. With ``--ray 2`` the same cases run on Ray with two
workers, too. Ray's processes are no children of the run, so CPU seconds are then those of the whole machine without
the endpoint: for a quiet one only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.command_run import OUTCOME, REPO, finish, start
from tests.support.method_cases import CASES, CONCURRENCY, DELAY, Case, write_recipe


@dataclass
class Measured:
    """One run. Times are in seconds, ``peak`` in bytes; ``files`` are the bytes of the run's outcome by name."""

    requests: int
    wall: float
    cpu: float
    endpoint_cpu: float
    peak: int
    rows: dict[str, int]
    asked: dict[str, int]
    files: dict[str, bytes]


def cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class System:
    """A checkout, and the words of its command beyond the usual; ``whole`` counts the machine's CPU time."""

    code: Path
    more: tuple[str, ...] = ()
    whole: bool = False


def machine_seconds() -> float:
    used = psutil.cpu_times()
    return float(used.user + used.nice + used.system)


async def measure(name: str, case: Case, seeds: int, folder: Path, system: System) -> Measured:
    server = case.server()
    path = write_recipe(folder, name, await server.start(), seeds)
    began = time.monotonic()
    own, children = cpu_seconds(resource.RUSAGE_SELF), cpu_seconds(resource.RUSAGE_CHILDREN)
    machine = machine_seconds()
    peak = await finish(await start(path, folder / "run", system.code, system.more))
    wall = time.monotonic() - began
    own = cpu_seconds(resource.RUSAGE_SELF) - own
    children = cpu_seconds(resource.RUSAGE_CHILDREN) - children
    if system.whole:
        children = machine_seconds() - machine - own
    await server.stop()
    files = {name: (folder / "run" / name).read_bytes() for name in OUTCOME}
    # Answers are logged as they come; sorted, they are the same.
    files["responses.jsonl"] = b"".join(sorted((folder / "run" / "responses.jsonl").read_bytes().splitlines(True)))
    rows = {kind: counts["rows"] for kind, counts in json.loads(files["ledger.json"])["emission"].items()}
    asked: dict[str, int] = {}
    for used in json.loads(files["usage.json"]):
        asked[used["role"]] = asked.get(used["role"], 0) + used["answers"]
    return Measured(server.requests, wall, children, own, peak, rows, asked, files)


def cells(name: str, seeds: int, run: Measured) -> list[str]:
    rows = {kind: n for kind, n in run.rows.items() if n}
    per_row = (f"{role} {n / max(1, sum(rows.values())):.1f}" for role, n in sorted(run.asked.items()))
    return [name, f"{seeds:,}", f"{run.requests:,}", f"{run.wall:.1f}", f"{run.requests * DELAY / CONCURRENCY:.1f}",
            f"{run.cpu:.1f}", f"{1000 * run.cpu / run.requests:.2f}", f"{1000 * run.cpu / seeds:.1f}",
            f"{run.endpoint_cpu:.1f}", f"{run.peak / 2**20:.0f}",
            ", ".join(f"{kind} {n:,}" for kind, n in rows.items()), ", ".join(per_row)]


HEAD = ("method", "seeds", "requests", "wall s", "ideal s", "CPU s", "CPU ms/request", "CPU ms/seed", "endpoint CPU s",
        "peak MiB", "rows", "requests per row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--methods", default=",".join(CASES), help="with commas between them")
    parser.add_argument("--parent", type=Path, help="another checkout, to run the same cases with its package")
    parser.add_argument("--ray", type=int, metavar="WORKERS", help="run on Ray, too, with so many workers")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the one with the least CPU is shown")
    given = parser.parse_args()
    os.environ.setdefault("IF_FACTORY_EMBEDDINGS", "off")
    systems = {"": System(REPO, whole=bool(given.ray))}
    if given.parent:
        systems[" (parent)"] = System(given.parent.resolve())
    if given.ray:
        words = ("--engine", "ray", "--ray-workers", str(given.ray))
        systems[f" (Ray, {given.ray} workers)"] = System(REPO, words, whole=True)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in given.methods.split(","):
        runs: dict[str, list[Measured]] = {label: [] for label in systems}
        for _ in range(given.rounds):  # taken in turn, so that a busy moment hits both
            for label, system in systems.items():
                with tempfile.TemporaryDirectory() as folder:
                    runs[label].append(asyncio.run(measure(name, CASES[name], given.seeds, Path(folder), system)))
        best = {label: min(found, key=lambda run: run.cpu) for label, found in runs.items()}
        for label, run in best.items():
            print(f"| {' | '.join(cells(name + label, given.seeds, run))} |", flush=True)
        for label, theirs in list(best.items())[1:]:
            mine = best[""]
            differ = [file for file in mine.files if mine.files[file] != theirs.files[file]]
            same = f"DIFFERENT files: {', '.join(differ)}" if differ else "the same files"
            print(f"{name}: CPU {mine.cpu / theirs.cpu:.2f} of{label}; {same}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
