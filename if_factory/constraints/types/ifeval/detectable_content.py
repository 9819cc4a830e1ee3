"""IFEval's detectable content family: placeholders and a postscript."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import count_of, plural
from if_factory.constraints.text import placeholders, plain


@register
class NumberPlaceholders(ConstraintType):
    """At least ``num_placeholders`` texts in square brackets, such as ``[address]``."""

    type = "detectable_content:number_placeholders"
    descriptions = (
        "Include at least {num_placeholders} {noun} in square brackets, such as [address]",
        "Your response must contain at least {num_placeholders} {noun} written in square brackets, like [name]",
        "Use {num_placeholders} or more placeholders in square brackets, for example [date]",
        "Leave at least {num_placeholders} {noun} in square brackets, such as [place], for the reader to fill in",
        "There should be at least {num_placeholders} {noun} in square brackets, like [title], in your answer",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(placeholders(response)) >= int(kwargs["num_placeholders"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(re.findall(r"\[.*?\]", response)) >= int(kwargs["num_placeholders"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"num_placeholders": rng.randint(1, 3)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        n = int(kwargs["num_placeholders"])
        return Demands(literals=("[", "]"), counts={"placeholders": Range(n)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "noun": plural(kwargs["num_placeholders"], "placeholder")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = count_of(len(placeholders(response)), "placeholder")
        return f"has {found} in square brackets; at least {kwargs['num_placeholders']} were asked for"


@register
class Postscript(ConstraintType):
    """After some text, ``postscript_marker`` (``P.S.`` or ``P.P.S``) as written, and text behind it."""

    type = "detectable_content:postscript"
    descriptions = (
        'At the end of your response add a postscript that starts with "{postscript_marker}"',
        'Close your answer with a postscript that begins with "{postscript_marker}"',
        'After the answer write a postscript starting with "{postscript_marker}"',
        'Finish with a postscript whose first characters are "{postscript_marker}"',
        'Add a postscript below your reply and start it with "{postscript_marker}"',
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        marker, text = re.escape(plain(kwargs["postscript_marker"]).strip()), plain(response)
        found = re.search(rf"(?<![\w.]){marker}", text)
        return found is not None and _has_word(text[:found.start()]) and _has_word(text[found.end():])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        marker = kwargs["postscript_marker"].strip()
        known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
        return re.search(known.get(marker, marker.lower()), response.lower()) is not None

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"postscript_marker": rng.choice(("P.S.", "P.P.S"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        marker = kwargs["postscript_marker"].strip()
        capitals = Range(1) if any(c.isupper() for c in marker) else Range()
        return Demands(literals=(marker,), exclusive=frozenset({"postscript"}), counts={"capital_words": capitals})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        marker = kwargs["postscript_marker"].strip()
        if marker in response:
            return f"{marker} is there, but without an answer before it or a text behind it"
        return f"has no postscript that starts with {marker}"


def _has_word(text: str) -> bool:
    return re.search(r"[^\W_]", text.removeprefix(".")) is not None
