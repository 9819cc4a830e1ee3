"""The number of calls that a run of Suri makes."""

from __future__ import annotations

from if_factory.constraints.text import count_words
from if_factory.judge.criteria import judge_calls
from if_factory.judge.judge import judge_role
from if_factory.methods.base import PlannedCalls
from if_factory.methods.suri.constraints import has_teacher
from if_factory.methods.suri.options import Options
from if_factory.methods.suri.texts import _pieces, _unusable
from if_factory.records import Record


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    if options.source == "composer" or not has_teacher(options, "teacher" in roles):
        return []
    sizes = [count_words(text) for s in seeds for text in _pieces(s, options)[0]
             if _unusable(s, text, options) is None]
    n, tries = len(sizes), options.tries
    text = int(1.4 * sum(sizes) / max(1, n))
    listed = 30 * options.constraints  # tokens of the constraints, or of their rewrites
    role = judge_role(roles)
    calls = [PlannedCalls("backtranslate", "teacher", n, tries * n, text + 350, listed + 60),
             PlannedCalls("corrupt", "teacher", n, tries * tries * n, listed + 350, listed + 60)]
    if options.label:
        calls.append(PlannedCalls("label", "teacher", n, tries * n, listed + 200, 20 * options.constraints))
    judged = judge_calls(options.constraints, options.prompt_variant)
    said = (40 if options.prompt_variant == "small" else 110) * options.constraints // judged
    return [*calls, PlannedCalls("judge", role, n, 2 * tries * judged * n, text + listed // judged + 250, said)]
