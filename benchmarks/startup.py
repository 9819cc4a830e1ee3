"""What the start-up hook costs every Python process of an environment that has it.

    python benchmarks/startup.py --starts 400

Throw-away environments, alike but for ``if_factory_autoload.pth`` and ``.py``; starts of ``python -c pass`` are
interleaved in random order, so that all see the same machine. Reported: the difference of
medians with a 95 % bootstrap interval and, beside it, the hook timed from inside fresh processes. Wants a quiet
machine: the difference is below 1 ms.
"""

from __future__ import annotations

import argparse
import compileall
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOOK = ROOT / "if_factory_autoload.pth"
INSIDE = (f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); start = time.perf_counter(); "
          "import if_factory_autoload; print(time.perf_counter() - start)")


def environment(folder: Path, hook: bool) -> Path:
    """The Python of an environment with if_factory as pip leaves it, compiled, with or without its hook."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    shutil.copytree(ROOT / "if_factory", packages / "if_factory", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(packages / "if_factory", quiet=2)
    if hook:
        shutil.copy(HOOK, packages)
        shutil.copy(HOOK.with_suffix(".py"), packages)
    return folder / "bin" / "python"


def seconds(python: Path, env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", "pass"], check=True, env=env)
    return time.perf_counter() - start


def interval(a: list[float], b: list[float], rng: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of median(a) - median(b)."""
    differences = sorted(statistics.median(rng.choices(a, k=len(a))) - statistics.median(rng.choices(b, k=len(b)))
                         for _ in range(2000))
    return differences[50], differences[-51]


def fast(times: list[float]) -> float:
    """The tenth percentile: what other work on the machine disturbs least."""
    return statistics.quantiles(times, n=10)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=400, help="of each kind")
    starts = parser.parse_args().starts
    rng = random.Random(0)
    env = {k: v for k, v in os.environ.items() if k not in (
        "PYTHONPATH", "IF_FACTORY_AUTOLOAD", "PYTHONDONTWRITEBYTECODE")}
    with tempfile.TemporaryDirectory() as folder:
        pythons = {name: environment(Path(folder) / name, name != "without")
                   for name in ("with", "without", "off")}
        envs = {name: env | ({"IF_FACTORY_AUTOLOAD": "0"} if name == "off" else {}) for name in pythons}
        times: dict[str, list[float]] = {name: [] for name in pythons}
        for name in pythons:  # byte code and disk cache
            seconds(pythons[name], envs[name])
        order = [name for name in pythons for _ in range(starts)]
        rng.shuffle(order)
        for name in order:
            times[name].append(seconds(pythons[name], envs[name]))
        inside = [float(subprocess.check_output([pythons["without"], "-c", INSIDE], text=True, env=env))
                  for _ in range(starts)]
    print(f"Python {sys.version.split()[0]}, {starts} starts of each kind, milliseconds")
    for name in pythons:
        print(f"{name:8} median {1e3 * statistics.median(times[name]):7.3f}")
    for name in ("with", "off"):
        low, high = interval(times[name], times["without"], rng)
        middle = statistics.median(times[name]) - statistics.median(times["without"])
        print(f"{name:4} minus without: {1e3 * middle:+.3f}  (95 %: {1e3 * low:+.3f} to {1e3 * high:+.3f}), "
              f"10th percentiles {1e3 * (fast(times[name]) - fast(times['without'])):+.3f}")
    print(f"the hook, timed inside a process: median {1e3 * statistics.median(inside):.3f}")


if __name__ == "__main__":
    main()
