"""IFEval's start/end family: a closing phrase and quotation marks around everything."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text import closes_with, count_words

_PHRASES = (
    "That is all for now.",
    "I hope this helps.",
    "Is there anything else you would like to know?",
    "Thank you for reading.",
    "Feel free to ask for more.",
    "This is the end of my answer.",
)


@register
class EndChecker(ConstraintType):
    """The response ends with ``end_phrase``, case ignored. Quotation marks, Markdown marks and one full stop
    may follow.
    """

    type = "startend:end_checker"
    descriptions = (
        'Finish your response with this phrase and nothing after it: "{end_phrase}"',
        'The very last words of your answer must be "{end_phrase}"',
        'End your reply with the phrase "{end_phrase}"',
        'Close with "{end_phrase}" and write no other words after it',
        'Your answer should end with the words "{end_phrase}"',
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return closes_with(response, kwargs["end_phrase"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.strip().strip('"').lower().endswith(kwargs["end_phrase"].strip().lower())

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"end_phrase": rng.choice(_PHRASES)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        phrase = kwargs["end_phrase"].strip()
        return Demands(words=(phrase,), ends=phrase, counts={"words": Range(count_words(phrase))})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'ends with "{response.strip()[-40:]}", not with "{kwargs["end_phrase"]}"'


@register
class Quotation(ConstraintType):
    """The first and the last character of the response are double quotation marks."""

    type = "startend:quotation"
    descriptions = (
        "Wrap your entire response in double quotation marks",
        "Put double quotation marks around your whole answer",
        'Your reply must begin and end with a double quotation mark (")',
        'Enclose everything you write in one pair of double quotation marks: "..."',
        "The first and the last character of your answer must be double quotation marks",
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = response.strip()
        return len(text) > 2 and text[0] in '"“' and text[-1] in '"”' and text[1:-1].strip() != ""

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = response.strip()
        return len(text) > 1 and text[0] == text[-1] == '"'

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=('"',), starts='"', ends='"')

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        text = response.strip()
        return f"begins with {text[:1]!r} and ends with {text[-1:]!r}, not with double quotation marks"
