"""2,000 requests through the whole of if_factory and its peers (bespokelabs-curator, distilabel, NeMo Data Designer),
against one fake endpoint.

    python benchmarks/orchestrator.py --venvs /tmp/if_factory_peers

Three scenarios: every reply takes 50 ms; 1 % of the replies take 5 s; 10 % of the tries get a 429 with
Retry-After and 5 % a 500. Each system runs in a process tree of its own from the start of its interpreter to
the end of its output files, with logs and caches on; the endpoint is one more process. The peers are
installed by name into virtual environments under ``--venvs``, once.

``req/s`` counts from the first object made (imports left out) to the last output; CPU is of the whole tree,
imports included; memory is the peak of the tree's proportional set size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
REPO = HERE.parent
PEERS = {"curator": ["bespokelabs-curator==0.1.31"], "distilabel": ["distilabel[openai]==1.5.3", "requests"],
         "data_designer": ["data-designer==0.9.7"]}
SYSTEMS = ("if_factory", *PEERS)
TAIL, DELAY = 5.0, 0.05
SCENARIOS = {
    "50 ms": [],
    "1 % take 5 s": ["--tail-share", "0.01", "--tail", str(TAIL)],
    "10 % 429, 5 % 500": ["--share-429", "0.1", "--share-500", "0.05", "--retry-after", "1"],
}
QUIET = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TELEMETRY_ENABLED": "false", "OPENAI_API_KEY": "none",
         "CURATOR_DISABLE_RICH_DISPLAY": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@dataclass
class Measured:
    answered: int
    seconds: float
    wall: float
    cpu_ms: float
    peak_mb: float
    most_in_flight: int
    tries: int


def interpreter(system: str, venvs: Path) -> Path:
    """The python that can import the system, installing it first where it is missing."""
    if system == "if_factory":
        return Path(sys.executable)
    folder = venvs / system
    done = folder / "installed"
    if not done.exists():
        print(f"installing {' '.join(PEERS[system])} into {folder} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *PEERS[system]], check=True)
        done.touch()
    return folder / "bin" / "python"


@contextlib.contextmanager
def endpoint(options: list[str]) -> Iterator[str]:
    server = subprocess.Popen([sys.executable, REPO / "tests/support/fake_endpoint.py", "--delay", str(DELAY),
                               *options], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


class PeakMemory(threading.Thread):
    """Peak proportional set size of a process tree in bytes, looked at four times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak, self.over = psutil.Process(pid), 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.25):
            with contextlib.suppress(psutil.Error):
                tree = [self.root, *self.root.children(recursive=True)]
                self.peak = max(self.peak, sum(map(self.pss, tree)))

    @staticmethod
    def pss(process: psutil.Process) -> int:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024
        return 0


def measure(system: str, python: Path, scenario: str, n: int, concurrency: int, limit: float) -> Measured | str:
    """One run; a sentence instead if it did not end well."""
    with endpoint(SCENARIOS[scenario]) as url, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stderr"
        with log.open("w") as err:
            started = time.perf_counter()
            process = subprocess.Popen(
                [python, HERE / "peers" / f"{system}_driver.py", url, str(n), str(Path(folder) / "run"),
                 str(concurrency)], stdout=subprocess.PIPE, stderr=err, text=True, env={**os.environ, **QUIET},
                start_new_session=True)
            memory = PeakMemory(process.pid)
            late = threading.Timer(limit, os.killpg, (process.pid, 9))
            late.start()
            assert process.stdout is not None
            out = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            late.cancel()
            memory.over.set()
        stats = json.load(urllib.request.urlopen(url.removesuffix("/v1") + "/stats"))
        if wall >= limit:
            return f"{stats['answered_distinct']:,} answered after {limit:.0f} s, then killed"
        last = out.strip().splitlines()[-1] if out.strip() else ""
        if status or not last.startswith("{"):
            return "failed: " + (log.read_text().strip().splitlines() or ["no message"])[-1][:150]
        said = json.loads(last)
        return Measured(said["answered"], said["seconds"], wall, 1000 * (used.ru_utime + used.ru_stime) / n,
                        memory.peak / 2**20, stats["most_in_flight"], stats["requests"])


def best(runs: list[Measured | str]) -> Measured | str:
    """The fastest of the runs that ended well; of equals, the first."""
    good = [r for r in runs if isinstance(r, Measured)]
    return min(good, key=lambda r: r.seconds) if good else runs[0]


def report(scenario: str, results: dict[str, Measured | str], n: int, concurrency: int) -> str:
    peers = [r for s, r in results.items() if s in PEERS and isinstance(r, Measured)]
    best_peer = min((p.seconds for p in peers), default=None)
    ideal = n * DELAY / concurrency + (TAIL if "5 s" in scenario else 0)
    head = ["system", "answered", "s", "req/s", "times ideal", "whole process s", "CPU ms/request", "peak MB",
            "in flight", "tries", "against the best peer"]
    lines = [f"### {scenario}: {n:,} requests (the replies alone take {ideal:.2f} s, {concurrency} at a time)", "",
             f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for system, r in results.items():
        if isinstance(r, str):
            lines.append(f"| {system} | {r} |" + " |" * (len(head) - 2))
            continue
        ratio = f"{best_peer / r.seconds:.1f} x" if best_peer and system not in PEERS else ""
        row = [system, f"{r.answered:,}", f"{r.seconds:.2f}", f"{n / r.seconds:,.0f}", f"{r.seconds / ideal:.2f}",
               f"{r.wall:.2f}", f"{r.cpu_ms:.2f}", f"{r.peak_mb:.0f}", f"{r.most_in_flight}", f"{r.tries:,}",
               ratio]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, required=True, help="folder for the peers' virtual environments")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the fastest is shown")
    parser.add_argument("--limit", type=float, default=240, help="seconds before a run is killed")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    args = parser.parse_args()
    pythons = {system: interpreter(system, args.venvs.resolve()) for system in args.systems}
    for scenario in args.scenarios:
        runs: dict[str, list[Measured | str]] = {system: [] for system in args.systems}
        for _ in range(args.repeat):  # taken in turn, so that a busy moment hits all alike
            for system in args.systems:
                runs[system].append(measure(system, pythons[system], scenario, args.requests, args.concurrency,
                                            args.limit))
                print(f"{scenario}: {system}: {runs[system][-1]}", file=sys.stderr, flush=True)
        print(report(scenario, {s: best(r) for s, r in runs.items()}, args.requests, args.concurrency), flush=True)


if __name__ == "__main__":
    main()
