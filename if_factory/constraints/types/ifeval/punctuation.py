"""IFEval's punctuation family."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands
from if_factory.constraints.relations import count_of

# The comma of Latin, Arabic, and Chinese and Japanese scripts (and its enumeration comma).
_COMMAS = ",،，、"


@register
class NoComma(ConstraintType):
    """No comma: neither ``,`` nor one of ``_COMMAS``."""

    type = "punctuation:no_comma"
    descriptions = (
        "Do not use any commas in your response",
        "Write your answer without commas",
        "Your entire reply must not contain a comma",
        "Avoid commas altogether",
        "There should be no comma anywhere in the answer",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not any(c in response for c in _COMMAS)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "," not in response

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden_chars=_COMMAS)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {count_of(sum(response.count(c) for c in _COMMAS), 'comma')}; none is allowed"
