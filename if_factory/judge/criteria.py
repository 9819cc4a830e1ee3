"""The judge on criteria: which of them a response satisfies, each on its own, few at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import ceil
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, RootModel

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure
from if_factory.judge.judge import (
    EVIDENCE,
    PROMPTS,
    REASON,
    REASONING,
    Ask,
    Variant,
    ask_until_read,
    mark_for,
    shown,
)
from if_factory.judge.reply import read_one
from if_factory.prompts import load
from if_factory.records import Outcome, Verdict

GROUP = 5  # criteria in one request of the full variant at most


async def judge_criteria(ask: Ask, prompt: str, response: str, criteria: Sequence[str], *, tries: int = 3,
                         prompts: str | None = None, variant: Variant = "full") -> tuple[Verdict, ...] | Failure:
    """One verdict per criterion, by position; each carries the judge's reason. Asked at temperature 0.

    They are asked about in groups of at most ``GROUP``, and the judge quotes and reasons before each verdict; the
    small variant asks about all at once, for a verdict and a short reason.

    A reply counts only as a whole: exactly one yes or no for every number. If none of ``tries`` replies has
    that, for one group, the result is a ``Failure``, and nothing passed.

    Args:
        tries: requests per group at most.
        prompts: folder with your own ``judge_criteria.jinja`` or ``judge_criteria_small.jinja``.

    Reasons: ``missing_verdict``, ``unknown_criterion`` and those of ``reply.read_one``.
    """
    name = "judge_criteria_small" if variant == "small" else "judge_criteria"

    async def judged(group: Sequence[str]) -> tuple[Verdict, ...] | Failure:
        text = load(PROMPTS, name, prompts).render(
            prompt=shown(prompt), response=shown(response), criteria=[shown(c) for c in group],
            mark=mark_for(prompt, response, *group))
        return await judge_numbered(ask, text, len(group), tries=tries, prompts=prompts, variant=variant)

    groups = even_groups(criteria, judge_calls(len(criteria), variant))
    verdicts: list[Verdict] = []
    for found in await asyncio.gather(*map(judged, groups)):
        if isinstance(found, Failure):
            return found
        verdicts += found
    return tuple(verdicts)


def judge_calls(criteria: int, variant: Variant = "full") -> int:
    """The requests that it takes to have so many criteria judged, if every reply can be read."""
    return min(criteria, 1) if variant == "small" else ceil(criteria / GROUP)


def even_groups(items: Sequence[str], groups: int) -> list[Sequence[str]]:
    """``items`` in order, cut into so many groups of nearly equal size: six are three and three, not five and one."""
    edges = [round(i * len(items) / max(1, groups)) for i in range(groups + 1)]
    return [items[low:high] for low, high in pairwise(edges)]


async def judge_numbered(ask: Ask, text: str, n: int, *, tries: int = 3, prompts: str | None = None,
                         variant: Variant = "small") -> tuple[Verdict, ...] | Failure:
    """One verdict for each of the ``n`` numbered points that ``text`` asks about; asked at temperature 0.

    For questions whose reply is ``{"1": {"reason": "...", "satisfied": true}, ...}``, in the full variant with
    ``evidence`` and ``reasoning`` in place of the reason; read and retried as ``judge_criteria``, with the same
    reasons for a ``Failure``.
    """
    def read(completion: Completion) -> tuple[Verdict, ...] | Failure:
        found = read_one(completion, _Verdicts, "satisfied", n)
        return found if isinstance(found, Failure) else _by_number(found.root, n)

    verdicts, _ = await ask_until_read(ask, text, read, tries=tries, prompts=prompts,
                                       schema=_criteria_schema(n, variant), temperature=0.0)
    return verdicts


def _by_number(found: dict[int, _Satisfied], n: int) -> tuple[Verdict, ...] | Failure:
    if missing := [i for i in range(1, n + 1) if i not in found]:
        return Failure("missing_verdict", f"no verdict on criterion {missing[0]}")
    if unknown := sorted(set(found) - set(range(1, n + 1))):
        return Failure("unknown_criterion", f"there is no criterion {unknown[0]}")
    return tuple(Verdict(outcome=Outcome.PASS if found[i].satisfied else Outcome.FAIL, reason=found[i].said)
                 for i in range(1, n + 1))


_YES = ("yes", "true", "satisfied", "pass", "passed", "met")
_NO = ("no", "false", "not satisfied", "unsatisfied", "fail", "failed", "not met", "unmet")


def _yes_or_no(value: Any) -> Any:
    word = value.strip(" .").lower() if isinstance(value, str) else None
    return True if word in _YES else False if word in _NO else value


class _Satisfied(BaseModel):
    evidence: str = ""
    reason: str = Field("", validation_alias=AliasChoices("reason", "reasoning"))
    satisfied: Annotated[bool, BeforeValidator(_yes_or_no), Field(strict=True)]

    @property
    def said(self) -> str:
        """The reason with what it was found on, for the provenance."""
        return f'{self.reason} ["{self.evidence.strip()}"]'.strip() if self.evidence.strip() else self.reason


def _numbered(value: Any) -> Any:
    """The verdicts by number, however they are listed; a number that comes twice is an error."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        if len(value) == 1 and lists:
            value = lists[0]
        elif "satisfied" in value:
            value = [value]
    if isinstance(value, list):
        if not all(isinstance(item, dict) for item in value):
            raise ValueError("expected an object for every criterion")
        pairs = [(item.get("number", item.get("criterion")), item) for item in value]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        raise ValueError("expected verdicts by number")
    found: dict[int, Any] = {}
    for key, verdict in pairs:
        number = re.fullmatch(r"\D*(\d+)\D*", str(key))
        if number is None or int(number[1]) in found:
            raise ValueError(f"expected every criterion's number once, found {key!r}")
        found[int(number[1])] = verdict if isinstance(verdict, dict) else {"satisfied": verdict}
    return found


class _Verdicts(RootModel[Annotated[dict[int, _Satisfied], BeforeValidator(_numbered)]]):
    pass


@cache
def _criteria_schema(n: int, variant: Variant) -> dict[str, Any]:
    """An object with the criteria's numbers as keys: a server that follows it cannot skip or repeat one."""
    reasons = {"reason": REASON} if variant == "small" else {"evidence": EVIDENCE, "reasoning": REASONING}
    verdict = {"type": "object", "additionalProperties": False, "required": [*reasons, "satisfied"],
               "properties": {**reasons, "satisfied": {"type": "boolean"}}}
    numbers = [str(i) for i in range(1, n + 1)]
    return {"type": "object", "additionalProperties": False, "required": numbers,
            "properties": dict.fromkeys(numbers, verdict)}
