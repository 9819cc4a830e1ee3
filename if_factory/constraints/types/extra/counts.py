"""How long: words, characters, lines, sentences and single words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import count_of, plural


@register
class WordRange(ConstraintType):
    type = "length:word_range"
    descriptions = (
        "Write between {min_words} and {max_words} words",
        "Your response must be {min_words} to {max_words} words long",
        "Keep the length of your answer between {min_words} and {max_words} words, both included",
        "Use no fewer than {min_words} and no more than {max_words} words",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.count_words(response) in Range(kwargs["min_words"], kwargs["max_words"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        low = rng.randrange(40, 201, 10)
        return {"min_words": low, "max_words": low + rng.choice((20, 30, 40, 50, 60))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"words": Range(kwargs["min_words"], kwargs["max_words"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return (f"has {measure.count_words(response)} words, not between {kwargs['min_words']} "
                f"and {kwargs['max_words']}")


@register
class ExactWords(ConstraintType):
    type = "length:exact_words"
    descriptions = (
        "Write exactly {num_words} words",
        "Your response must be exactly {num_words} words long",
        "Use exactly {num_words} words, no more and no fewer",
        "The whole answer must have a length of exactly {num_words} words",
    )
    difficulty_hint = 5

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(measure.count_words(response) == kwargs["num_words"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"num_words": rng.choice((25, 30, 40, 50, 60, 75, 80, 100))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"words": Range(kwargs["num_words"], kwargs["num_words"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {measure.count_words(response)} words instead of {kwargs['num_words']}"


@register
class MaxCharacters(ConstraintType):
    type = "length:max_characters"
    descriptions = (
        "Use at most {max_characters} characters, spaces included",
        "Keep your whole response within {max_characters} characters, counting spaces",
        "Your answer must not be longer than {max_characters} characters including spaces",
        "The response has to fit into {max_characters} characters, spaces counted",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(response.strip()) in Range(0, kwargs["max_characters"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"max_characters": rng.choice((280, 400, 500, 600, 800, 1000))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"characters": Range(0, kwargs["max_characters"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {len(response.strip())} characters, more than {kwargs['max_characters']}"


@register
class LineCharacters(ConstraintType):
    type = "length:line_characters"
    descriptions = (
        "No line may be longer than {max_characters} characters",
        "Break your lines so that each has at most {max_characters} characters",
        "Every line of your response must have {max_characters} characters or fewer",
        "Wrap your text so that no line exceeds {max_characters} characters",
    )
    difficulty_hint = 4

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(len(line.rstrip()) <= kwargs["max_characters"] for line in response.splitlines())

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"max_characters": rng.choice((60, 72, 80, 100, 120))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"line_characters": Range(0, kwargs["max_characters"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        longest = max(len(line.rstrip()) for line in response.splitlines())
        return f"has a line of {longest} characters, more than {kwargs['max_characters']}"


@register
class ExactLines(ConstraintType):
    type = "length:exact_lines"
    descriptions = (
        "Write exactly {lines}, not counting blank ones",
        "Your response must consist of exactly {lines}; blank lines do not count",
        "Lay your answer out in exactly {num_lines} non-blank {noun}",
        "Use exactly {lines} of text, blank lines aside",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(len(measure.lines(response)) == kwargs["num_lines"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"num_lines": rng.randint(3, 12)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"lines": Range(kwargs["num_lines"], kwargs["num_lines"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "noun": plural(kwargs["num_lines"], "line"), "lines": count_of(kwargs["num_lines"], "line")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {len(measure.lines(response))} non-blank lines instead of {kwargs['num_lines']}"


@register
class MaxLetters(ConstraintType):
    type = "word:max_letters"
    descriptions = (
        "Use no word with more than {max_letters} letters",
        "Every word in your response must have at most {max_letters} letters",
        "Avoid words longer than {max_letters} letters",
        "Only use words of {max_letters} letters or fewer",
    )
    difficulty_hint = 5

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return max(map(len, _letters(response)), default=0) <= int(kwargs["max_letters"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"max_letters": rng.randint(8, 12)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"word_letters": Range(0, kwargs["max_letters"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        longest = max(_letters(response), key=len, default="")
        return f"uses '{longest}', which has more than {kwargs['max_letters']} letters"


def _letters(response: str) -> list[str]:
    """Runs of letters.

    Raises:
        ValueError: the script has no spaces, or marks that are part of a letter.
    """
    text = measure.plain(response)
    if measure.without_spaces(text) or any(c >= "\u0300" and unicodedata.category(c)[0] == "M" for c in text):
        raise ValueError("the letters of a word cannot be counted in this script")
    return re.findall(r"[^\W\d_]+", text)


@register
class WordCount(ConstraintType):
    type = "word:exact_count"
    descriptions = (
        "Use the word '{word}' exactly {times}",
        "The word '{word}' must appear exactly {times} in your response",
        "Mention '{word}' exactly {times}, no more and no less",
        "Your answer has to contain the word '{word}' exactly {times}",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(measure.count_phrase(response, kwargs["word"]) == kwargs["count"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        own = sorted({w.lower() for w in re.findall(r"\b[A-Za-z]{5,10}\b", seed_prompt)} - _EMPTY_WORDS)
        return {"word": rng.choice(own or _COMMON), "count": rng.randint(1, 4)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={f"word:{kwargs['word'].lower()}": Range(kwargs["count"], kwargs["count"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        times = {1: "once", 2: "twice"}.get(kwargs["count"], f"{kwargs['count']} times")
        return {**kwargs, "times": times}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = measure.count_phrase(response, kwargs["word"])
        return f"uses '{kwargs['word']}' {found} times instead of {kwargs['count']}"


_COMMON = ("example", "reason", "simple", "people", "always", "important")
_EMPTY_WORDS = frozenset((
    "about", "above", "after", "again", "being", "below", "could", "describe", "explain", "every", "following",
    "given", "might", "other", "please", "should", "sentence", "their", "there", "these", "thing", "those",
    "using", "where", "which", "while", "would", "write", "your"))
