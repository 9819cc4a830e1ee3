"""Reading a judge's reply: lenient about how the JSON is written, strict about there being one verdict.

A judge quotes what it judges, and what it judges may hold verdicts of its own. So a reply counts only if one
JSON value fits and the deciding key stands nowhere outside it; a reply with two readings is no reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, parse_json
from if_factory.chat.thinking import strip_thinking

M = TypeVar("M", bound=BaseModel)


def read_one(completion: Completion, model: type[M], key: str, times: int = 1) -> M | Failure:
    """The one JSON value of the reply that fits ``model``.

    JSON may be bare, fenced or inside prose; if none is whole, it is repaired, unless the token limit cut the
    reply: half a verdict is none.

    Args:
        key: the key that decides (``winner``), which may not stand outside the value that is read.
        times: how often it stands inside it.

    Reasons: ``no_json``, ``wrong_json``, ``two_verdicts``, ``truncated``.
    """
    text = strip_thinking(completion.text)
    deciding = re.compile(rf"\b{re.escape(key)}\b\\?[\"']?\s*:", re.IGNORECASE)
    rest, found, problem = text, [], Failure("no_json")
    for value, written in _values(text):
        try:
            found.append(model.model_validate(value))
            rest = rest.replace(written, "", 1)
        except ValidationError as e:
            problem = _wrong(e)
    if found:
        if any(other != found[0] for other in found) or deciding.search(rest):
            return Failure("two_verdicts", f"'{key}' is said more than once")
        return found[0]
    if completion.cut:
        return Failure("truncated", "the token limit cut the reply")
    if len(deciding.findall(text)) > times:
        return Failure("two_verdicts", f"'{key}' is said more than once")
    repaired = parse_json(text, model)
    return problem if isinstance(repaired, Failure) and repaired.reason == "no_json" else repaired


def _values(text: str) -> Iterator[tuple[Any, str]]:
    """Every JSON object or list in ``text`` that is whole and inside no other, with how it is written."""
    at, tries = 0, 0
    while (start := _OPENING.search(text, at)) and (tries := tries + 1) <= _MOST:
        try:
            value, at = _DECODER.raw_decode(text, start.start())
            yield value, text[start.start():at]
        except (ValueError, RecursionError):
            at = start.end()


_MOST = 200  # brackets looked at: each failing one is read to where it breaks
_OPENING = re.compile(r"[{\[]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, strict=False)


def _wrong(error: ValidationError) -> Failure:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole value"
    return Failure("wrong_json", f"{place}: {first['msg']}")
