"""What every sentence or paragraph is like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range

_OWN_LINE = re.compile(r"^[ \t]*(?:<<|\*{3,}|(?:SECTION|Section)\b)")


def prose_sentences(text: str, *, items: bool = True) -> list[str]:
    """The sentences of a text outside code blocks and tables; each list item and heading is on its own.

    ``items=False`` leaves list items and headings out.

    Raises:
        ValueError: the text is in a script without end marks.
    """
    blocks: list[str] = []
    for block in measure.document(text).blocks:
        if block.kind == "cell" or (block.kind != "paragraph" and not items):
            continue
        blocks.append("")
        for line in block.raw.split("\n"):
            if _OWN_LINE.match(line):
                blocks += [line if items else "", ""]
            else:
                blocks[-1] += line + "\n"
    return [sentence for block in blocks if block.strip() for sentence in measure.sentences(block)]


@register
class SentenceWords(ConstraintType):
    type = "sentence:max_words"
    descriptions = (
        "No sentence may have more than {max_words} words",
        "Keep every sentence to at most {max_words} words",
        "Each sentence of your response must have {max_words} words or fewer",
        "Write only sentences of up to {max_words} words",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return _longest(response) in Range(0, kwargs["max_words"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"max_words": rng.choice((10, 12, 15, 18, 20, 25))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"sentence_words": Range(0, kwargs["max_words"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has a sentence of {_longest(response)} words, more than {kwargs['max_words']}"


def _longest(response: str) -> int:
    return max(map(measure.count_words, prose_sentences(response)), default=0)


@register
class DistinctStarts(ConstraintType):
    type = "sentence:distinct_starts"
    descriptions = (
        "Start every sentence with a different word (list items and headings aside)",
        "No two sentences may begin with the same word; list items and headings do not count",
        "The first words of your sentences must all be different, apart from list items and headings",
        "Each sentence outside lists and headings has to begin with a word that no other sentence begins with",
    )
    difficulty_hint = 4

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return _repeated_start(response) is None

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"repeated_starts": Range(0, 0)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has more than one sentence that begins with '{_repeated_start(response)}'"


def _repeated_start(response: str) -> str | None:
    seen: set[str] = set()
    for sentence in prose_sentences(response, items=False):
        if measure.without_spaces(sentence):
            raise ValueError("the first word of a sentence cannot be told in a script without spaces")
        word = measure.first_word(sentence).lower()
        if word and word in seen:
            return word
        seen.add(word)
    return None


@register
class ParagraphStart(ConstraintType):
    type = "paragraph:first_word"
    descriptions = (
        "Begin every paragraph with the word '{word}'",
        "Each paragraph of your response must start with '{word}'; a blank line separates paragraphs",
        "The first word of every paragraph has to be '{word}'",
        "Start all your paragraphs, which blank lines set apart, with the word '{word}'",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return _other_start(response, kwargs["word"]) is None

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"word": rng.choice(("Another", "As", "Consider", "In", "One", "So", "The", "Then", "This"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(starts=kwargs["word"], exclusive=frozenset({"separator"}))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has a paragraph that begins with '{_other_start(response, kwargs['word'])}'"


def _other_start(response: str, word: str) -> str | None:
    return next((measure.first_word(paragraph) for paragraph in measure.paragraphs(response)
                 if not measure.opens_with(paragraph, word)), None)
