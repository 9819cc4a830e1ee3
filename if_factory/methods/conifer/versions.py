"""From a query to its versions: reframed, constrained, recombined into levels, and filtered twice."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TypeVar

from pydantic import BaseModel

from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json, repeats_wording
from if_factory.chat.schemas import schema_of
from if_factory.constraints.compose import compose
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.join import join
from if_factory.inputs.selection import fits_languages
from if_factory.judge.judge import judge_of
from if_factory.judge.verdicts import criterion
from if_factory.methods.base import template
from if_factory.methods.conifer.levels import Category, Items, Pool, combinable, two_levels
from if_factory.methods.conifer.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Constraint, Record

M = TypeVar("M", bound=BaseModel)
EXPLAIN = (  # several wordings, so that a model learns what is asked and not one sentence
    "After the answer, write a line of three hyphens (---) and, below it, a numbered list that explains in one "
    "point each how you met the requirements of format above. They apply only to the text above the line.",
    "Close with a line that holds only three hyphens (---). Under it, say for each of the format requirements above, "
    "in a numbered list with one point per requirement, how your answer satisfies it; the requirements concern the "
    "answer before that line and not the list.",
    "Then draw a line of three hyphens (---) and list below it, numbered, how each of the above requirements of format "
    "is fulfilled: exactly one point per requirement. What is below the line need not follow them.",
    "When the answer is complete, add a line of three hyphens (---) followed by one numbered point for every format "
    "requirement above, explaining how the answer complies. Only the text before the line has to comply.")


class _Instructions(BaseModel):
    instructions: list[str]


async def select(record: Record, ctx: Context, *, options: Options) -> Record:
    """Queries of the length and the language asked for, as the authors chose theirs from ShareGPT."""
    if why := unfit(record.prompt, options):
        raise why
    return record


def unfit(query: str, options: Options) -> Dropped | None:
    """Why a query is not taken."""
    words = len(query.split())
    if options.query_characters is not None and len(query) > options.query_characters:
        return Dropped("query_too_long", f"{len(query)} characters")
    if words < options.query_words:
        return Dropped("query_too_short", f"{words} words")
    return None if fits_languages(query, options.query_languages) else Dropped("query_language")


async def reframe(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """As many instructions about the query's subject as were asked for, none of which needs its conversation."""
    if not options.reframed:
        return [record]
    ask = template(NAME, "reframe", options.prompts).render(query=record.prompt, count=options.reframed)
    found = await _teacher(ctx, ask, _Instructions)
    if isinstance(found, Failure):
        raise Dropped(f"reframe_{found.reason}", found.detail)
    texts = list(dict.fromkeys(t.strip() for t in found.instructions if t.strip()))
    if not texts:
        raise Dropped("refused")
    if len(texts) < options.reframed:
        raise Dropped("too_few_reframed", f"{len(texts)} of {options.reframed}")
    alone = record.model_copy(update={"history": ()})
    return [alone.child(text, (), difficulty=0) for text in texts[:options.reframed]]


class _Answerable(BaseModel):
    answerable: bool
    reason: str = ""


async def stands_alone(record: Record, ctx: Context, *, options: Options) -> Record:
    await _require_answerable(record, ctx, options, "needs_context", conflicts=False)
    return record


class _Categories(BaseModel):
    categories: list[Category]


async def constrain(record: Record, ctx: Context, *, options: Options) -> Record:
    """The two-level list of what could be asked of an answer, kept as ``extra["categories"]``."""
    small = options.prompt_variant == "small"
    ask = template(NAME, "constraints_small" if small else "constraints", options.prompts).render(
        instruction=record.prompt, categories=options.categories)
    found = await _teacher(ctx, ask, _Categories)
    if isinstance(found, Failure):
        raise Dropped(f"constraints_{found.reason}", found.detail)
    # A small model gives the prompt's examples back.
    own = [c for c in found.categories if not all(echoes(text, ask) for text in (c.name, *c.items))]
    asked = own[:options.categories]
    categories, together = two_levels(asked), [] if small else combinable(asked)
    if not categories:
        raise Dropped("refused")
    offers, levels = Pool(categories, ctx.rng(record.id), together).offers(), max(options.levels)
    if offers < levels:
        raise Dropped("too_few_items", f"{offers} that do not exclude each other for {levels} levels")
    return record.with_extra(categories=categories, together=together)


class _Version(BaseModel):
    reason: str = ""
    compatible: bool
    version: str = ""


async def recombine(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """One record per level, its items as constraints for the judge, format and number constraints as those for
    code; some levels again for internal feedback.

    Every level is asked for by itself, as the version before it with two or three items more, and the teacher may
    refuse them: then others are drawn. Each refusal is a record too, which ``feasible`` drops with its reason.
    ``extra``: ``question`` (the instruction all levels share), ``level``, and ``form``: ``conversation`` or
    ``internal``.
    """
    rng = ctx.rng(record.id, "levels")
    pool = Pool(record.extra["categories"], rng, record.extra["together"])
    formats = _formats(record.prompt, rng, options)
    version, items, children = record.prompt, Items(), []
    wordings = {_plain(version)}
    top = max(options.levels)
    for level in range(1, top + 1):
        new: Items = []
        for _ in range(1 + options.redraws):
            if not (new := pool.draw(top - level)):
                break
            found = await _worded(record, ctx, options, version, items, new, wordings)
            if not isinstance(found, Failure):
                break
            children.append(_refused(record, [*items, *new], level, found))
        if not new:
            children.append(_refused(record, items, level, Failure("items_exhausted")))
            break
        if isinstance(found, Failure):
            continue
        pool.accept(new)
        version, items = found, [*items, *new]
        wordings.add(_plain(version))
        if level not in options.levels:
            continue
        asked = [criterion(f"{category}: {item}") for category, item in items]
        now = [constraint for at, constraint in formats if at <= level]
        child = record.child(join(version, now, rng), [*asked, *now], difficulty=level)
        children.append(child.with_extra(question=record.prompt, level=level, form="conversation"))
        if (wants_internal(options) and rng.random() < options.format_share
                and (formatted := _with_format(record, version, asked, level, rng, options))):
            children.append(formatted)
    return list({child.id: child for child in children}.values())


def _formats(prompt: str, rng: Random, options: Options) -> list[tuple[int, Constraint]]:
    """(level from which it is asked for, format or number constraint), free of conflicts all together."""
    levels = sorted({level for level in options.format_levels if level <= max(options.levels)})
    if not (options.format_and_number and levels):
        return []
    return list(zip(levels, compose(prompt, rng, n=len(levels), include=options.format_types), strict=False))


async def _worded(record: Record, ctx: Context, options: Options, version: str, items: Items, new: Items,
                  wordings: set[str]) -> str | Failure:
    """The version with the new items, or why there is none: ``items_clash`` where the teacher refuses them."""
    if options.prompt_variant == "small":
        return "\n- ".join((f"{record.prompt}\n\nKeep to this:", *(f"{category}: {item}" for category, item
                                                                 in (*items, *new))))
    ask = template(NAME, "recombine", options.prompts).render(instruction=record.prompt, version=version,
                                                             items=items, new=new)

    def read(text: str) -> _Version | Failure:
        found = parse_json(text, _Version)
        if isinstance(found, Failure) or not found.compatible:
            return found
        if not found.version.strip():
            return Failure("no_version")
        if _plain(found.version) in wordings or echoes(found.version, ask):
            return Failure("version_repeats")
        given = (record.prompt, version, *(text for item in (*items, *new) for text in item))
        return Failure("echo") if repeats_wording(found.version, ask, given) else found

    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}], read,
                             schema=schema_of(_Version))
    if isinstance(found, Failure):
        return Failure(f"recombine_{found.reason}", found.detail)
    return found.version.strip() if found.compatible else Failure("items_clash", found.reason)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _refused(record: Record, items: Items, level: int, why: Failure) -> Record:
    asked = [criterion(f"{category}: {item}") for category, item in items]
    child = record.child(record.prompt, asked, difficulty=level)
    return child.with_extra(question=record.prompt, level=level, form="conversation",
                            refused=[why.reason, why.detail])


def wants_internal(options: Options) -> bool:
    return options.format_and_number and options.feedback in ("both", "internal")


def _with_format(record: Record, version: str, asked: list[Constraint], level: int, rng: Random,
                 options: Options) -> Record | None:
    """The version with one or three format and number constraints, each to be explained below a rule; ``None``
    if none of the types fits it."""
    drawn = compose(version, rng, n=rng.choice((1, 3)), include=options.format_types)
    if not drawn:
        return None
    scoped = [Constraint(type="scope:above_rule", text=c.text,
                         kwargs={"type": c.type, "kwargs": c.kwargs, "text": c.text}) for c in drawn]
    explain = rng.choice(EXPLAIN)
    points = Constraint(type="scope:points_below_rule", kwargs={"points": len(drawn)}, text=explain)
    joined = join(version, drawn, rng)
    child = record.child(f"{joined}\n\n{explain}", [*asked, *scoped, points], difficulty=level)
    return child.with_extra(question=record.prompt, level=level, form="internal", version=joined)


async def feasible(record: Record, ctx: Context, *, options: Options) -> Record:
    """Answerable and free of contradictions: ours among the checkable constraints, a judge for the whole.

    What the teacher did not word is dropped here, with its reason.
    """
    if "refused" in record.extra:
        raise Dropped(*record.extra["refused"])
    inner = [Constraint(type=c.kwargs["type"], kwargs=c.kwargs["kwargs"]) for c in record.constraints
             if c.type == "scope:above_rule"]
    if why := conflict(inner):
        raise Dropped("contradictory_constraints", why)
    await _require_answerable(record, ctx, options, "not_feasible", conflicts=True)
    return record


# ---------------------------------------------------------------- asking


async def _teacher(ctx: Context, ask: str, model: type[M]) -> M | Failure:
    return await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                            partial(parse_json, model=model), schema=schema_of(model))


async def _require_answerable(record: Record, ctx: Context, options: Options, reason: str, *,
                              conflicts: bool) -> None:
    ask = template(NAME, "answerable", options.prompts).render(instruction=record.prompt, conflicts=conflicts)
    judged = await ask_parsed(judge_of(ctx), [{"role": "user", "content": ask}],
                            partial(parse_json, model=_Answerable), schema=schema_of(_Answerable),
                            temperature=0.0)
    if isinstance(judged, Failure):
        raise Dropped(f"{reason}_unread", judged.reason)
    if not judged.answerable:
        raise Dropped(reason, judged.reason)
