"""How long the reward function takes for 512 answers x 5 constraints, and with 5 generated functions each.

    python benchmarks/rewards.py [--workers 0 1 2] [--rounds 5]

64 prompts (the shipped seeds) with 5 composed constraints each and 8 answers of 150 words, which are cut from the
shipped texts and new in every round, so that nothing is in a cache but the parsed constraints. Prints, per round,
wall clock and the CPU time of all processes: on a machine that others use, the CPU time is the figure that holds.
"""

from __future__ import annotations

import argparse
import os
import random
import time

from if_factory.constraints.compose import compose
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin
from if_factory.records import Constraint
from if_factory.rewards.function import Rewarder
from if_factory.rewards.truth import GENERATED, ground_truth_of

PROMPTS, ANSWERS, WORDS = 64, 8, 150
FUNCTIONS = [
    "def evaluate(response):\n    return len(response.split()) > {n}",
    "import re\n\ndef evaluate(response):\n    return len(re.findall(r'\\b\\w+ing\\b', response)) >= {n} % 3",
    "def evaluate(response):\n    return response.strip()[0].isupper() and {n} >= 0",
    "def evaluate(response):\n    return response.count('.') > {n} % 7",
    "def evaluate(response):\n    return all(len(line) < 5000 + {n} for line in response.splitlines())",
]


def answers(rng: random.Random, number: int) -> list[str]:
    """Runs of sentences of the shipped texts in an order of their own."""
    sentences = [s for _, row in read_rows(builtin("texts")) for s in row["text"].replace("\n", " ").split(". ")]
    found = []
    for _ in range(number):
        words: list[str] = []
        while len(words) < WORDS:
            words += (rng.choice(sentences) + ".").split()
        found.append(" ".join(words[:WORDS]))
    return found


def cpu() -> float:
    """CPU seconds of this process and its children, running ones included."""
    total = sum(os.times()[:4])
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    fields = f.read().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            except OSError:
                continue
    return total


def measure(name: str, rewarder: Rewarder, prompts: list[str], truths: list[str], rounds: int) -> None:
    rng = random.Random(1)
    walls, cpus = [], []
    for _ in range(rounds + 1):
        given = answers(rng, len(prompts))
        began, cpu_began = time.perf_counter(), cpu()
        found = rewarder.judge(prompts, given, truths)
        walls.append(time.perf_counter() - began)
        cpus.append(cpu() - cpu_began)
    mean = sum(j.reward or 0 for j in found) / len(found)
    undecided = sum(j.reward is None for j in found)
    print(f"{name:<44} wall first {walls[0]:.2f}, then {min(walls[1:]):.3f} to {max(walls[1:]):.3f} s; "
          f"CPU {min(cpus[1:]):.2f} s; mean reward {mean:.3f}, without {undecided}")
    rewarder.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rng = random.Random(0)
    seeds = [row["prompt"] for _, row in read_rows(builtin("seeds"))][:PROMPTS]
    prompts = [p for p in seeds for _ in range(ANSWERS)]
    by_code = [ground_truth_of(compose(seed, rng, n=5), seed) for seed in seeds]
    generated = [ground_truth_of([Constraint(type=GENERATED, kwargs={"functions": [f.format(n=n) for f in FUNCTIONS]})],
                                 seed) for n, seed in enumerate(seeds)]
    for usefulness in (True, False):
        for workers in args.workers:
            measure(f"5 checkers, {workers} workers{', usefulness rules' * usefulness}",
                    Rewarder(usefulness=usefulness, workers=workers), prompts,
                    [t for t in by_code for _ in range(ANSWERS)], args.rounds)
    measure("5 generated functions, usefulness rules", Rewarder(), prompts,
            [t for t in generated for _ in range(ANSWERS)], max(1, args.rounds // 2))


if __name__ == "__main__":
    main()
