"""The number of calls that a run of Conifer makes."""

from __future__ import annotations

from random import Random

from if_factory.constraints.compose import compose
from if_factory.inputs.selection import require_languages
from if_factory.judge.criteria import judge_calls
from if_factory.judge.judge import judge_role
from if_factory.methods.base import PlannedCalls
from if_factory.methods.conifer.levels import PER_LEVEL
from if_factory.methods.conifer.options import Options
from if_factory.methods.conifer.versions import unfit, wants_internal
from if_factory.records import Record


def require_types(options: Options) -> None:
    """Raises ``UserError`` for a misspelt type or language before anything is asked."""
    require_languages(options.query_languages, "options: field 'query_languages'")
    compose("", Random(0), n=0, include=options.format_types)


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    require_types(options)
    judge = judge_role(roles)
    n = sum(unfit(seed.prompt, options) is None for seed in seeds)
    asked = n * max(1, options.reframed)
    small = options.prompt_variant == "small"
    formatted = options.format_share if wants_internal(options) else 0
    # About the items of a level, which holds those of the levels below it.
    judged = judge_calls(max(PER_LEVEL) * max(options.levels), options.prompt_variant)
    said = 150 if small else 450
    versions = round(asked * len(options.levels) * (1 + formatted))
    calls = [*([PlannedCalls("reframe", "teacher", n, 3 * n, 220, 120)] if options.reframed else []),
             PlannedCalls("stands_alone", judge, 0, 3 * asked, 160, 30),
             PlannedCalls("constrain", "teacher", 0, 3 * asked, 200 if small else 900, 350),
             *([] if small else [PlannedCalls("recombine", "teacher", 0, 3 * asked * max(options.levels)
                                              * (1 + options.redraws), 900, 120)]),
             PlannedCalls("feasible", judge, 0, 3 * versions, 220, 30),
             PlannedCalls("answer", "teacher", 0, versions * options.answers, 120, 400),
             PlannedCalls("answer", judge, 0, 3 * judged * versions * options.answers, 700, said)]
    if "student" in roles:
        tries = asked * options.baselines
        calls += [PlannedCalls("attempt", "student", 0, tries, 120, 400),
                  PlannedCalls("attempt", judge, 0, 3 * judged * tries, 700, said),
                  PlannedCalls("attempt", "teacher", 0, 3 * asked, 600, 80)]
    return calls
