"""Whether an instruction contradicts itself, and its repair.

The judge names the demands that exclude each other, two or more, quoted or in its own words. A contradiction is
believed only if the request really makes all of these demands: weak judges give back the examples of the question.
Code finds what is quoted or nearly so; about the rest the judge is asked a second time, demand by demand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache, partial
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, ask_parsed, echoes, parse_json, repeats_wording
from if_factory.judge.judge import ask_until_read, judge_of, mark_for, shown
from if_factory.judge.reply import read_one
from if_factory.methods.decif.options import Options, prompt
from if_factory.methods.decif.weaving import demanded, phrased
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Record

_NEAR = 0.8  # share of a part's words that stand in the request in the same order


class Judged(BaseModel):
    """What the judge said: whether one answer can do everything, and else the demands that exclude each other.

    ``first`` and ``second`` are the form that small models are asked for.
    """

    analysis: str = ""
    parts: list[str] = Field(default_factory=list)
    first: str = ""
    second: str = ""
    possible: bool

    def named(self) -> list[str]:
        """The parts, but for empty ones and those that stand in another."""
        said = [p.strip() for p in dict.fromkeys((*self.parts, self.first, self.second)) if re.search(r"\w", p)]
        return [p for i, p in enumerate(said)
                if not any(echoes(p, other) and (not echoes(other, p) or j < i)
                           for j, other in enumerate(said) if j != i)]

    @property
    def reason(self) -> str:
        *others, last = (f'"{part}"' for part in self.named())
        return f"{', '.join(others)} and {last} exclude each other."


class _Refined(BaseModel):
    task: str = Field(validation_alias=AliasChoices("instruction", "task"))
    drop: list[int] = Field(default_factory=list)


@cache
def _schema(*, small: bool) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    said = ({"first": text, "second": text} if small else
            {"analysis": {"type": "string", "maxLength": 1500},
             "parts": {"type": "array", "items": {"type": "string", "maxLength": 400}, "maxItems": 8}})
    properties = {**said, "possible": {"type": "boolean"}}
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}


@cache
def _refined_schema(*, small: bool) -> dict[str, Any]:
    task = {"task": {"type": "string", "maxLength": 900}} if small else {"instruction": {"type": "string"}}
    properties = {**task, "drop": {"type": "array", "items": {"type": "integer"}, "maxItems": 8}}
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}


async def make_consistent(record: Record, ctx: Context, *, options: Options) -> Record:
    """The record as it is, or revised at most ``refinements`` times; every revision is judged again."""
    reasons: list[str] = []
    unfounded: list[str] = []
    while True:
        found = await _judged(record, ctx, options)
        if isinstance(found, Failure) and found.reason not in ("too_few_parts", "echo"):
            raise Dropped(f"consistency_{found.reason}", found.detail)
        # Nobody has seen a contradiction if it is named by nothing, or by demands that the request does not make.
        # Should there be one all the same, no answer will pass.
        if isinstance(found, Failure) or (not found.possible
                                          and not await _makes(record.prompt, found.named(), ctx, options)):
            unfounded.append(found.detail if isinstance(found, Failure) else found.reason)
        elif not found.possible:
            if len(reasons) == options.refinements:
                raise Dropped("contradictory", found.reason)
            reasons.append(found.reason)
            record = await _refined(record, found, ctx, options)
            continue
        return record.with_extra(refined_because=reasons, unfounded=unfounded)


async def _judged(record: Record, ctx: Context, options: Options) -> Judged | Failure:
    text = prompt("consistency", options).render(prompt=shown(record.prompt), mark=mark_for(record.prompt))

    def read(reply: Completion) -> Judged | Failure:
        found = read_one(reply, Judged, "possible")
        if isinstance(found, Failure) or found.possible:
            return found
        if any(repeats_wording(part, text, [record.prompt]) for part in found.named()):
            return Failure("echo", "name demands of the request, and nothing of this question")
        if len(found.named()) > 1:
            return found
        return Failure("too_few_parts", "a request is impossible only if two or more different demands of it exclude "
                                        "each other; name them")

    found, _ = await ask_until_read(judge_of(ctx), text, read, tries=options.tries, prompts=options.prompts,
                                    temperature=0.0, schema=_schema(small=options.small))
    return found


async def _makes(request: str, parts: Sequence[str], ctx: Context, options: Options) -> bool:
    """Whether the request makes all the demands: by its words, or as the judge says when asked about each."""
    rest = [part for part in parts if not nearly_in(part, request)]
    return all(await demanded(request, rest, ctx, options))


def nearly_in(part: str, request: str) -> bool:
    """Whether the part is quoted from the request, give or take a few words; every number in it must be there."""
    if echoes(part, request):
        return True
    words, given = (re.findall(r"\w+", text.casefold()) for text in (part, request))
    if not words or not {w for w in words if w.isdecimal()} <= set(given):
        return False
    blocks = SequenceMatcher(None, words, given, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= _NEAR * len(words)


async def _refined(record: Record, judged: Judged, ctx: Context, options: Options) -> Record:
    requirements = [c.text for c in record.constraints]
    reason = f"{judged.reason}\n{judged.analysis}".strip()
    text = prompt("refine", options).render(task=record.extra["task"], instruction=record.prompt,
                                            requirements=requirements, reason=reason)

    def read(reply: str) -> _Refined | Failure:
        found = parse_json(reply, _Refined)
        if isinstance(found, Failure):
            return found
        echo = repeats_wording(found.task, text, [record.extra["task"], record.prompt, *requirements])
        return Failure("echo", found.task[:80]) if echo else found

    revised = await ask_parsed(partial(ctx.chat, "teacher"), [{"role": "user", "content": text}],
                               read, schema=_refined_schema(small=options.small),
                               tries=options.tries)
    if isinstance(revised, Failure):
        raise Dropped(f"refinement_{revised.reason}", revised.detail)
    left = tuple(c for i, c in enumerate(record.constraints, 1) if i not in revised.drop)
    if not revised.task.strip() or (record.constraints and not left):
        raise Dropped("refined_to_nothing")
    before = record.extra.get("task_before_refinement", record.extra["task"])
    refined = record.model_copy(update={"constraints": left}).with_extra(task=revised.task.strip(),
                                                                         task_before_refinement=before)
    return await phrased(refined, ctx, options)
