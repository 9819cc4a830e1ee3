"""Conifer (Sun et al., 2024, "Conifer: Improving Complex Constrained Instruction-Following Ability of Large
Language Models").

A query is reframed into instructions that stand alone; constraints are found for each in two levels (category,
item) and recombined into five versions, each asking for more. The answers become three progressive forms:
*easy to hard* conversations that walk up the levels, *internal* process feedback (an answer that explains how it
met each format and number constraint) and *external* process feedback (a weak first attempt, what is wrong with
it, the good answer).

What is drawn for a level is drawn here, with the run's seed, and the teacher only words it: so the items of every
level are known, and a judge is asked about each of them. Format and number constraints come from our own list,
each with its checker. Upstream checks no answer at all, and its external form trains the model on its own bad
attempt; here the attempt stands in the prompt (``external: folded``), or in a dataset of its own that must be
trained with ``mask_history`` (``external: masked``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from if_factory.constraints.compose import compose
from if_factory.constraints.contradictions import conflict
from if_factory.constraints.join import join
from if_factory.llm.parse import Failure, ask_parsed, parse_json, parse_tagged
from if_factory.methods.base import PATH, Emission, Method, PlannedCalls, template
from if_factory.pipeline.stage import Context, Reject, Stage
from if_factory.quality.judge import Ask
from if_factory.quality.verdicts import criterion, decide
from if_factory.records import (
    Candidate,
    Constraint,
    Record,
    Refusal,
    Turn,
    emit_kto,
    emit_preference,
    emit_sft,
)

NAME = "conifer"
M = TypeVar("M", bound=BaseModel)
# What the paper calls format and number constraints: 33 literal sentences there, types with a checker here.
FORMAT_AND_NUMBER = (
    "detectable_format", "length", "length_constraints", "list", "markdown", "paragraph", "sentence", "table",
    "punctuation", "change_case", "start", "end", "startend", "keywords", "digits", "emoji")

ITEM = 200  # characters
EXPLAIN = ("After the answer write a line with three hyphens (---) and below it a numbered list that explains, "
           "one point each, how you met the requirements of form above; they apply to what is above the line.")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reframed: Annotated[int, Field(ge=1)] = Field(3, description="standalone instructions asked for per query")
    categories: Annotated[int, Field(ge=2)] = Field(6, description="constraint categories asked for")
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        [1, 2, 3, 4, 5], min_length=1, description="levels used; versions are made up to the highest of them")
    order: Literal["easy_to_hard", "hard_to_easy", "random", "single_turn"] = Field(
        "easy_to_hard", description="how the levels follow each other in a conversation")
    feedback: Literal["both", "internal", "external", "none"] = Field(
        "both", description="process feedback; external needs a student, whose attempts are criticised")
    format_and_number: bool = Field(True, description="also make versions with format and number constraints")
    format_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="share of the versions that are also made with format and number constraints")
    format_types: list[str] = Field(list(FORMAT_AND_NUMBER), description="types or families they are drawn from")
    answers: Annotated[int, Field(ge=1)] = Field(2, description="answers asked for until one is verified")
    baselines: Annotated[int, Field(ge=0)] = Field(1, description="the student's attempts at the top level")
    external: Literal["folded", "masked"] = Field(
        "folded", description="the weak attempt stands in the prompt, or in a history to be masked")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")


# The ablations are the rows of the paper's table 4.
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "paper": {"answers": 1},
    "code": {"answers": 1, "format_share": 0.03, "external": "masked"},
    "random_shuffle": {"order": "random"},
    "hard_to_easy": {"order": "hard_to_easy"},
    "easy_only": {"levels": [1, 2, 3]},
    "hard_only": {"levels": [4, 5]},
    "single_turn": {"order": "single_turn"},
    "without_feedback": {"feedback": "none"},
    "internal_only": {"feedback": "internal"},
    "external_only": {"feedback": "external"},
    "without_format_and_number": {"format_and_number": False},
}


# ---------------------------------------------------------------- stages


def stages(options: Options) -> list[Stage]:
    bound = partial(partial, options=options)
    return [Stage("reframe", bound(reframe)),
            Stage("stands_alone", bound(stands_alone)),
            Stage("constrain", bound(constrain)),
            Stage("recombine", bound(recombine)),
            Stage("feasible", bound(feasible)),
            Stage("answer", bound(answer)),
            Stage("attempt", bound(attempt)),
            Stage("converse", bound(converse), scope="all")]


class _Instructions(BaseModel):
    instructions: list[str]


async def reframe(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """As many instructions about the query's subject as were asked for, none of which needs its conversation."""
    ask = template(NAME, "reframe", options.prompts).render(query=record.prompt, count=options.reframed)
    found = await _teacher(ctx, ask, _Instructions)
    if isinstance(found, Failure):
        raise Reject(f"reframe_{found.reason}", found.detail)
    texts = list(dict.fromkeys(t.strip() for t in found.instructions if t.strip()))
    if not texts:
        raise Reject("refused")
    if len(texts) < options.reframed:
        raise Reject("too_few_reframed", f"{len(texts)} of {options.reframed}")
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
        raise Reject(f"constraints_{found.reason}", found.detail)
    categories = two_levels(found.categories[:options.categories])
    if not categories:
        raise Reject("refused")
    items, levels = sum(map(len, categories.values())), max(options.levels)
    if items < 2 * levels:
        raise Reject("too_few_items", f"{items} items for {levels} levels")
    return record.model_copy(update={"extra": {**record.extra, "categories": categories}})


def two_levels(categories: Sequence[Category]) -> dict[str, list[str]]:
    """Category to items, each item once, on one line and at most ``ITEM`` long: a longer one is no constraint."""
    out: dict[str, list[str]] = {}
    seen: set[str] = set()
    for category in categories:
        name = " ".join(category.name.split())
        for item in (" ".join(i.split()) for i in category.items):
            if name and item and max(len(name), len(item)) <= ITEM and item.casefold() not in seen:
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
        raise Reject(f"recombine_{found.reason}", found.detail)
    if len(found.versions) != len(levels) or not all(v.strip() for v in found.versions):
        raise Reject("wrong_number_of_versions", f"{len(found.versions)} of {len(levels)}")
    versions = [v.strip() for v in found.versions]
    asks = {" ".join(record.prompt.split()): 0}  # wording -> number of items it was written for
    for version, items in zip(versions, levels, strict=True):
        if asks.setdefault(" ".join(version.split()), len(items)) != len(items):
            raise Reject("version_repeats", "one wording for different constraints")
    children = []
    for level, (version, items) in enumerate(zip(versions, levels, strict=True), 1):
        if level not in options.levels:
            continue
        asked = [criterion(f"{category}: {item}") for category, item in items]
        extra = {"question": record.prompt, "level": level, "form": "conversation"}
        children.append(_child(record, version, asked, level, extra))
        if (_wants_internal(options) and rng.random() < options.format_share
                and (formatted := _with_format(record, version, asked, level, rng, options))):
            children.append(formatted)
    return list({child.id: child for child in children}.values())


def _wants_internal(options: Options) -> bool:
    return options.format_and_number and options.feedback in ("both", "internal")


def _child(record: Record, prompt: str, constraints: Sequence[Constraint], level: int,
           extra: dict[str, object]) -> Record:
    child = record.child(prompt, constraints, difficulty=level)
    return child.model_copy(update={"extra": {**record.extra, **extra}})


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
    extra = {"question": record.prompt, "level": level, "form": "internal", "version": joined}
    return _child(record, f"{joined}\n\n{EXPLAIN}", [*asked, *scoped, points], level, extra)


async def feasible(record: Record, ctx: Context, *, options: Options) -> Record:
    """Answerable and free of contradictions: ours among the checkable constraints, a judge for the whole."""
    inner = [Constraint(type=c.kwargs["type"], kwargs=c.kwargs["kwargs"]) for c in record.constraints
             if c.type == "scope:above_rule"]
    if why := conflict(inner):
        raise Reject("contradictory_constraints", why)
    await _require_answerable(record, ctx, options, "not_feasible", conflicts=True)
    return record


async def answer(record: Record, ctx: Context, *, options: Options) -> Record:
    """The teacher's answers, each with all its verdicts, until one passes them."""
    for i in range(options.answers):
        if record.extra["form"] == "internal":
            candidate = await _explained_answer(record, ctx, options, i)
        else:
            reply = await ctx.chat("teacher", record.messages(), sample=i)
            candidate = Candidate(text=reply.text.strip(), source="answer", model="teacher",
                                  finish_reason=reply.finish_reason)
        if candidate is None:
            continue
        record = record.with_candidates(await _checked(record, candidate, ctx))
        if _good(record):
            return record
    if not record.candidates:
        raise Reject("no_readable_answer")
    why = emit_sft(record, record.candidates[-1])
    raise Reject("no_verified_answer", why.reason if isinstance(why, Refusal) else "")


class _Explained(BaseModel):
    answer: str
    how: list[str]


async def _explained_answer(record: Record, ctx: Context, options: Options, sample: int) -> Candidate | None:
    requirements = [c.text for c in record.constraints if c.type == "scope:above_rule"]
    ask = template(NAME, "explain", options.prompts).render(instruction=record.extra["version"],
                                                           requirements=requirements)
    messages = record.model_copy(update={"prompt": ask}).messages()
    reply = await ctx.chat("teacher", messages, sample=sample, schema=_Explained.model_json_schema())
    found = parse_json(reply.text, _Explained)
    if isinstance(found, Failure) or len(found.how) != len(requirements) or not all(map(str.strip, found.how)):
        return None
    points = "\n".join(f"{i}. {' '.join(how.split())}" for i, how in enumerate(found.how, 1))
    return Candidate(text=f"{found.answer.strip()}\n\n---\n{points}", source="explained", model="teacher",
                     finish_reason=reply.finish_reason)


async def attempt(record: Record, ctx: Context, *, options: Options) -> Record:
    """The student's attempts at the hardest version, and what the teacher says about a failing one.

    ``extra["feedback"]`` is about the first failing attempt, ``extra["attempt"]`` its position among the
    candidates; it is empty if the teacher's words could not be read.
    """
    if not (is_hardest(record, options) and ctx.has("student")):
        return record
    for i in range(options.baselines):
        reply = await ctx.chat("student", record.messages(), sample=i)
        candidate = Candidate(text=reply.text.strip(), source="baseline", model="student",
                              finish_reason=reply.finish_reason)
        record = record.with_candidates(await _checked(record, candidate, ctx))
    failing = [i for i, c in enumerate(record.candidates) if c.source == "baseline" and _fails(c)]
    if not failing or options.feedback not in ("both", "external"):
        return record
    weak = record.candidates[failing[0]]
    missed = [{"text": record.constraints[i].text, "reason": weak.verdicts[i].reason}
              for i in weak.failed_positions]
    ask = template(NAME, "feedback", options.prompts).render(instruction=record.prompt, response=weak.text,
                                                            missed=missed)
    said = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                            partial(parse_tagged, tag="feedback"))
    unread = isinstance(said, Failure)
    found = {"feedback": "" if unread else said, "attempt": failing[0]}
    return record.model_copy(update={"extra": {**record.extra, **found}})


def is_hardest(record: Record, options: Options) -> bool:
    return bool(record.extra["form"] == "conversation" and record.extra["level"] == max(options.levels))


async def converse(records: list[Record], ctx: Context, *, options: Options
                   ) -> tuple[list[Record], list[tuple[Record, Reject]]]:
    """Levels of one question become one conversation: the last one gets the others as its history.

    The others stay records of their own, marked by ``extra["turn_of"]``.
    """
    if options.order == "single_turn":
        return records, []
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.extra["form"] == "conversation":
            groups[str(record.parent)].append(record)
    changed: dict[str, Record] = {}
    for parent, group in groups.items():
        *before, last = in_order(group, options.order, ctx.rng(parent, "order"))
        history = [turn for r in before for turn in
                   (Turn(role="user", content=r.prompt), Turn(role="assistant", content=_good(r)[0].text))]
        changed[last.id] = last.model_copy(update={"history": tuple(history),
                                                   "difficulty": max(r.difficulty for r in group)})
        for r in before:
            changed[r.id] = r.model_copy(update={"extra": {**r.extra, "turn_of": last.id}})
    return [changed.get(r.id, r) for r in records], []


def in_order(levels: list[Record], order: str, rng: Random) -> list[Record]:
    """The levels of one question in the order in which a conversation asks them."""
    climbing = sorted(levels, key=lambda r: r.difficulty)
    if order == "random":
        return rng.sample(climbing, len(climbing))
    return climbing[::-1] if order == "hard_to_easy" else climbing


def _good(record: Record) -> list[Candidate]:
    """The teacher's answers that may be trained on, by the rule of emission: they stand in histories too."""
    return [c for c in record.candidates
            if c.source in ("answer", "explained") and not isinstance(emit_sft(record, c), Refusal)]


def _fails(candidate: Candidate) -> bool:
    return bool(candidate.failed_positions) and candidate.finish_reason == "stop"


# ---------------------------------------------------------------- asking


async def _teacher(ctx: Context, ask: str, model: type[M]) -> M | Failure:
    return await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": ask}],
                            partial(parse_json, model=model), schema=model.model_json_schema())


def _judge(ctx: Context) -> Ask:
    return partial(ctx.chat, "judge" if ctx.has("judge") else "teacher")


async def _checked(record: Record, candidate: Candidate, ctx: Context) -> Candidate:
    verdicts = await decide(_judge(ctx), record.prompt, candidate.text, record.constraints)
    return candidate.model_copy(update={"verdicts": verdicts})


async def _require_answerable(record: Record, ctx: Context, options: Options, reason: str, *,
                              conflicts: bool) -> None:
    ask = template(NAME, "answerable", options.prompts).render(instruction=record.prompt, conflicts=conflicts)
    said = await ask_parsed(_judge(ctx), [{"role": "user", "content": ask}],
                            partial(parse_json, model=_Answerable), schema=_Answerable.model_json_schema(),
                            temperature=0.0)
    if isinstance(said, Failure):
        raise Reject(f"{reason}_unread", said.reason)
    if not said.answerable:
        raise Reject(reason, said.reason)


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """Conversations as ``sft``, process feedback as ``sft_internal`` and ``sft_external`` (or with ``_masked``);
    ``dpo`` and ``kto`` set what failed at the hardest version, the student's attempts and the teacher's answers,
    against the verified answer."""
    good = _good(record)
    if not good:
        out.refused["sft"]["no_verified_answer"] += 1
        return
    if record.extra["form"] == "internal":
        out.add(emit_sft(record, good[0]), "sft_internal")
        return
    if "turn_of" in record.extra:
        out.refused["sft"]["turn_of_a_conversation"] += 1
    else:
        out.add(emit_sft(record, good[0]), "sft")
    if not is_hardest(record, options):
        return
    alone = record.model_copy(update={"history": ()})
    failing = [c for c in record.candidates if _fails(c)]
    for weak in failing:
        out.add(emit_preference(alone, good[0], weak), "dpo")
    for candidate in [good[0], *failing] if failing else []:
        out.add(emit_kto(alone, candidate), "kto")
    if options.feedback in ("both", "external") and any(c.source == "baseline" for c in record.candidates):
        _emit_external(alone, good[0], options, out)


def _emit_external(record: Record, good: Candidate, options: Options, out: Emission) -> None:
    dataset = "sft_external" if options.external == "folded" else "sft_external_masked"
    feedback = record.extra.get("feedback")
    if feedback is None:
        out.refused[dataset]["attempt_is_good"] += 1
    elif not feedback:
        out.refused[dataset]["feedback_unread"] += 1
    else:
        weak = record.candidates[record.extra["attempt"]]
        if weak.text == good.text:
            out.refused[dataset]["revision_equals_attempt"] += 1
        else:
            out.add(emit_sft(_revision(record, weak, feedback, options), good), dataset)


def _revision(record: Record, weak: Candidate, feedback: str, options: Options) -> Record:
    """The record as the last turn of: instruction, weak attempt, what is wrong with it."""
    if options.external == "folded":
        prompt = template(NAME, "revise", options.prompts).render(instruction=record.prompt, response=weak.text,
                                                                 feedback=feedback)
        return record.model_copy(update={"prompt": prompt.strip()})
    turns = (Turn(role="user", content=record.prompt), Turn(role="assistant", content=weak.text))
    return record.model_copy(update={"history": turns, "prompt": f"{feedback}\n\nPlease give a revised version."})


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    judge = "judge" if "judge" in roles else "teacher"
    n = len(seeds)
    asked = n * options.reframed
    formatted = options.format_share if _wants_internal(options) else 0
    versions = round(asked * len(options.levels) * (1 + formatted))
    calls = [PlannedCalls("reframe", "teacher", n, 3 * n, 220, 120),
             PlannedCalls("stands_alone", judge, 0, 3 * asked, 160, 30),
             PlannedCalls("constrain", "teacher", 0, 3 * asked, 240, 300),
             PlannedCalls("recombine", "teacher", 0, 3 * asked, 500, 350),
             PlannedCalls("feasible", judge, 0, 3 * versions, 220, 30),
             PlannedCalls("answer", "teacher", 0, versions * options.answers, 120, 400),
             PlannedCalls("answer", judge, 0, 3 * versions * options.answers, 700, 150)]
    if "student" in roles:
        tries = asked * options.baselines
        calls += [PlannedCalls("attempt", "student", 0, tries, 120, 400),
                  PlannedCalls("attempt", judge, 0, 3 * tries, 700, 150),
                  PlannedCalls("attempt", "teacher", 0, 3 * asked, 600, 80)]
    return calls


METHOD = Method(
    name=NAME,
    summary="instructions in five levels of constraints; conversations up the levels, with process feedback",
    roles={"teacher": (True, "reframes, finds constraints, words the levels, answers"),
           "judge": (False, "decides what code cannot; without one the teacher does"),
           "student": (False, "the model you will train; its failing attempts are criticised and rejected")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan,
    difficulty="level of the version, 1 to 5; of a conversation its highest",
    bins=lambda options: [3],
    # Curricula mask the history of SFT rows; here every answer of a conversation was verified.
    training={"sft": {"mask_history": False}, "sft_external_masked": {"mask_history": True}})
