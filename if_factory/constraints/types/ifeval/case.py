"""IFEval's change-case family: all capitals, all small letters, and how many words in capitals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import relations
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text import capital_words, detect_language, is_in_language
from if_factory.constraints.text.words import capital_chunks, count_lower, count_upper

# Only one of the three types of this family fits one response.
_ONE_CASE = frozenset({"letter_case"})


def _is_english(response: str) -> bool:
    # Small letters: langdetect skips words in capitals, so a text of capitals has no language to it.
    return is_in_language(response.lower(), "en")


@register
class EnglishCapital(ConstraintType):
    """English, and every letter that has a case is a capital."""

    type = "change_case:english_capital"
    descriptions = (
        "Your entire response should be in English and in capital letters only",
        "Write the whole answer in English, in all capital letters",
        "USE ONLY CAPITAL LETTERS and write in English",
        "Every letter of your reply must be a capital letter, and the language English",
        "Answer in English with all letters in upper case",
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.isupper() and _is_english(response)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.isupper() and detect_language(response) in ("en", None)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(case="upper", language="en", exclusive=_ONE_CASE, counts={"capital_words": Range(1)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        small = count_lower(response)
        return f"has {relations.count_of(small, 'small letter')}; all capitals were asked for" if small else \
            "has no capital letters" if not response.isupper() else "is not in English"


@register
class EnglishLowercase(ConstraintType):
    """English, and every letter that has a case is a small one."""

    type = "change_case:english_lowercase"
    descriptions = (
        "Your entire response should be in English and in lowercase letters only",
        "Write the whole answer in English, in all small letters, without a single capital",
        "use only lowercase letters and write in English",
        "Every letter of your reply must be lowercase, and the language English",
        "Answer in English with no capital letters at all",
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.islower() and _is_english(response)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.islower() and detect_language(response) in ("en", None)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(case="lower", language="en", exclusive=_ONE_CASE, counts={"capital_words": Range(0, 0)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        capitals = count_upper(response)
        return f"has {relations.count_of(capitals, 'capital letter')}; none is allowed" if capitals else \
            "has no small letters" if not response.islower() else "is not in English"


@register
class CapitalWordFrequency(ConstraintType):
    """How many words are written only in capitals: ``capital_relation`` ``capital_frequency``."""

    type = "change_case:capital_word_frequency"
    descriptions = (
        "Your response should have {bound} {noun} in all capital letters",
        "Use {bound} {noun} written in ALL CAPITALS",
        "There must be {bound} {noun} in capital letters only in your answer",
        "Write {bound} {noun} of your reply entirely in upper case",
        "The answer should contain {bound} {noun} in all caps",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        count = len(capital_words(response))
        return relations.holds(count, kwargs["capital_relation"], kwargs["capital_frequency"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        count = sum(token.isupper() for token in _treebank_tokens(response))
        return relations.holds(count, kwargs["capital_relation"], kwargs["capital_frequency"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        relation, n = relations.draw(rng, (1, 4), (2, 5))
        return {"capital_relation": relation, "capital_frequency": n}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        wanted = relations.as_range(kwargs["capital_relation"], kwargs["capital_frequency"])
        return Demands(exclusive=_ONE_CASE, counts={"capital_words": wanted, "words": Range(wanted.low)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        n = kwargs["capital_frequency"]
        return {"bound": relations.bound(kwargs["capital_relation"], n), "noun": relations.plural(n, "word")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return relations.too_many_or_few(len(capital_words(response)), kwargs["capital_relation"],
                                         kwargs["capital_frequency"], "word in capitals", "words in capitals")


_APART = re.compile(r"""[;@#$%&?!*\[\](){}<>"“”„‘’«»`\u2012-\u2015]|--|\.\.+|[:,](?!\d)""")
# Written as one word, two to the Treebank.
_JOINED = re.compile(r"(?i)\b(can(?=not\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\b))")
_CLITIC = re.compile(r"(?i)(?<=[^'\s])('s|'m|'d|'ll|'re|'ve|n't)$")


def _treebank_tokens(text: str) -> list[str]:
    """Tokens with a capital as the Penn Treebank writes them, as far as a count of capitals can tell.

    The difference from ``text.capital_words``: clitics stand alone (``I'M`` is two), joined by ``/``, ``_`` or
    ``.`` is one (``AND/OR``), and a token with a digit counts (``B2B``).
    """
    tokens = []
    for chunk in capital_chunks(text):
        for rest in [chunk] if chunk.isalnum() else _APART.split(chunk):
            while "'" in rest and (found := _CLITIC.search(rest)):
                tokens.append(found.group())
                rest = rest[:found.start()]
            tokens += _JOINED.sub(r"\1 ", rest).split() if len(rest) > 4 else [rest]
    return tokens
