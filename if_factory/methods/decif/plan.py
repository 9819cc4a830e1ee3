"""The number of calls that a run of DecIF makes."""

from __future__ import annotations

from random import Random

from if_factory.constraints.compose import compose
from if_factory.constraints.soft import pool
from if_factory.judge.judge import judge_role
from if_factory.methods.base import PlannedCalls
from if_factory.methods.decif.options import Options
from if_factory.records import Record


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    """``low``: nothing is dropped, every reply can be parsed at the first try, and code decides all responses."""
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
