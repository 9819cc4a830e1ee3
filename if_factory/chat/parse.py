"""What a model wrote, read leniently: every parser returns a value or a ``Failure``, and never raises on a text.

``ask_parsed`` adds the bounded retry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from if_factory.chat.base import Completion
from if_factory.chat.thinking import strip_thinking

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a text could not be read. ``reason`` is short and countable, ``detail`` is for people."""

    reason: str
    detail: str = ""


# Whether the text that is being read was cut by the token limit; set by ``ask_parsed`` around a parser.
_cut: ContextVar[bool] = ContextVar("_cut", default=False)


def was_cut() -> bool:
    """The token limit ended the text that a parser reads now: what is not whole in it must not be taken."""
    return _cut.get()


def echoes(text: str, asked: str) -> bool:
    """Whether ``text`` stands in what was ``asked``: small models give the prompt's example or the task back."""
    return " ".join(text.lower().split()).strip(" .\"'") in _on_one_line(asked)


def repeats_wording(text: str, asked: str, given: Iterable[str] = ()) -> bool:
    """Whether ``text`` has five words in a row from ``asked`` that stand in nothing of what was ``given`` in it.

    Small models weave the question's own instructions into what they write: "make it compatible with all of them and
    repeat none" as a requirement for an answer. Words of the task, which a text may well repeat, are ``given``.
    """
    parts = sorted({_on_one_line(part) for part in given if part.strip()}, key=len, reverse=True)
    left = _on_one_line(asked)
    for part in parts:
        left = left.replace(part, "\0")
    own = frozenset().union(*map(_runs, left.split("\0"))) - frozenset().union(*map(_runs, parts))
    return not own.isdisjoint(_runs(_on_one_line(text)))


@lru_cache(maxsize=64)  # the question's own parts are looked at for every item of an answer
def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return frozenset(zip(*(words[i:] for i in range(5)), strict=False))


@lru_cache(maxsize=16)  # what was asked is compared with every item of the answer
def _on_one_line(text: str) -> str:
    return " ".join(text.lower().split())


_FENCE = re.compile(r"```[\w-]*[^\S\n]*\n(.*?)```", re.DOTALL)
_REPAIRABLE = 30_000, 500  # characters, brackets: json-repair takes quadratic time on hostile texts


def _json_candidates(text: str) -> Iterator[str]:
    yield text
    yield from _FENCE.findall(text)
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            yield text[start:end + 1]
    if was_cut():
        return
    # never closed
    starts = [i for i in (text.find("{"), text.find("[")) if i >= 0]
    if starts:
        yield text[min(starts):]


def parse_json(text: str, model: type[M]) -> M | Failure:
    """The first JSON in ``text`` (bare, fenced, inside prose, or repairable) that fits ``model``.

    A text that the token limit cut is not repaired. Reasons: ``no_json``, ``wrong_json`` (with what is wrong in
    ``detail``).
    """
    failure = Failure("no_json")
    candidates = list(dict.fromkeys(_json_candidates(strip_thinking(text))))
    for load in (json.loads,) if was_cut() else (json.loads, _repair):
        for candidate in candidates:
            try:
                return model.model_validate(load(candidate))
            except ValidationError as e:
                first = e.errors(include_url=False, include_input=False)[0]
                place = ".".join(str(p) for p in first["loc"]) or "the whole value"
                failure = Failure("wrong_json", f"{place}: {first['msg']}")
            except (ValueError, RecursionError):
                continue
    return failure


def _repair(text: str) -> Any:
    from json_repair import repair_json

    characters, brackets = _REPAIRABLE
    if len(text) > characters or not 0 < text.count("{") + text.count("[") <= brackets:
        raise ValueError
    try:
        return repair_json(text, return_objects=True, skip_json_loads=True)
    except Exception as e:  # a parser of broken text may break on it in ways of its own
        raise ValueError from e


def parse_tagged(text: str, tag: str) -> str | Failure:
    """The stripped text inside the first ``<tag>...</tag>``.

    Reasons: ``no_tag``, ``unclosed_tag`` (what follows may be cut off, so it is not used), ``empty_tag``.
    """
    text = strip_thinking(text)
    opening = re.search(rf"<{re.escape(tag)}>", text, re.IGNORECASE)
    if opening is None:
        return Failure("no_tag", f"no <{tag}>")
    closing = re.compile(rf"</{re.escape(tag)}>", re.IGNORECASE).search(text, opening.end())
    if closing is None:
        return Failure("unclosed_tag", f"<{tag}> is never closed")
    return text[opening.end():closing.start()].strip() or Failure("empty_tag", f"nothing in <{tag}>")


_NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)"
_SCALE = rf"(?:\s*(?:/|out\s+of)\s*{_NUMBER})?"
_MARKED = re.compile(rf"(?:\[\[\s*|\b(?:score|rating|grade)\b[\s\"'*_`]*(?:is|=|:|>)[\s\"'*_`]*){_NUMBER}{_SCALE}",
                     re.IGNORECASE)
_FRACTION = re.compile(rf"(?<![\w./]){_NUMBER}\s*(?:/|out\s+of)\s*{_NUMBER}(?![\w/])")
_BARE = re.compile(rf"(?<![\w.]){_NUMBER}(?!\w)()")


def parse_score(text: str, low: float, high: float) -> float | Failure:
    """A score in ``[low, high]``: ``[[7]]``, ``Score: 7``, ``<score>7</score>``, ``7/10``, or the only number.

    Of several marked scores the last one counts: a judge concludes at the end.
    Reasons: ``no_score``, ``ambiguous_score``, ``score_out_of_range``, ``other_scale`` (``4/5`` asked for ten).
    """
    text = strip_thinking(text)
    found = _MARKED.findall(text) or _FRACTION.findall(text)
    if not found:
        found = _BARE.findall(text)
        if len({number for number, _ in found}) > 1:
            return Failure("ambiguous_score", f"{len(found)} numbers and none is marked as the score")
    if not found:
        return Failure("no_score")
    number, scale = found[-1]
    if scale and float(scale) != high:
        return Failure("other_scale", f"{number} out of {scale}, not {high:g}")
    value = float(number)
    if not low <= value <= high:
        return Failure("score_out_of_range", f"{number} is not within {low:g} and {high:g}")
    return value


async def ask_parsed(chat: Callable[..., Awaitable[Completion]], messages: Sequence[dict[str, str]],
                     parser: Callable[[str], T | Failure], *, tries: int = 3, sample: int = 0,
                     **options: Any) -> T | Failure:
    """Ask until ``parser`` can read the answer, at most ``tries`` times; the last ``Failure`` if it never can.

    Of an answer that the token limit cut, only what is whole is read.

    Args:
        chat: ``functools.partial(context.chat, "teacher")``, or anything called the same way.
        sample: try ``i`` asks for sample ``sample * tries + i``, so no two tries are the same request.
        options: passed to ``chat``.
    """
    failure = Failure("not_asked")
    for i in range(tries):
        completion = await chat(messages, sample=sample * tries + i, **options)
        token = _cut.set(completion.cut)
        try:
            value = parser(completion.text)
        finally:
            _cut.reset(token)
        if not isinstance(value, Failure):
            return value
        failure = Failure("truncated", value.detail) if completion.cut else value
    return failure
