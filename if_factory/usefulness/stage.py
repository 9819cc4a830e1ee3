"""The stage that a run with a judge has more: the judge says which verified answers attempt their request.

It is the last one, but for a stage that joins answers of several records.
"""

from __future__ import annotations

import asyncio
from functools import partial

from if_factory.pipeline.stage import Context, Stage
from if_factory.records import Candidate, Record
from if_factory.usefulness.gate import Gate, asked_of
from if_factory.usefulness.judge import judged

NAME = "usefulness"


def judge_stage(gate: Gate) -> Stage:
    """For any method's stages; see ``judge_candidates``."""
    return Stage(NAME, partial(judge_candidates, gate=gate))


async def judge_candidates(record: Record, ctx: Context, *, gate: Gate) -> Record:
    """What the judge says of every candidate that passes all constraints and that rules and relevance let through.

    Of what fails a constraint nobody learns to answer, so it is not worth a judge's time.
    """
    candidates = await ctx.useful(record, record.candidates)
    if record.extra.get("bare"):
        return record.model_copy(update={"candidates": tuple(candidates)})  # no request that a judge could ask about
    asked = asked_of(record)

    async def decided(candidate: Candidate) -> Candidate:
        before = candidate.usefulness
        worth = candidate.verified and candidate.finish_reason == "stop" and candidate.text.strip()
        as_asked = candidate.source in HUMAN and not record.extra.get("main_instruction")
        if before is None or not before.answers or not worth or as_asked:
            return candidate
        found = await judged(partial(ctx.chat, "judge"), asked.full, candidate.text, before)
        return candidate.model_copy(update={"usefulness": found})

    return record.model_copy(update={"candidates": tuple(await asyncio.gather(*map(decided, candidates)))})


# What people wrote as the answer to a prompt of theirs. Suri writes the instruction afterwards (``main_instruction``),
# and whether the text does what it asks for is the judge's to say.
HUMAN = frozenset({"human"})
