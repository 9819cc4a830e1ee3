"""From a query to its versions: reframed, constrained, recombined into levels, and filtered twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TypeVar

from pydantic import BaseModel

from if_factory.chat.parse import Failure, ask_parsed, parse_json
from if_factory.constraints.compose import compose
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.join import join
from if_factory.judge.judge import judge_of
from if_factory.judge.verdicts import criterion
from if_factory.methods.base import template
from if_factory.methods.conifer.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Constraint, Record

M = TypeVar("M", bound=BaseModel)
ITEM = 200  # characters
EXPLAIN = (
    "After the answer, write a line of three hyphens (---) and, below it, a numbered list that explains in one "
    "point each how you met the requirements of format above. They apply only to the text above the line.")


class _Instructions(BaseModel):
    instructions: list[str]


async def reframe(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """As many instructions about the query's subject as were asked for, none of which needs its conversation."""
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


class Category(BaseModel):
    name: str
    items: list[str]


class _Categories(BaseModel):
    categories: list[Category]


async def constrain(record: Record, ctx: Context, *, options: Options) -> Record:
    """The two-level list of what could be asked of an answer, kept as ``extra["categories"]``."""
    ask = template(NAME, "constraints", options.prompts).render(instruction=record.prompt,
                                                               categories=options.categories)
    found = await _teacher(ctx, ask, _Categories)
    if isinstance(found, Failure):
        raise Dropped(f"constraints_{found.reason}", found.detail)
    categories = two_levels(found.categories[:options.categories])
    if not categories:
        raise Dropped("refused")
    items, levels = sum(map(len, categories.values())), max(options.levels)
    if items < 2 * levels:
        raise Dropped("too_few_items", f"{items} items for {levels} levels")
    return record.with_extra(categories=categories)


def two_levels(categories: Sequence[Category]) -> dict[str, list[str]]:
    """Category to items, each item once, on one line and at most ``ITEM`` long: a longer one is no constraint,
    nor is one without a word, such as the prompt's own "..."."""
    out: dict[str, list[str]] = {}
    seen: set[str] = set()
    for category in categories:
        name = " ".join(category.name.split())
        for item in (" ".join(i.split()) for i in category.items):
            wordy = re.search(r"\w", name) and re.search(r"\w", item)
            if wordy and max(len(name), len(item)) <= ITEM and item.casefold() not in seen:
                seen.add(item.casefold())
                out.setdefault(name, []).append(item)
    return out


Items = list[tuple[str, str]]  # (category, item)


def draw_levels(categories: dict[str, list[str]], rng: Random, levels: int = 5) -> list[Items]:
    """The items of each level: two or three from one or two categories, and as many more at every further level.

    No item is drawn twice and every level holds all items of the level before it (paper, section 3.1). When
    the list is exhausted a level may repeat the one before.
    """
    left = {name: rng.sample(items, len(items)) for name, items in categories.items()}
    drawn: Items = []
    out: list[Items] = []
    for _ in range(levels):
        fresh = [name for name in left if left[name]]
        chosen = rng.sample(fresh, min(len(fresh), rng.randint(1, 2)))
        for i in range(rng.randint(2, 3)):
            name = chosen[i % len(chosen)] if chosen else ""
            if name and left[name]:
                drawn = [*drawn, (name, left[name].pop())]
        out.append(drawn)
    return out


def listed(categories: dict[str, list[str]]) -> str:
    """A line per category with its items, as the recombination prompt shows them."""
    return "".join(f"{name}: {items}\n" for name, items in categories.items())


class _Versions(BaseModel):
    versions: list[str]


async def recombine(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """One record per level, its items as constraints for the judge; some of them again with format and number.

    ``extra``: ``question`` (the instruction all levels share), ``level``, and ``form``: ``conversation`` or
    ``internal``.
    """
    rng = ctx.rng(record.id, "levels")
    levels = draw_levels(record.extra["categories"], rng, max(options.levels))
    ask = template(NAME, "recombine", options.prompts).render(
        instruction=record.prompt, constraints=listed(record.extra["categories"]), levels=levels)
    found = await _teacher(ctx, ask, _Versions)
    if isinstance(found, Failure):
        raise Dropped(f"recombine_{found.reason}", found.detail)
    if len(found.versions) != len(levels) or not all(v.strip() for v in found.versions):
        raise Dropped("wrong_number_of_versions", f"{len(found.versions)} of {len(levels)}")
    versions = [v.strip() for v in found.versions]
    asks = {" ".join(record.prompt.split()): 0}  # wording -> number of items it was written for
    for version, items in zip(versions, levels, strict=True):
        if asks.setdefault(" ".join(version.split()), len(items)) != len(items):
            raise Dropped("version_repeats", "one wording for different constraints")
    children = []
    for level, (version, items) in enumerate(zip(versions, levels, strict=True), 1):
        if level not in options.levels:
            continue
        asked = [criterion(f"{category}: {item}") for category, item in items]
        child = record.child(version, asked, difficulty=level)
        children.append(child.with_extra(question=record.prompt, level=level, form="conversation"))
        if (wants_internal(options) and rng.random() < options.format_share
                and (formatted := _with_format(record, version, asked, level, rng, options))):
            children.append(formatted)
    return list({child.id: child for child in children}.values())


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
    points = Constraint(type="scope:points_below_rule", kwargs={"points": len(drawn)}, text=EXPLAIN)
    joined = join(version, drawn, rng)
    child = record.child(f"{joined}\n\n{EXPLAIN}", [*asked, *scoped, points], difficulty=level)
    return child.with_extra(question=record.prompt, level=level, form="internal", version=joined)


async def feasible(record: Record, ctx: Context, *, options: Options) -> Record:
    """Answerable and free of contradictions: ours among the checkable constraints, a judge for the whole."""
    inner = [Constraint(type=c.kwargs["type"], kwargs=c.kwargs["kwargs"]) for c in record.constraints
             if c.type == "scope:above_rule"]
    if why := conflict(inner):
        raise Dropped("contradictory_constraints", why)
    await _require_answerable(record, ctx, options, "not_feasible", conflicts=True)
    return record


# ---------------------------------------------------------------- asking


async def _teacher(ctx: Context, ask: str, model: type[M]) -> M | Failure:
    return await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                            partial(parse_json, model=model), schema=model.model_json_schema())


async def _require_answerable(record: Record, ctx: Context, options: Options, reason: str, *,
                              conflicts: bool) -> None:
    ask = template(NAME, "answerable", options.prompts).render(instruction=record.prompt, conflicts=conflicts)
    judged = await ask_parsed(judge_of(ctx), [{"role": "user", "content": ask}],
                            partial(parse_json, model=_Answerable), schema=_Answerable.model_json_schema(),
                            temperature=0.0)
    if isinstance(judged, Failure):
        raise Dropped(f"{reason}_unread", judged.reason)
    if not judged.answerable:
        raise Dropped(reason, judged.reason)
