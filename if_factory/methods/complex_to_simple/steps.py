"""From Complex to Simple's steps: constraints onto a seed, answers, corrections one constraint at a time."""

from __future__ import annotations

import asyncio
from functools import partial

from pydantic import BaseModel

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, ask_parsed, parse_json, parse_tagged
from if_factory.constraints.base import get
from if_factory.constraints.compose import compose
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.edits import edited
from if_factory.constraints.examples import example_turns
from if_factory.constraints.join import join
from if_factory.constraints.verify import verify
from if_factory.methods.base import template
from if_factory.methods.complex_to_simple.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Candidate, Constraint, Record


async def compose_prompts(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """Constraints drawn onto a seed; a seed that brings its own constraints (IFEval rows) is kept as it is."""
    if record.constraints:
        if why := conflict(record.constraints):
            raise Dropped("unsatisfiable_constraints", why)
        return [record]
    proposed: tuple[str, ...] = ()
    if options.keywords == "teacher" and ctx.has("teacher"):
        proposed = await _propose_keywords(record, ctx, options)
    children = []
    for i in range(options.prompts_per_seed):
        rng = ctx.rng(record.id, "compose", i)
        n = rng.randint(options.min_constraints, options.max_constraints)
        drawn = compose(record.seed_prompt, rng, n=n, include=options.include, exclude=options.exclude)
        if proposed:
            drawn = _with_keyword(drawn, rng.choice(proposed), record.id, ctx)
        children.append(record.child(join(record.seed_prompt, drawn, rng), drawn, difficulty=len(drawn)))
    if ctx.rng(record.id, "plain").random() < options.plain_share:
        children.append(record.child(record.seed_prompt, (), difficulty=0))
    return list({child.id: child for child in children}.values())


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """Answers of the student and of the teacher, each checked against every constraint."""
    samples = options.student_samples if record.constraints else min(1, options.student_samples)
    asks = [("vanilla", "student", i) for i in range(samples) if ctx.has("student")]
    asks += [("generation", "teacher", i) for i in range(options.teacher_samples) if ctx.has("teacher")]
    shown = _with_examples(record, options.worked_examples)
    answers = await asyncio.gather(*(
        ctx.chat(role, shown if role == "student" else record.messages(), sample=i) for _, role, i in asks))
    made = [_checked(record, answer, source, role)
            for (source, role, _), answer in zip(asks, answers, strict=True)]
    return record.with_candidates(*await ctx.useful(record, made))


def _with_examples(record: Record, per_type: int) -> list[dict[str, str]]:
    """The record's messages with worked examples before the prompt; they are not part of what is emitted."""
    *before, prompt = record.messages()
    examples = example_turns(record.constraints, per_type)
    return [*before, *({"role": t.role, "content": t.content} for t in examples), prompt]


async def correct(record: Record, ctx: Context, *, options: Options) -> Record:
    """Failing student answers, corrected by rules where rules can, else the best one by the teacher.

    The teacher revises for one violated constraint at a time. A revision is taken over only if it satisfies the
    constraint it was asked for and breaks none that held. Every text on the way stays in the record with its
    verdicts: they are the pairs' rejected sides.
    """
    drafts = [c for c in record.candidates if c.source == "vanilla"]
    if options.correct_by_code:
        record = record.with_candidates(*await ctx.useful(record, _edited(record, drafts)))
    good = any(c.verified and c.useful for c in record.candidates if c.source in ("vanilla", "edited"))
    if good or not (options.correct and ctx.has("teacher") and drafts):
        return record
    # What attempts nothing cannot be corrected one constraint at a time.
    current = min(drafts, key=lambda c: (not c.useful, len(c.failed_positions)))
    trail: list[Candidate] = []
    for round_ in range(options.correction_rounds):
        for position in current.failed_positions:
            if not current.verdicts[position].failed:  # an earlier revision of this round fixed it too
                continue
            for try_ in range(options.correction_tries):
                revised = await _revise(record, current, position, ctx, options, sample=round_ * 100 + try_)
                if revised is None:
                    continue
                if _improves(current, revised, position):
                    trail.append(revised)
                    current = revised
                    break
                trail.append(revised.model_copy(update={"source": "discarded_revision"}))
        if current.verified:
            break
    return record.with_candidates(*trail)


def _edited(record: Record, drafts: list[Candidate]) -> list[Candidate]:
    """The drafts that attempt the request and fail only what a rule mends, after these edits."""
    whole = [c for c in drafts if c.finish_reason == "stop" and c.useful and c.failed_positions]
    texts = [(draft, edited(draft.text, record.constraints)) for draft in whole]
    return [_checked(record, Completion(text=text), "edited", draft.model) for draft, text in texts if text]


def _improves(old: Candidate, new: Candidate, position: int) -> bool:
    kept = all(n.passed for o, n in zip(old.verdicts, new.verdicts, strict=True) if o.passed)
    return kept and new.verdicts[position].passed and new.finish_reason == "stop" and new.useful


async def _revise(record: Record, draft: Candidate, position: int, ctx: Context, options: Options,
                  sample: int) -> Candidate | None:
    held = [c.text for c, v in zip(record.constraints, draft.verdicts, strict=True) if v.passed]
    ask = template(NAME, "correct", options.prompts).render(
        prompt=record.prompt, response=draft.text, violated=record.constraints[position].text,
        reason=draft.verdicts[position].reason, held=held)
    answer = await ctx.chat("teacher", [{"role": "user", "content": ask}], sample=sample)
    text = parse_tagged(answer.text, "revised")
    if isinstance(text, Failure):
        return None
    made = _checked(record, Completion(text=text, finish_reason=answer.finish_reason), "discrimination", "teacher")
    return (await ctx.useful(record, [made]))[0]


def _checked(record: Record, answer: Completion, source: str, model: str) -> Candidate:
    text = answer.text.strip()
    return Candidate(text=text, source=source, model=model, finish_reason=answer.finish_reason,
                     verdicts=verify(text, record.constraints))


class _Keywords(BaseModel):
    keywords: list[str]


async def _propose_keywords(record: Record, ctx: Context, options: Options, count: int = 6) -> tuple[str, ...]:
    ask = template(NAME, "keywords", options.prompts).render(prompt=record.seed_prompt, count=count)
    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                             partial(parse_json, model=_Keywords))
    if isinstance(found, Failure):
        return ()
    return tuple(sorted({w.lower() for w in found.keywords if w.isalpha() and w.isascii()}))


def _with_keyword(drawn: list[Constraint], word: str, record_id: str, ctx: Context) -> list[Constraint]:
    """The drawn set with the teacher's word as its required keyword, unless that contradicts the rest."""
    kind = get("keywords:existence")
    kwargs = {"keywords": [word]}
    text = kind.describe(kwargs, ctx.rng(record_id, "keyword", word))
    swapped = [Constraint(type=c.type, kwargs=kwargs, text=text) if c.type == kind.type else c for c in drawn]
    return drawn if conflict(swapped) else swapped
