"""How a response opens and closes."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands

_AROUND = "\"'“”‘’«»()[]*_ \n\t"
# Whatever is no letter and no digit may follow the last word.
_AFTER_LAST = _AROUND + ".,;:!?…—–-~`{}<>|#。！？、，；：」』।؟"


@register
class FirstWord(ConstraintType):
    type = "start:first_word"
    descriptions = (
        "The first word of your response must be '{word}'",
        "Begin your answer with the word '{word}'",
        "Open your response with the word '{word}'",
        "'{word}' has to be the very first word you write",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.opens_with(response, kwargs["word"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"word": rng.choice(("Certainly", "Consider", "First", "Generally", "Indeed", "Overall", "Perhaps",
                                    "Sometimes", "Therefore", "Today", "Usually", "While"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(starts=kwargs["word"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"begins with '{measure.first_word(response)}' instead of '{kwargs['word']}'"


@register
class OpeningPhrase(ConstraintType):
    type = "start:phrase"
    descriptions = (
        'Start your response with exactly this phrase: "{phrase}"',
        'Your answer must open with the phrase "{phrase}"',
        'The response has to begin with "{phrase}", word for word',
        'Before anything else, write "{phrase}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.opens_with(response, kwargs["phrase"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"phrase": rng.choice(("Here is what you need to know", "Let us begin", "Thank you for asking",
                                      "Good question", "In short", "Hello there", "Glad to help",
                                      "To put it simply"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(starts=kwargs["phrase"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"begins with '{response.strip()[:40]}' instead of '{kwargs['phrase']}'"


@register
class LastWord(ConstraintType):
    type = "end:last_word"
    descriptions = (
        "The last word of your response must be '{word}'",
        "Finish your answer with the word '{word}'",
        "End with the word '{word}'; only punctuation may follow it",
        "'{word}' has to be the very last word you write",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.closes_with(response.rstrip(_AFTER_LAST), kwargs["word"], after="")

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"word": rng.choice(("always", "end", "future", "home", "possible", "success", "today", "together",
                                    "tomorrow", "world"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(ends=kwargs["word"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        last = response.rstrip(_AFTER_LAST).split()
        return f"ends with '{last[-1] if last else ''}' instead of '{kwargs['word']}'"


@register
class EndsWithQuestion(ConstraintType):
    type = "end:question"
    descriptions = (
        "End your response with a question",
        "The last sentence of your answer must be a question that ends with a question mark",
        "Close with a question to the reader, so that the last character is a question mark",
        "Finish by asking a question; nothing may follow its question mark",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.rstrip(_AROUND).endswith(("?", "？", "؟"))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(ends="?")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"ends with '{response.strip()[-1:]}', not with a question mark"
