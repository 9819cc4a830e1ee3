"""Characters to use or to avoid: punctuation, digits, emoji, dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range


@register
class NoExclamation(ConstraintType):
    type = "punctuation:no_exclamation"
    descriptions = (
        "Do not use any exclamation marks",
        "Your response must not contain a single exclamation mark",
        "Refrain from using exclamation marks",
        "Write without exclamation marks",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "!" not in response and "！" not in response

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden_chars="!！")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "contains an exclamation mark"


@register
class NoQuestionMark(ConstraintType):
    type = "punctuation:no_question_mark"
    descriptions = (
        "Do not use any question marks",
        "Your response must not contain a question mark",
        "Refrain from using question marks anywhere in your answer",
        "Write without a single question mark",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "?" not in response and "？" not in response

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden_chars="?？")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "contains a question mark"


@register
class NoDigits(ConstraintType):
    type = "digits:none"
    descriptions = (
        "Do not use any digits; spell numbers out",
        "Your response must not contain the digits 0 to 9",
        "Write every number in words, so that no digit appears",
        "Avoid digits entirely",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not re.search(r"[0-9]", response)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden_chars="0123456789")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = re.search(r"[0-9]+", response)
        return f"contains the digits '{found.group()}'" if found else "contains a digit"


@register
class ExactNumbers(ConstraintType):
    type = "digits:exact_numbers"
    descriptions = (
        "Use exactly {numbers} written in digits, such as 7 or 250 (an unbroken run of digits counts as one)",
        "Your response must contain exactly {numbers} in digits, where each unbroken run of digits is one number",
        "Include exactly {numbers} made of digits; 42 is one number and 3.5 is two, as each run of digits counts",
        "Write exactly {numbers} with digits, counting every unbroken run of digits as one number",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(len(re.findall(r"[0-9]+", response)) == kwargs["count"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"count": rng.randint(1, 5)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"numbers": Range(kwargs["count"], kwargs["count"])},
                       exclusive=frozenset({"numbers in the response"}))

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"numbers": "1 number" if kwargs["count"] == 1 else f"{kwargs['count']} numbers"}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"contains {len(re.findall(r'[0-9]+', response))} runs of digits instead of {kwargs['count']}"


@register
class IsoDate(ConstraintType):
    type = "date:iso"
    descriptions = (
        "Include at least one date in the ISO format YYYY-MM-DD",
        "Mention a date written as YYYY-MM-DD, for example 2024-05-17",
        "Your response must contain a calendar date in the form YYYY-MM-DD",
        "Give at least one real date, written year-month-day as in 1999-12-31",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return any(map(_is_date, re.findall(r"(?<![\d-])\d{4}-\d{2}-\d{2}(?![\d-])", response)))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"numbers": Range(3)}, exclusive=frozenset({"numbers in the response"}))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "contains no valid date of the form YYYY-MM-DD"


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@cache
def _emoji() -> Any:
    """Flags, keycaps, and pictures: what Unicode shows as emoji by default, with U+FE0F, or as a symbol of the
    blocks that people use as emoji (``❤``). A skin tone or a joined sequence (a family) belongs to the emoji
    before it."""
    import regex  # heavy, and only this type needs it in most runs

    picture = (r"(?:\p{Emoji_Presentation}|(?=\p{Emoji})[\u2600-\u27BF]|(?![0-9#*])\p{Emoji}\uFE0F)"
               r"[\p{Emoji_Modifier}\uFE0F\U000E0020-\U000E007F]*")
    return regex.compile(rf"\p{{RI}}\p{{RI}}|[0-9#*]\uFE0F?\u20E3|{picture}(?:\u200D{picture})*")


def count_emoji(text: str) -> int:
    """How many emoji."""
    return 0 if text.isascii() else len(_emoji().findall(text))


@register
class Emoji(ConstraintType):
    type = "emoji:count"
    descriptions = (
        "Use {relation} {emoji}",
        "Your response must contain {relation} {emoji}",
        "Include {relation} {emoji} in your answer",
        "Put {relation} {emoji} into the text",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return count_emoji(response) in Range.of(kwargs["relation"], kwargs["count"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"relation": rng.choice(("at least", "exactly")), "count": rng.randint(1, 4)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"emoji": Range.of(kwargs["relation"], kwargs["count"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"relation": kwargs["relation"], "emoji": f"{kwargs['count']} emoji"}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"contains {count_emoji(response)} emoji, not {kwargs['relation']} {kwargs['count']}"
