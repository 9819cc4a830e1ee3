"""From an instruction to rows: responses, and one verdict per constraint and criterion."""

from __future__ import annotations

import asyncio

from if_factory.constraints.verify import verify
from if_factory.judge.judge import judge_of
from if_factory.judge.verdicts import decide
from if_factory.methods.decif.options import Options
from if_factory.pipeline.stage import Context
from if_factory.records import (
    Candidate,
    Record,
)


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """Responses to the prompt as it will be trained on; which of them follow it is found out next."""
    asks = [("teacher", i) for i in range(options.responses)]
    asks += [("student", i) for i in range(options.student_responses) if ctx.has("student")]
    answers = await asyncio.gather(*(ctx.chat(role, record.messages(), sample=i) for role, i in asks))
    return record.with_candidates(*await ctx.useful(record, [
        Candidate(text=answer.text.strip(), source=role, model=role, finish_reason=answer.finish_reason)
        for (role, _), answer in zip(asks, answers, strict=True)]))


async def judge(record: Record, ctx: Context, *, options: Options) -> Record:
    """One verdict per constraint: code first; the judge only where nothing has failed yet."""
    ask = judge_of(ctx)

    async def verdicts(candidate: Candidate) -> Candidate:
        if candidate.text and candidate.finish_reason == "stop" and candidate.useful:
            found = await decide(ask, record.prompt, candidate.text, record.constraints, tries=options.tries,
                                 prompts=options.prompts, variant=options.prompt_variant)
        else:  # cut off, empty or no answer: never emitted as good, so not worth a judge's time
            found = verify(candidate.text, record.constraints)
        return candidate.model_copy(update={"verdicts": found})

    return record.model_copy(update={"candidates": tuple(
        await asyncio.gather(*map(verdicts, record.candidates)))})
