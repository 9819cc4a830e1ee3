"""DecIF (arXiv 2505.13990): instructions from nothing, decomposed until every part can be judged by itself.

Domains, meta requests of a domain, scenarios of a request, an instruction for each scenario with drawn
constraints (or *wild*, without), a judgement whether its parts contradict each other and a refinement where they
do, responses, atomic criteria, one verdict per criterion, and a filter.

Upstream's chain writes no row: a field is renamed on the way, so criteria are made for an empty instruction; what
was never judged passes its filter; and a judge sampled at temperature 0.7 decides everything. Here one record
goes from its number to its rows without a new name; constraints that code can check stand in the instruction word
for word and are decided by code; criteria are tied to verdicts by number, and what has no verdict never passes.
"""

from __future__ import annotations

from functools import partial
from random import Random

from if_factory.constraints.compose import compose
from if_factory.constraints.soft import pool
from if_factory.judge.judge import judge_role
from if_factory.methods.base import Method, PlannedCalls
from if_factory.methods.decif.answers import emit, judge, respond
from if_factory.methods.decif.ideas import ask_for, deal, inputs
from if_factory.methods.decif.instructions import add_criteria, make_consistent, write
from if_factory.methods.decif.options import NAME, PRESETS, Options
from if_factory.pipeline.stage import Stage
from if_factory.records import Record


def stages(options: Options) -> list[Stage]:
    levels = ["request", "scenario"] if not options.domain_draws else ["domain", "request", "scenario"]
    ideas = [stage for level in levels for stage in (
        Stage(f"{level}s", partial(ask_for, level=level, options=options)),
        Stage(f"deal_{level}s", partial(deal, level=level, options=options), "all"))]
    return [*ideas,
            Stage("instruction", partial(write, options=options)),
            Stage("consistency", partial(make_consistent, options=options)),
            Stage("criteria", partial(add_criteria, options=options)),
            Stage("respond", partial(respond, options=options)),
            Stage("judge", partial(judge, options=options))]


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    """Low: nothing is rejected and every reply can be read at the first try, and code decides all responses."""
    if options.soft_share:
        pool(options.soft_include, options.soft_exclude)  # unknown names show now
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)
    n, tries = len(seeds), options.tries
    draws = min(n, options.domain_draws)
    domains = min(n, draws * options.domains_per_draw or len({s.extra["domain"] for s in seeds}))
    requests = min(n, domains * options.requests_per_domain)
    weights = options.constraint_weights
    constraints = sum(i * w for i, w in enumerate(weights, 1)) / sum(weights) * (1 - options.wild_share)
    prompt = 90 + int(20 * constraints)  # a task of about 60 words, 15 for each constraint, 1.4 tokens a word
    criteria = options.max_criteria + int(options.soft_share * constraints)
    judging = judge_role(roles)
    by_student = n * options.student_responses if "student" in roles else 0
    answers = n * options.responses + by_student
    return [c for c in (
        PlannedCalls("domains", "teacher", draws, draws * tries, 130, 5 * options.domains_per_draw),
        PlannedCalls("requests", "teacher", domains, domains * tries, 120,
                     8 * options.requests_per_domain),
        PlannedCalls("scenarios", "teacher", requests, requests * tries, 130,
                     45 * options.scenarios_per_request),
        PlannedCalls("instruction", "teacher", n, n * tries, 270 + prompt, 90),
        PlannedCalls("consistency", judging, n, n * (1 + options.refinements) * tries, 150 + prompt, 40),
        PlannedCalls("consistency", "teacher", 0, n * options.refinements * tries, 150 + prompt, 90),
        PlannedCalls("criteria", "teacher", n, n * tries, 170 + 2 * prompt, 25 * options.max_criteria),
        PlannedCalls("respond", "teacher", n * options.responses, n * options.responses, prompt, 250),
        PlannedCalls("respond", "student", by_student, by_student, prompt, 250),
        PlannedCalls("judge", judging, 0, answers * tries, 450 + prompt + 20 * criteria, 25 * criteria),
    ) if c.high]


METHOD = Method(
    name=NAME,
    summary="from nothing: domains, requests, scenarios, instructions; answers checked by code and by criteria",
    roles={"teacher": (True, "invents, writes, answers"),
           "judge": (False, "decides consistency and criteria; default: the teacher"),
           "student": (False, "adds responses of its own, with `student_responses`")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="number of drawn constraints on the prompt",
    training={"sft": {"warmup_ratio": 0.03}})
