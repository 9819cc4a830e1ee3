"""The number of calls that a run of AutoIF makes."""

from __future__ import annotations

from if_factory.judge.judge import judge_role
from if_factory.methods.autoif.answers import queries, samples
from if_factory.methods.autoif.options import Options
from if_factory.methods.base import PlannedCalls
from if_factory.records import Record


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    """Bounds without knowing the yield: ``low`` if no new instruction and no function survives.

    Token numbers are for one request: an instruction has about 20 tokens, a query 40, an answer 200.
    """
    queries(options.queries, options.query_characters)  # a broken file shows now
    own = [s for s in seeds if s.extra["origin"] == "seed" and s.extra["verifiable"] is not False]
    most = len(own) + sum(s.extra["origin"] == "augmentation" for s in seeds) * options.augment_count
    tries, judge = 3, judge_role(roles)
    asked: list[PlannedCalls] = []
    for number in sorted({s.extra["round"] for s in seeds}):
        mark = f"_{number}" if number > 1 else ""
        there = [s for s in own if s.extra["round"] == number]
        calls = sum(s.extra["origin"] == "augmentation" and s.extra["round"] == number for s in seeds)
        unmarked = sum(s.extra["verifiable"] is None for s in there)
        new = calls * options.augment_count
        here = len(there) + new
        asked.append(PlannedCalls(f"augment{mark}", "teacher", calls, calls, 900, 30 * options.augment_count))
        if options.screen:
            asked.append(PlannedCalls(f"screen{mark}", "teacher", unmarked, tries * (unmarked + new), 120, 40))
        least = len(there) - (unmarked if options.screen else 0)
        per_answer, tokens = (1, (330, 350)) if options.test_cases == "together" else (2, (155, 160))
        asked.append(PlannedCalls(f"write_functions{mark}", "teacher", least * options.answers * per_answer,
                                  here * options.answers * per_answer, *tokens))
        if n := options.back_translate:
            asked.append(PlannedCalls(f"back_translate{mark}", "teacher", 0, tries * here, 150 + 200 * n, 40 * n))
            if options.consistency in ("judge", "embedding"):
                asked.append(PlannedCalls(f"consistency{mark}", judge, 0, tries * here * n, 250, 40))
    if options.max_constraints > 1 and options.consistency in ("judge", "embedding"):
        k = options.max_constraints
        asked.append(PlannedCalls("compatible", judge, 0, tries * most * k * (k - 1) // 2, 250, 40))
    prompts = most * options.queries_per_instruction
    wanted = samples(options, "student" in roles)
    asked += [PlannedCalls("respond", role, 0, prompts * n, 40 + 20 * options.max_constraints, 200)
              for role, n in wanted.items() if n]
    if options.quality_score:
        asked.append(PlannedCalls("score", judge, 0,
                                  tries * prompts * sum(wanted.values()) * options.quality_samples, 500, 60))
    return asked
