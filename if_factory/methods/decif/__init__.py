"""DecIF (arXiv 2505.13990): instructions from nothing, decomposed until every part can be judged by itself.

Domains, meta requests of a domain, scenarios of a request, an instruction for each scenario with drawn constraints
woven into it (or *wild*, without), a judgement whether its parts contradict each other and a refinement where they
do, responses, atomic criteria, one verdict per criterion, and a filter.

Upstream's chain writes no row: a field is renamed on the way, so criteria are made for an empty instruction; what
was never judged passes its filter; and a judge sampled at temperature 0.7 decides everything. Here one record
keeps its field names from its number to its rows; every constraint is found in the instruction before it counts,
and what code can check is decided by code; criteria and verdicts are matched by number, and what has no verdict
never passes.
"""

from __future__ import annotations

from functools import partial

from if_factory.methods.base import Method
from if_factory.methods.decif.answers import judge, respond
from if_factory.methods.decif.consistency import make_consistent
from if_factory.methods.decif.emit import emit
from if_factory.methods.decif.ideas import ask_for, deal, inputs
from if_factory.methods.decif.instructions import add_criteria, write
from if_factory.methods.decif.options import NAME, PRESETS, Options
from if_factory.methods.decif.plan import plan
from if_factory.methods.decif.training import TRAINING
from if_factory.pipeline.stage import Stage


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


METHOD = Method(
    name=NAME,
    summary="from nothing: domains, requests, scenarios, instructions; answers checked by code and by criteria",
    roles={"teacher": (True, "invents, writes, answers"),
           "judge": (False, "decides consistency and criteria; default: the teacher"),
           "student": (False, "adds responses of its own, with `student_responses`")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="number of drawn constraints on the prompt", needs={"student_responses": ("student", None)},
    training={"sft": {"warmup_ratio": 0.03}})
