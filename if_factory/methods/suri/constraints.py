"""A text's constraints, each with the corrupted form that the text violates: inferred by a teacher, or by code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, TypeAdapter

from if_factory.chat.lists import parse_instructions, parse_pairs
from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json
from if_factory.chat.schemas import schema_of
from if_factory.constraints import text as measure
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import judge_of
from if_factory.methods.base import template
from if_factory.methods.suri.measuring import draw_corruptible, label_of, topic
from if_factory.methods.suri.negation import why_no_violation
from if_factory.methods.suri.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Constraint, Outcome, Record, Verdict

CONSTRAINT = "suri:constraint"  # the type of a back-translated constraint; a judge decides it
_QUOTED = 8  # this many consecutive words shared with the text make a constraint a quotation


class Pair(BaseModel):
    """A constraint with its corrupted form, and what was found out about the text under each."""

    constraint: Constraint
    corrupted: Constraint
    label: dict[str, str]
    holds: Verdict = Verdict(outcome=Outcome.NO_VERDICT, reason="not asked")
    broken: Verdict = Verdict(outcome=Outcome.NO_VERDICT, reason="not asked")


_PAIRS = TypeAdapter(list[Pair])


def pairs_of(record: Record) -> list[Pair]:
    return _PAIRS.validate_python(record.extra.get("pairs", ()))


def with_pairs(record: Record, pairs: Sequence[Pair]) -> Record:
    return record.with_extra(pairs=_PAIRS.dump_python(list(pairs), mode="json"))


def with_dropped(record: Record, dropped: Counter[str]) -> Record:
    """The record with these constraints added to its counts of dropped ones."""
    if not dropped:
        return record
    counts = Counter(record.extra.get("dropped", {})) + dropped
    return record.with_extra(dropped=dict(sorted(counts.items())))


# ---------------------------------------------------------------- by a teacher


def has_teacher(options: Options, there: bool) -> bool:
    if not there and options.source in ("teacher", "both"):
        raise UserError(f"source: {options.source} needs a teacher", where="options.source",
                        fix="add models.teacher, or set source: composer, which asks no model")
    return there


async def backtranslate(record: Record, ctx: Context, *, options: Options) -> Record:
    """A main instruction (unless it is known) and constraints that the text follows, as its own teacher says."""
    if not has_teacher(options, ctx.has("teacher")):
        return record
    text = record.candidates[0].text
    ask = template(NAME, "backtranslate", options.prompts).render(text=text, main=record.prompt,
                                                                  count=options.constraints)
    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                             partial(parse_instructions, main=record.prompt), tries=options.tries,
                             schema=_instructions_schema(not record.prompt, options.constraints))
    if isinstance(found, Failure):
        raise Dropped(found.reason, found.detail)
    own = [c for c in found.constraints if not _quotes(c, text)]
    dropped = Counter({"quotes_the_text": len(found.constraints) - len(own)})
    return with_dropped(record, dropped).with_extra(main_instruction=found.main_instruction,
                                                    asked=own[:options.constraints])


@cache
def _instructions_schema(main: bool, most: int) -> dict[str, Any]:
    """Both parts required, and an end to the list: a small model held to a schema leaves out what it may."""
    parts: dict[str, Any] = {"main_instruction": {"type": "string"}} if main else {}
    parts["constraints"] = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": most}
    return {"type": "object", "additionalProperties": False, "required": list(parts), "properties": parts}


@lru_cache(maxsize=1)  # the constraints of one text come together
def _passage(text: str) -> str:
    """The text's words, in small letters between single spaces."""
    return f" {' '.join(measure.words(text)).lower()} "


def _quotes(constraint: str, text: str) -> bool:
    """Whether the constraint quotes the text: ``_QUOTED`` consecutive words of it."""
    words = [w.lower() for w in measure.words(constraint)]
    return any(f" {' '.join(words[i:i + _QUOTED])} " in _passage(text) for i in range(len(words) - _QUOTED + 1))


class _Rewrite(BaseModel):
    number: int
    modified: str


class _Rewrites(BaseModel):  # what is asked for; what is read is up to parse_pairs
    rewrites: list[_Rewrite]


async def corrupt(record: Record, ctx: Context, *, options: Options) -> Record:
    """Every constraint with a rewrite; copies and mere negations are asked for again, and dropped in the end."""
    if not ctx.has("teacher"):
        return record
    pending: list[str] = record.extra["asked"]
    rewritten: dict[str, str] = {}
    why: dict[str, str] = {}
    for round_ in range(options.tries):
        ask = template(NAME, "corrupt", options.prompts).render(main=record.extra["main_instruction"],
                                                                constraints=pending)
        found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                                 partial(parse_pairs, originals=pending), tries=options.tries, sample=round_,
                                 schema=schema_of(_Rewrites))
        if isinstance(found, Failure):
            if not rewritten:
                raise Dropped(found.reason, found.detail)
            break
        why = {c: reason for c, new in zip(pending, found, strict=True)
               if (reason := why_no_violation(c, new) or ("echo" if echoes(new, ask) else None))}
        rewritten |= {c: new for c, new in zip(pending, found, strict=True) if c not in why}
        pending = list(why)
        if not pending:
            break
    pairs = [Pair(constraint=_judged(c), corrupted=_judged(rewritten[c]), label={})
             for c in record.extra["asked"] if c in rewritten]
    return with_pairs(with_dropped(record, Counter(why.values())), pairs)


def _judged(text: str) -> Constraint:
    return Constraint(type=CONSTRAINT, text=text, kind="judge")


_LOWER = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)


class _Label(BaseModel):
    number: int
    type: Annotated[Literal["stylistic", "semantic", "mixed"], _LOWER]
    scope: Annotated[Literal["broad", "specific"], _LOWER]


class _Labels(BaseModel):
    labels: list[_Label]


async def label(record: Record, ctx: Context, *, options: Options) -> Record:
    """What each constraint is about; it is kept without a label if the teacher's answer cannot be read."""
    pairs = pairs_of(record)
    if not (ctx.has("teacher") and pairs):
        return record
    ask = template(NAME, "label", options.prompts).render(constraints=[p.constraint.text for p in pairs])
    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                             partial(parse_json, model=_Labels), tries=options.tries,
                             schema=schema_of(_Labels))
    by_number = {} if isinstance(found, Failure) else {e.number: e for e in found.labels}
    return with_pairs(record, [p.model_copy(update={"label": by_number[i].model_dump(exclude={"number"})})
                               if i in by_number else p for i, p in enumerate(pairs, 1)])


async def judge(record: Record, ctx: Context, *, options: Options) -> Record:
    """Keeps the constraints that the text follows and whose corrupted forms it does not follow.

    Originals and corrupted forms are judged in two requests: side by side, each would give the other away.
    """
    pairs = pairs_of(record)
    if not pairs:
        return record
    ask = judge_of(ctx)
    main, text = record.extra["main_instruction"], record.candidates[0].text
    judge_all = partial(judge_criteria, ask, main, text, tries=options.tries, prompts=options.prompts,
                        variant=options.prompt_variant)
    holds = await judge_all([p.constraint.text for p in pairs])
    if isinstance(holds, Failure):
        raise Dropped(f"judge_{holds.reason}", holds.detail)
    kept = [p.model_copy(update={"holds": v}) for p, v in zip(pairs, holds, strict=True) if v.passed]
    dropped = Counter({"the_text_does_not_follow_it": len(pairs) - len(kept)})
    if kept:
        broken = await judge_all([p.corrupted.text for p in kept])
        if isinstance(broken, Failure):
            raise Dropped(f"judge_{broken.reason}", broken.detail)
        kept = [p.model_copy(update={"broken": v}) for p, v in zip(kept, broken, strict=True)]
    dropped["the_text_follows_the_corrupted_form"] = sum(not p.broken.failed for p in kept)
    return with_pairs(with_dropped(record, dropped), [p for p in kept if p.broken.failed])


# ---------------------------------------------------------------- by code


async def composed(record: Record, ctx: Context, *, options: Options) -> Record:
    """Constraints that the text passes, corrupted so that it fails; a main instruction if there is none yet."""
    if options.source == "auto" and ctx.has("teacher"):
        return record
    text = record.candidates[0].text
    drawn = draw_corruptible(text, ctx.rng(record.id, "compose"), options.constraints, include=options.include,
                             exclude=options.exclude)
    pairs = [Pair(constraint=d.constraint, corrupted=d.corrupted, label=label_of(d.constraint),
                  holds=verify(text, [d.constraint])[0], broken=verify(text, [d.corrupted])[0]) for d in drawn]
    main = record.extra.get("main_instruction") or record.prompt or topic(record.extra.get("title", ""), text)
    return with_pairs(record.with_extra(main_instruction=main), [*pairs_of(record), *pairs])
