"""The number of calls that a run of From Complex to Simple makes."""

from __future__ import annotations

from random import Random

from if_factory.constraints.compose import compose
from if_factory.methods.base import PlannedCalls
from if_factory.methods.complex_to_simple.options import Options
from if_factory.records import Record


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)  # unknown names show now
    n = sum(1 if s.constraints else options.prompts_per_seed for s in seeds)
    words = sum(len(s.seed_prompt.split()) for s in seeds) / max(1, len(seeds))
    mean = (options.min_constraints + options.max_constraints) / 2
    prompt = int(1.4 * (words + 15 * mean)) + 20  # about 15 words a constraint, 1.4 tokens a word
    calls = []
    if "teacher" in roles and options.keywords == "teacher":
        calls.append(PlannedCalls("compose", "teacher", len(seeds), 3 * len(seeds), prompt + 60, 60))
    if "student" in roles:
        calls.append(PlannedCalls("respond", "student", n * options.student_samples, n * options.student_samples,
                                  prompt, 200))
    if "teacher" in roles and options.teacher_samples:
        calls.append(PlannedCalls("respond", "teacher", n * options.teacher_samples,
                                  n * options.teacher_samples, prompt, 250))
    if "teacher" in roles and options.correct and options.student_samples:
        most = n * options.max_constraints * options.correction_rounds * options.correction_tries
        calls.append(PlannedCalls("correct", "teacher", 0, int(most), 2 * prompt + 300, 250))
    return calls
