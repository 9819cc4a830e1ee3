"""Words that a style avoids."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands

_PRONOUNS = ("I", "me", "my", "mine", "myself")
_CONTRACTIONS = tuple(
    [f"{verb}n't" for verb in ("are", "ca", "could", "did", "do", "does", "had", "has", "have", "is", "must",
                               "need", "should", "was", "were", "wo", "would")]
    + [f"{who}'{tail}" for tail in ("ll", "d") for who in ("I", "you", "he", "she", "it", "we", "they", "that")]
    + [f"{who}'{tail}" for tail in ("ve", "re") for who in ("you", "we", "they")]
    + ["I'm", "I've", "he's", "she's", "it's", "that's", "there's", "here's", "what's", "who's", "where's",
       "how's", "let's", "could've", "should've", "would've", "might've", "must've", "y'all"])


@register
class NoFirstPerson(ConstraintType):
    type = "style:no_first_person"
    descriptions = (
        "Do not use the words 'I', 'me', 'my', 'mine' or 'myself'",
        "Write without first-person singular pronouns: no 'I', 'me', 'my', 'mine' or 'myself'",
        "Never refer to yourself; the words 'I', 'me', 'my', 'mine' and 'myself' must not appear",
        "Avoid the pronouns 'I', 'me', 'my', 'mine' and 'myself' throughout",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not _found(response, _PRONOUNS)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden=_PRONOUNS)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"uses '{_found(response, _PRONOUNS)}'"


@register
class NoContractions(ConstraintType):
    type = "style:no_contractions"
    descriptions = (
        "Do not use contractions such as \"don't\" or \"it's\"",
        "Write out all contractions: \"do not\" rather than \"don't\"",
        "Avoid contracted forms like \"can't\", \"we're\" and \"that's\"",
        "Your response must be free of contractions (no \"isn't\", \"you'll\", \"I'm\" and the like)",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "'" not in measure.plain(response) or not _found(response, _CONTRACTIONS)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden=_CONTRACTIONS)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"uses '{_found(response, _CONTRACTIONS)}'"


def _found(response: str, words: tuple[str, ...]) -> str | None:
    """The first of ``words`` in the response."""
    return next((word for word in words if measure.contains_phrase(response, word)), None)
