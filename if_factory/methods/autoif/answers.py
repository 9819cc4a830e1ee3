"""AutoIF's second half: verified instructions on user queries, answers put to the vote, and what is emitted."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

from if_factory.constraints.join import join, sentence
from if_factory.errors import UserError
from if_factory.inputs.seeds import builtin, read_seeds
from if_factory.judge.judge import judge_of, judge_score
from if_factory.methods.autoif.options import NAME, Options
from if_factory.methods.autoif.votes import Voted, put_to_former_vote, put_to_vote
from if_factory.methods.base import template
from if_factory.pipeline.stage import Context
from if_factory.records import Candidate, Record


async def put_on_queries(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """One prompt per query, and one record of the bare instruction, whose answers are its test cases."""
    available = queries(options.queries, options.query_characters)
    rng = ctx.rng(record.id, "queries")
    constraints, children = record.constraints, []
    for query in rng.sample(available, min(options.queries_per_instruction, len(available))):
        child = query.child(join(query.prompt, constraints, rng), constraints, difficulty=len(constraints))
        child = child.model_copy(update={"parent": record.id, "extra": {**query.extra, **record.extra}})
        children.append(child.with_extra(without=("cases", "case_votes"), instructions=[c.text for c in constraints]))
    if options.dpo_instruction:
        bare = record.child(sentence(constraints[0].text), constraints[:1], difficulty=1)
        children.append(bare.with_extra(instructions=[constraints[0].text], bare=True))
    return children


@cache
def queries(source: str, characters: tuple[int, int]) -> list[Record]:
    """The user queries that are long and short enough, each once, with their system and earlier turns.

    Raises:
        UserError: a broken file, a query that brings constraints of its own, or none of that length.
    """
    low, high = characters
    found = read_seeds(builtin("seeds") if source == "builtin" else Path(source), method=NAME)
    for query in found:
        if query.constraints:
            raise UserError(f"this query brings constraints of its own: {query.prompt[:60]!r}", where=source,
                            fix="give rows that hold the bare query")
    fitting = list({q.id: q for q in found if low < len(q.prompt) < high}.values())
    if not fitting:
        raise UserError(f"no query is longer than {low} and shorter than {high} characters", where=source,
                        fix="give other queries, or another query_characters")
    return fitting


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """K answers, each run through every function; the difficulty is how many of them fail."""
    if record.extra.get("bare"):
        former = record.extra["case_votes"]  # the functions have just run over them, for cross-validation
        candidates = [Candidate(text=text, source="test_case", model="teacher") for text in former if text.strip()]
        return _checked(record, put_to_former_vote(record.constraints[0], candidates, former))
    asks = [(role, i) for role, n in samples(options, ctx.has("student")).items() for i in range(n)]
    answers = await asyncio.gather(*(ctx.chat(role, record.messages(), sample=i) for role, i in asks))
    sampled = [Candidate(text=a.text.strip(), source="generation", model=role, finish_reason=a.finish_reason)
               for (role, _), a in zip(asks, answers, strict=True)]
    candidates = list({c.text: c for c in reversed(sampled)}.values())[::-1]
    candidates = await ctx.useful(record, candidates)
    return _checked(record, await put_to_vote(record.constraints, candidates))


def samples(options: Options, student: bool) -> dict[str, int]:
    """Answers by role. Without a student the teacher is the model that will be trained (self-alignment)."""
    if not student:
        return {"teacher": options.student_samples + options.teacher_samples}
    return {"student": options.student_samples, "teacher": options.teacher_samples}


def _checked(record: Record, voted: list[Voted]) -> Record:
    """The answers with what each function said; the more of them fail, the harder the prompt."""
    decided = [v.candidate for v in voted if v.candidate.verified or v.candidate.failed_positions]
    failing = sum(not c.verified for c in decided) / len(decided) if decided else 0.0
    record = record.with_candidates(*(v.candidate for v in voted)).model_copy(
        update={"difficulty": len(record.constraints) + (0 if record.extra.get("bare") else round(failing, 3))})
    return record.with_extra(without=("cases", "case_votes"), votes=[v.votes for v in voted])


async def score(record: Record, ctx: Context, *, options: Options) -> Record:
    """How well the answers that pass serve the query; an unreadable score is none, and none is not enough."""
    if record.extra.get("bare"):
        return record
    small = options.prompt_variant == "small"
    rubric = template(NAME, "score_small" if small else "score", options.prompts).render(
        low=0, high=10, n=len(record.constraints))
    ask = judge_of(ctx)

    async def one(candidate: Candidate) -> float | None:
        if not (candidate.verified and candidate.useful) or candidate.finish_reason != "stop":
            return None
        judged = await judge_score(ask, record.prompt, candidate.text, low=0, high=10, rubric=rubric,
                                   samples=options.quality_samples, prompts=options.prompts,
                                   reasoned=not small)
        return judged.mean

    return record.with_extra(scores=await asyncio.gather(*map(one, record.candidates)))
