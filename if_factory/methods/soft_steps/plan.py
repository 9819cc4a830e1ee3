"""The number of calls that a run of Step-by-Step Mastery makes."""

from __future__ import annotations

from math import ceil
from random import Random

from if_factory.constraints.compose import compose
from if_factory.constraints.soft import pool
from if_factory.errors import UserError
from if_factory.judge.criteria import judge_calls
from if_factory.judge.judge import judge_role
from if_factory.methods.base import PlannedCalls
from if_factory.methods.soft_steps.options import Options
from if_factory.records import (
    Record,
)


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    pool(options.soft_include, options.soft_exclude, options.taxonomy)  # unknown names show now
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)
    if options.answers not in roles:
        raise UserError(f"`answers: {options.answers}` needs a model for that role", where="models",
                        fix=f"add `{options.answers}:` with its endpoint")
    n, steps, soft = len(seeds), options.steps, options.soft_share * options.steps
    words = sum(len(s.seed_prompt.split()) for s in seeds) / max(1, n)
    prompt = int(1.4 * (words + 20 * steps / 2)) + 20  # about 20 words a constraint, 1.4 tokens a word
    judge = judge_role(roles)
    tries, judge_tries = ceil(soft) * options.soft_tries, options.judge_tries
    hard = steps - ceil(soft)
    criteria = judge_calls(ceil(soft), options.prompt_variant)  # requests about the criteria of one answer
    said = 100 if options.prompt_variant == "small" else 300
    calls = [PlannedCalls("constrain", "teacher", n * int(soft), n * tries * 3, prompt + 200, 50)]
    if options.consistency:
        calls.append(PlannedCalls("constrain", judge, 0, n * tries * judge_tries, prompt + 300, said))
    calls += [PlannedCalls("respond", options.answers, n * (hard + 1) if hard else 0,
                           n * (steps + 1) * options.answer_tries, prompt, 250),
              # criteria of both answers, and the comparison in both orders
              PlannedCalls("compare", judge, 0, n * steps * (2 * criteria + 2) * judge_tries, prompt + 750, said)]
    if options.winner == "verified" and options.rescue_tries:
        more = n * steps * options.rescue_tries
        # the criteria of each further answer, and the comparison in both orders if it meets them
        calls += [PlannedCalls("compare", options.answers, 0, more, prompt, 250),
                  PlannedCalls("compare", judge, 0, (more * criteria + 2 * n * steps) * judge_tries, prompt + 750,
                               said)]
    return [c for c in calls if c.high]
