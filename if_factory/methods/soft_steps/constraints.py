"""Step-by-Step Mastery's chain of constraints: drawing them, and having the teacher write the soft ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

from pydantic import BaseModel

from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json, repeats_wording
from if_factory.constraints.join import join, sentence
from if_factory.constraints.soft import Aspect, draw, draw_aspects, pool
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import judge_of
from if_factory.methods.base import template
from if_factory.methods.soft_steps.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import (
    Constraint,
    Record,
)


async def constrain(record: Record, ctx: Context, *, options: Options) -> Record:
    """The chain c_1..c_K: places drawn together, soft texts written in order with everything chosen in view."""
    if record.constraints:
        raise Dropped("seed_has_constraints", "steps are added to plain prompts")
    rng = ctx.rng(record.id, "constrain")
    places = draw(record.seed_prompt, rng, n=options.steps, soft_share=options.soft_share,
                  aspects=pool(options.soft_include, options.soft_exclude, options.taxonomy),
                  include=options.include, exclude=options.exclude)
    chain: list[Constraint] = []
    missing: list[str] = []
    for i, place in enumerate(places):
        if isinstance(place, Constraint):
            chain.append(place)
            continue
        # hard constraints still to come are decided already: the text must go with them too
        fixed = [*chain, *(c for c in places[i + 1:] if isinstance(c, Constraint))]
        written = await _write_soft(record, place, fixed, [a for a in places if isinstance(a, Aspect)], ctx,
                                    options)
        if isinstance(written, Failure):
            missing.append(written.reason)
        else:
            chain.append(written)
    if not chain:
        raise Dropped(missing[0] if missing else "no_constraint_fits")
    made = record.child(step_prompts(record.seed_prompt, chain)[-1], chain, difficulty=len(chain))
    return made.with_extra(missing=missing)


def step_prompts(seed_prompt: str, constraints: Sequence[Constraint]) -> list[str]:
    """I_1..I_K; each is the one before it and one more sentence."""
    prompt = join(seed_prompt, constraints[:1], Random(0))
    # A request to be repeated must be distinguishable from what is added to it.
    if any("prompt_to_repeat" in c.kwargs for c in constraints):
        prompt = f"{seed_prompt.strip()}\n\n{sentence(constraints[0].text)}"
    prompts = [prompt]
    for constraint in constraints[1:]:
        text = sentence(constraint.text)
        prompts.append(prompts[-1] + ("\n\n" if "\n" in text else " ") + text)
    return prompts


class _SoftConstraint(BaseModel):
    fits: bool = True
    constraint: str = ""


_WRITTEN_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["fits", "constraint"],
    "properties": {"fits": {"type": "boolean"}, "constraint": {"type": "string"}}}
_MOST_WORDS = 60
# What a small model writes about the question in place of a demand on the answer.
_NO_DEMAND = re.compile(r"^\W*(?:\.\.\.|…|(?:i'm|i am) (?:not sure|sorry|unable)\b|"
                        r"(?:the|this|my) (?:new |next |only )*(?:requirement|constraint)s? (?:is|are|for|should)\b)")
_CONSISTENT = [f"The response is a proposal for one more requirement. {it}" for it in (
    "It can be met in full together with everything that the request already asks for.",
    "It asks for something that the request does not already ask for.",
    "Whether an answer meets it can be checked from the answer alone.")]


async def _write_soft(record: Record, aspect: Aspect, fixed: list[Constraint], drawn: list[Aspect], ctx: Context,
                      options: Options) -> Constraint | Failure:
    """The aspect's constraint, or another aspect's where it does not fit the task or contradicts something."""
    rng = ctx.rng(record.id, "aspects", aspect.type)
    others = draw_aspects(rng, options.soft_tries - 1,
                          pool(options.soft_include, options.soft_exclude, options.taxonomy), drawn, fixed)
    failure = Failure("soft_constraint_unwritten")
    for each in (aspect, *others):
        ask = template(NAME, "write", options.prompts).render(
            prompt=record.seed_prompt, family=each.family, demand=each.write, chosen=[c.text for c in fixed])
        written = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                                   partial(_read_written, fixed=fixed, asked=ask,
                                           given=[record.seed_prompt, each.write, *(c.text for c in fixed)]),
                                   schema=_WRITTEN_SCHEMA)
        if isinstance(written, Failure):
            failure = Failure(f"soft_constraint_{written.reason}")
        elif not written:
            failure = Failure("soft_constraint_does_not_fit")
        elif why := await _inconsistent(record, written, fixed, ctx, options):
            failure = Failure(why)
        else:
            return each.constraint(written)
    return failure


def _read_written(text: str, fixed: Sequence[Constraint], asked: str = "", given: Sequence[str] = ()
                  ) -> str | Failure:
    """The constraint as one line; empty where the teacher says that the aspect does not suit the task.

    Reasons: those of ``parse_json``; ``empty``, ``no_demand``, ``too_long``, ``repeated``, and ``echo`` for a line that
    occurs in what was ``asked`` (a sentence of the task demands nothing new) or that repeats its wording, but for what
    was ``given`` in it.
    """
    found = parse_json(text, _SoftConstraint)
    if isinstance(found, Failure):
        return found
    line = " ".join(found.constraint.split())
    if not found.fits:
        return ""
    if not any(map(str.isalpha, line)):  # "..." is the prompt's own
        return Failure("empty")
    if _NO_DEMAND.search(line.lower()):
        return Failure("no_demand")
    if len(line.split()) > _MOST_WORDS:
        return Failure("too_long")
    if line.lower() in {c.text.lower() for c in fixed}:
        return Failure("repeated")
    return Failure("echo") if echoes(line, asked) or repeats_wording(line, asked, given) else line


async def _inconsistent(record: Record, text: str, fixed: Sequence[Constraint], ctx: Context,
                        options: Options) -> str | None:
    if not options.consistency:
        return None
    request = "\n".join((record.seed_prompt, *(f"- {c.text}" for c in fixed)))
    ask = judge_of(ctx)
    verdicts = await judge_criteria(ask, request, text, _CONSISTENT, tries=options.judge_tries,
                                    prompts=options.prompts, variant=options.prompt_variant)
    if isinstance(verdicts, Failure):
        return "soft_constraint_unjudged"
    return None if all(v.passed for v in verdicts) else "soft_constraint_inconsistent"
