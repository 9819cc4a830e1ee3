"""What isolation costs: functions and checks per second on one core, beside the alternatives, in one run.

    python benchmarks/sandbox.py [--rounds 5] [path to the shared reference data]

Every executor gets the same functions (104 from the reference data, else eight of our own) once with one input and
once with 20, in turns, so that a busy moment of the machine hits all of them. The first turn is not counted.

- AutoIF: `exec` in the pipeline's own process, SIGALRM around each call (no isolation; what upstream does)
- jail: this package's pool with one worker, at the level in force; and at `bwrap` where bubblewrap works
- cold python: a new `python -I -S` per function; cold bwrap: the same inside bubblewrap

Times are wall clock; "CPU" is the processor time of all processes involved, which a busy machine distorts less;
inside bubblewrap it cannot be read.
A target of 5 ms per function and 0.3 ms per check is printed with the jail's figures.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from if_factory.sandbox import Isolation, Pool, probe

Case = tuple[str, list[Any]]
Executor = Callable[[str, list[Any]], list[Any]]
MANY = 20
COLD = 20  # a cold start per function is slow; so many functions are enough to time it
SERVERS: list[int] = []  # process ids of the fork servers
TARGET = {1: 5.0, MANY: 0.3 * MANY}  # ms per function

OWN = [
    "def evaluate(response): return len(response.split()) <= 50",
    "import re\ndef evaluate(response): return bool(re.search(r'\\b[A-Z]{3,}\\b', response))",
    "import json\ndef evaluate(response):\n    try: json.loads(response)\n    except ValueError: return False\n"
    "    return True",
    "from collections import Counter\ndef evaluate(response): return max(Counter(response.split()).values()) < 3",
    "import string\ndef evaluate(response): return not any(c in string.punctuation for c in response)",
    "def evaluate(response): return all(p.strip() for p in response.split('\\n\\n'))",
    "import math\ndef evaluate(response): return math.isqrt(len(response)) ** 2 == len(response)",
    "def evaluate(response): return response == response.lower()",
]
COLD_SCRIPT = """
import json, sys
request = json.load(sys.stdin)
module = {}
exec(request["source"], module)
found = []
for given in request["inputs"]:
    try: found.append(module["evaluate"](given))
    except Exception: found.append(None)
print(json.dumps(found, default=str))
"""


def corpus(folder: Path) -> list[Case]:
    """Functions with their inputs."""
    rows = []
    for name in ("autoif_verifiers", "style_probes"):
        path = folder / "data" / "sandbox" / f"{name}.jsonl"
        rows += [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    own = ["One two three.", "A LOUD answer, with two clauses.", '{"a": 1}', "first\n\nsecond"]
    return [(row["func"], [case[0] for case in row["cases"]]) for row in rows] or [(f, own) for f in OWN]


def autoif(source: str, inputs: list[Any]) -> list[Any]:
    """As upstream: same process, an alarm of 5 s around each call, any exception is None. One namespace."""
    def alarm(*args: object) -> None:
        raise TimeoutError

    module: dict[str, Any] = {}
    exec(source, module)
    signal.signal(signal.SIGALRM, alarm)
    found = []
    for given in inputs:
        try:
            signal.alarm(5)
            found.append(module["evaluate"](given))
        except Exception:
            found.append(None)
        finally:
            signal.alarm(0)
    return found


def cold(prefix: list[str]) -> Executor:
    def run(source: str, inputs: list[Any]) -> list[Any]:
        out = subprocess.run([*prefix, sys.executable, "-I", "-S", "-c", COLD_SCRIPT], capture_output=True,
                             check=True, input=json.dumps({"source": source, "inputs": inputs}).encode())
        return list(json.loads(out.stdout))
    return run


def jail(pool: Pool) -> Executor:
    SERVERS.append(pool._workers[0].server(0).process.pid)
    return lambda source, inputs: list(pool.run(source, inputs).values)


def processor_seconds() -> float:
    """Of this process, its children, and their children: fork servers live on, so theirs are read from /proc."""
    total, ticks = sum(os.times()[:4]), os.sysconf("SC_CLK_TCK")
    for pid in SERVERS:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / ticks
    return total


def turn(run: Executor, cases: list[Case], inputs: int) -> tuple[float, float]:
    """Milliseconds per function: wall clock, processor."""
    began, cpu = time.perf_counter(), processor_seconds()
    for source, given in cases:
        run(source, list(islice(cycle(given), inputs)))
    return ((time.perf_counter() - began) / len(cases) * 1e3, (processor_seconds() - cpu) / len(cases) * 1e3)


def executors(bwrap: bool) -> Iterator[tuple[str, Executor, bool]]:
    """``(name, executor, starts cold)``; the pools live as long as the process."""
    pool = Pool(workers=1)
    yield "AutoIF (no isolation)", autoif, False
    yield f"jail, {pool.isolation}", jail(pool), False
    if bwrap:
        strongest, probe.isolation = probe.isolation, lambda: Isolation("bwrap")  # type: ignore[assignment]
        yield "jail, bwrap", jail(Pool(workers=1)), False
        probe.isolation = strongest
    yield "cold python", cold([]), True
    if bwrap:
        yield "cold bwrap", cold(probe.bwrap()), True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("IF_FACTORY_SHARED", str(Path(__file__).parents[1].parent / "shared"))
    parser.add_argument("shared", nargs="?", default=default)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cases = corpus(Path(given.shared))
    began = time.perf_counter()
    Pool(workers=1).close()
    start = (time.perf_counter() - began) * 1e3
    print(f"{len(cases)} functions; python {sys.version.split()[0]}, kernel {os.uname().release}, "
          f"{os.uname().machine}; load {os.getloadavg()[0]:.1f}; the jail starts in {start:.0f} ms")
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    every = list(executors(probe._bwrap_works()))
    for _ in range(given.rounds + 1):
        for name, run, starts_cold in every:
            for inputs in (1, MANY):
                times = found.setdefault(name, {1: [], MANY: []})[inputs]
                times.append(turn(run, cases[:COLD] if starts_cold else cases, inputs))
    print(f"{'':24}{'1 input':>10}{'CPU':>10}{f'{MANY} inputs':>12}{'CPU':>10}{'per check':>12}"
          f"{'functions/s':>13}{'checks/s':>10}")
    for name, times in found.items():
        one, many = (statistics.median(wall for wall, _ in times[n][1:]) for n in (1, MANY))
        cpu = [f"{statistics.median(cpu for _, cpu in times[n][1:]):.2f} ms" for n in (1, MANY)]
        cpu_one, cpu_many = ("-", "-") if "bwrap" in name else cpu
        print(f"{name:24}{one:>7.2f} ms{cpu_one:>10}{many:>9.2f} ms{cpu_many:>10}{many / MANY:>9.3f} ms"
              f"{1e3 / one:>13,.0f}{MANY * 1e3 / many:>10,.0f}")
        if name.startswith("jail"):
            met = "met" if one <= TARGET[1] and many <= TARGET[MANY] else "NOT met"
            print(f"{'':24}best round {min(times[1][1:])[0]:.2f} ms and {min(times[MANY][1:])[0]:.2f} ms; "
                  f"target 5 ms per function and 0.3 ms per check: {met}")


if __name__ == "__main__":
    main()
