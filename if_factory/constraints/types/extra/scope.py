"""Constraints on a part of the response: what stands above a line of three hyphens, and what stands below it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, get, register

RULE = "---"


def split_at_rule(response: str) -> tuple[str, str]:
    """The text above and below the last line that is exactly ``---``; all of it above if there is none."""
    above, found, below = f"\n{response}\n".rpartition(f"\n{RULE}\n")
    return (above.strip(), below.strip()) if found else (response.strip(), "")


class _Scoped(ConstraintType):
    """A method wraps constraints that it has drawn."""

    composable = False
    only_read = "a method draws what it wraps"

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return None


@register
class AboveRule(_Scoped):
    """``kwargs``: ``type``, ``kwargs`` and ``text`` of the constraint that the part above the rule satisfies."""

    type = "scope:above_rule"
    descriptions = (
        "The part above the line of three hyphens must satisfy this requirement: {text}",
        "Everything before the line of three hyphens must follow this rule: {text}",
        "Apply this requirement to the text above the line of three hyphens: {text}",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        above, _ = split_at_rule(response)
        return bool(above) and get(kwargs["type"]).check(above, kwargs["kwargs"])

    def required_text(self, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        return get(kwargs["type"]).required_text(kwargs["kwargs"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"above the rule: {get(kwargs['type']).why(split_at_rule(response)[0], kwargs['kwargs'])}"


@register
class PointsBelowRule(_Scoped):
    """``kwargs``: ``points``, how many numbered points the text below the rule has."""

    type = "scope:points_below_rule"
    descriptions = (
        "After a line of three hyphens, add exactly {points} numbered points",
        "End with a line of three hyphens followed by exactly {points} numbered points",
        "Put a line of three hyphens below the answer, and exactly {points} numbered points below that line",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        _, below = split_at_rule(response)
        return len(re.findall(r"(?m)^\d+\.\s+\S", below)) == int(kwargs["points"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"does not end with a line of three hyphens and {kwargs['points']} numbered points"
