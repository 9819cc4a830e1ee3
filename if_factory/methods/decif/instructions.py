"""From a scenario to an instruction that can be answered, with the criteria its answers will be judged by.

What code can check is drawn with its values, is in the instruction word for word, and is decided by code. What
only a judge can decide is drawn as an aspect ("a tone of voice") that the teacher turns into a requirement for the
task at hand, or is found by the teacher when it writes the criteria.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from if_factory.chat.base import Completion
from if_factory.chat.lists import parse_items
from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json
from if_factory.constraints.join import join
from if_factory.constraints.soft import Aspect, draw, pool
from if_factory.judge.judge import ask_until_read, judge_of, mark_for
from if_factory.judge.reply import read_one
from if_factory.judge.verdicts import criterion
from if_factory.methods.base import template
from if_factory.methods.decif.ideas import list_schema
from if_factory.methods.decif.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Constraint, Record
from if_factory.similarity.dedup import near_duplicates

# They need the finished request when they are drawn, or leave a scenario nothing to ask for.
UNFIT = ("combination:repeat_prompt", "detectable_format:constrained_response")
_TASK, _REQUIREMENT = {"type": "string", "maxLength": 900}, {"type": "string", "maxLength": 400}
_FEWEST_WORDS, _MOST_WORDS = 3, 150  # of a task; a longer one is usually an answer


# ---------------------------------------------------------------- writing


class _TaskAndRequirements(BaseModel):
    task: str
    requirements: dict[str, str] = Field(default_factory=dict)


async def write(record: Record, ctx: Context, *, options: Options) -> Record:
    """The task, in the words of the person in the scenario, and the constraints drawn for it."""
    rng = ctx.rng(record.id, "constraints")
    weights = options.constraint_weights
    wild = rng.random() < options.wild_share
    n = 0 if wild else rng.choices(range(1, len(weights) + 1), weights)[0]
    aspects = pool(options.soft_include, options.soft_exclude) if options.soft_share else []
    places = draw(record.extra["scenario"], rng, n=n, soft_share=options.soft_share, aspects=aspects,
                  include=options.include, exclude=[*options.exclude, *UNFIT])
    soft = [place for place in places if isinstance(place, Aspect)]
    checked = [place.text for place in places if isinstance(place, Constraint)]
    text = template(NAME, "instruction", options.prompts).render(aspects=soft, checked=checked, **record.extra)
    written = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": text}],
                               partial(read_written, soft=len(soft), asked=text),
                               schema=_written_schema(len(soft)), tries=options.tries)
    if isinstance(written, Failure):
        raise Dropped(f"instruction_{written.reason}", written.detail)
    texts = iter(written.requirements.values())
    constraints = [place.constraint(next(texts)) if isinstance(place, Aspect) else place for place in places]
    made = record.model_copy(update={"constraints": tuple(constraints)}).with_extra(wild=wild, task=written.task)
    return phrased(made, ctx)


def read_written(text: str, soft: int, asked: str = "") -> _TaskAndRequirements | Failure:
    """The task and exactly one requirement for each number from 1 to ``soft``, in that order.

    Reasons: those of ``parse_json``; ``no_task``, ``task_too_long``, ``missing_requirement``, and ``echo`` for a
    task that occurs in what was ``asked``.
    """
    found = parse_json(text, _TaskAndRequirements)
    if isinstance(found, Failure):
        return found
    task = found.task.strip()
    numbered = {str(i): found.requirements.get(str(i), "").strip() for i in range(1, soft + 1)}
    if len(re.findall(r"\w+", task)) < _FEWEST_WORDS:
        return Failure("no_task", task[:80])
    if len(task.split()) > _MOST_WORDS:
        return Failure("task_too_long", f"{len(task.split())} words")
    if echoes(task, asked):
        return Failure("echo", task[:80])
    if missing := [i for i, requirement in numbered.items() if not re.search(r"\w", requirement)]:
        return Failure("missing_requirement", f"number {missing[0]}")
    return _TaskAndRequirements(task=task, requirements=numbered)


def _written_schema(soft: int) -> dict[str, Any]:
    numbers = [str(i) for i in range(1, soft + 1)]
    properties: dict[str, Any] = {"task": _TASK}
    if soft:
        properties["requirements"] = {"type": "object", "additionalProperties": False, "required": numbers,
                                      "properties": dict.fromkeys(numbers, _REQUIREMENT)}
    return {"type": "object", "additionalProperties": False, "required": list(properties),
            "properties": properties}


def phrased(record: Record, ctx: Context) -> Record:
    """The record with its prompt made of its task and constraints, and as hard as it has constraints."""
    prompt = join(record.extra["task"], record.constraints, ctx.rng(record.id, "join"))
    return record.model_copy(update={"prompt": prompt, "difficulty": len(record.constraints)})


# ---------------------------------------------------------------- consistency


class _Hardest(BaseModel):
    """The two parts of a request that are hardest to do together, in its own words, and whether both can be done.

    Asked whether it *can* be done, a weak judge that says yes to everything lets a sound request pass.
    """

    first: str = ""
    second: str = ""
    possible: bool

    @property
    def reason(self) -> str:
        return f'"{self.first}" and "{self.second}" exclude each other.'


class _Refined(BaseModel):
    task: str
    drop: list[int] = Field(default_factory=list)


_HARDEST_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["first", "second", "possible"],
    "properties": {"first": {"type": "string"}, "second": {"type": "string"}, "possible": {"type": "boolean"}}}
_REFINED_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["task", "drop"],
    "properties": {"task": _TASK, "drop": {"type": "array", "items": {"type": "integer"}, "maxItems": 8}}}


async def make_consistent(record: Record, ctx: Context, *, options: Options) -> Record:
    """The record as it is, or revised at most ``refinements`` times; every revision is judged again."""
    reasons: list[str] = []
    while True:
        found = await _hardest(record, ctx, options)
        if isinstance(found, Failure):
            raise Dropped(f"consistency_{found.reason}", found.detail)
        if found.possible:
            return record.with_extra(refined_because=reasons)
        if len(reasons) == options.refinements:
            raise Dropped("contradictory", found.reason)
        reasons.append(found.reason)
        record = await _refined(record, found.reason, ctx, options)


async def _hardest(record: Record, ctx: Context, options: Options) -> _Hardest | Failure:
    """The judge's answer; the request is impossible only if both parts that exclude each other occur in it."""
    text = template(NAME, "consistency", options.prompts).render(prompt=record.prompt,
                                                                 mark=mark_for(record.prompt))

    def read(reply: Completion) -> _Hardest | Failure:
        found = read_one(reply, _Hardest, "possible")
        if isinstance(found, Failure) or found.possible:
            return found
        if echoes(found.first, found.second) or not all(
                re.search(r"\w", part) and echoes(part, record.prompt) for part in (found.first, found.second)):
            return Failure("parts_not_quoted", "first and second must be two parts of the request, word for word")
        return found

    found, _ = await ask_until_read(judge_of(ctx), text, read, tries=options.tries, prompts=options.prompts,
                                    temperature=0.0, schema=_HARDEST_SCHEMA)
    return found


async def _refined(record: Record, reason: str, ctx: Context, options: Options) -> Record:
    requirements = [c.text for c in record.constraints]
    text = template(NAME, "refine", options.prompts).render(task=record.extra["task"], requirements=requirements,
                                                            reason=reason)

    def read(reply: str) -> _Refined | Failure:
        found = parse_json(reply, _Refined)
        if isinstance(found, Failure):
            return found
        # The requirements are put after the task by us; a small model copies them into it.
        return Failure("repeats_a_requirement") if any(echoes(r, found.task) for r in requirements) else found

    revised = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": text}], read,
                              schema=_REFINED_SCHEMA, tries=options.tries)
    if isinstance(revised, Failure):
        raise Dropped(f"refinement_{revised.reason}", revised.detail)
    left = tuple(c for i, c in enumerate(record.constraints, 1) if i not in revised.drop)
    if not revised.task.strip() or (record.constraints and not left):
        raise Dropped("refined_to_nothing")
    before = record.extra.get("task_before_refinement", record.extra["task"])
    refined = record.model_copy(update={"constraints": left}).with_extra(task=revised.task.strip(),
                                                                         task_before_refinement=before)
    return phrased(refined, ctx)


# ---------------------------------------------------------------- criteria


async def add_criteria(record: Record, ctx: Context, *, options: Options) -> Record:
    """The record with one more constraint for each thing the request demands beside those it has."""
    text = template(NAME, "criteria", options.prompts).render(
        prompt=record.prompt, others=[c.text for c in record.constraints], count=options.max_criteria)

    def read(reply: str) -> list[str] | Failure:
        # "Does the answer ...?" is the prompt's own form, however a small model fills in the rest of it.
        new = [item for item in parse_items(reply) if not re.search(r"\.\.\.|…", item) and not echoes(item, text)]
        found = questions(new, options.duplicates)[:options.max_criteria]
        return found or Failure("no_question", reply[:80])

    found = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": text}], read,
                             schema=list_schema(1, options.max_criteria, 200), tries=options.tries)
    if isinstance(found, Failure):
        raise Dropped(f"criteria_{found.reason}", found.detail)
    return record.model_copy(update={"constraints": (*record.constraints, *map(criterion, found))})


def questions(lines: list[str], duplicates: float = 1.0) -> list[str]:
    """The lines that are questions, each once: "Here are the criteria:" is none."""
    asked = [line.strip() for line in lines if line.strip().endswith("?")]
    return [q for q, repeated in zip(asked, near_duplicates(asked, threshold=duplicates), strict=True)
            if repeated is None]
