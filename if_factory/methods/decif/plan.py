"""The number of calls that a run of DecIF makes."""

from __future__ import annotations

from random import Random

from if_factory.constraints.compose import compose
from if_factory.constraints.soft import pool
from if_factory.judge.criteria import judge_calls
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
    # A task of about 60 words, or 120 of a strong teacher, 15 for each constraint, 1.4 tokens a word.
    written = 90 if options.small else 170
    prompt = written + int(20 * constraints)
    rounds = n * options.refinements
    # Where a constraint is not found the teacher is asked once more, and the judge before and after.
    weaving = 0 if options.small or options.wild_share == 1 else 1
    criteria = options.max_criteria + int(options.soft_share * constraints)
    calls = judge_calls(options.max_criteria + (len(weights) if options.soft_share else 0), options.prompt_variant)
    said = 25 if options.small else 110  # tokens of a verdict
    judging = judge_role(roles)
    by_student = n * options.student_responses if "student" in roles else 0
    answers = n * options.responses + by_student
    return [c for c in (
        PlannedCalls("domains", "teacher", draws, draws * tries, 130, 5 * options.domains_per_draw),
        PlannedCalls("requests", "teacher", domains, domains * tries, 120,
                     8 * options.requests_per_domain),
        PlannedCalls("scenarios", "teacher", requests, requests * tries, 130,
                     45 * options.scenarios_per_request),
        PlannedCalls("instruction", "teacher", n, n * tries * (1 + weaving), 270 + prompt, prompt),
        PlannedCalls("instruction", judging, 0, n * tries * 2 * weaving, 250 + prompt, int(60 * constraints)),
        # About the parts of a contradiction the judge is asked a second time.
        PlannedCalls("consistency", judging, n, 2 * tries * (n + rounds * (1 + weaving)), 250 + prompt, 120),
        PlannedCalls("consistency", "teacher", 0, rounds * tries * (1 + weaving), 150 + prompt, prompt),
        # Once more where no reply has a criterion.
        PlannedCalls("criteria", "teacher", n, n * (tries + 1), 170 + 2 * prompt, 25 * options.max_criteria),
        PlannedCalls("respond", "teacher", n * options.responses, n * options.responses, prompt, 250),
        PlannedCalls("respond", "student", by_student, by_student, prompt, 250),
        PlannedCalls("judge", judging, 0, answers * tries * calls, 450 + prompt + 20 * criteria // calls,
                     said * criteria // calls),
    ) if c.high]
