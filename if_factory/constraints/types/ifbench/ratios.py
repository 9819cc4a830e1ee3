"""Shares of a response: of its words, its sentences, of what it has in common with a text."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands
from if_factory.constraints.types.ifbench.counts import plain_words
from if_factory.constraints.types.public import PLAIN, Public

# Function words of English, for the share of "stop words".
_FUNCTION_WORDS = frozenset("""
    a about above after again against ain all am an and any are aren as at be because been before being below
    between both but by can couldn d did didn do does doesn doing don down during each few for from further had
    hadn has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself
    just ll m ma me mightn more most mustn my myself needn no nor not now o of off on once only or other our
    ours ourselves out over own re s same shan she should shouldn so some such t than that the their theirs them
    themselves then there these they this those through to too under until up ve very was wasn we were weren
    what when where which while who whom why will with won wouldn y you your yours yourself yourselves
    """.split())  # noqa: SIM905


@register
class StopWords(Public):
    """English function words are at most ``percentage`` per cent of all words."""

    type = "ratio:stop_words"
    difficulty_hint = 4
    allows = PLAIN | {"length_constraints:number_sentences"}
    arguments = ("percentage",)
    descriptions = (
        "Ensure that stop words make up no more than {percentage}% of the words in your response",
        "At most {percentage}% of your words may be stop words",
        "Keep the share of stop words at or below {percentage}%",
    )

    def _share(self, words: list[str]) -> float:
        stop = sum(w.lower() in _FUNCTION_WORDS or w.lower().split("'")[0] in _FUNCTION_WORDS for w in words)
        return 100 * stop / len(words) if words else 100.0

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._share(measure.words(response)) <= float(kwargs["percentage"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._share(plain_words(response)) <= float(kwargs["percentage"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"percentage": rng.randrange(25, 41, 5)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        float(kwargs["percentage"])
        return Demands()

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {self._share(measure.words(response)):.0f}% stop words, more than {kwargs['percentage']}%"


class _SentenceTypes(Public):
    def _kinds(self, found: list[str], *, bare: bool) -> tuple[int, int, int]:
        ends = [(s if bare else s.rstrip("\"'”’)*_ "))[-1:] for s in found]
        marks = ((".",), ("?",), ("!",)) if bare else ((".", "。"), ("?", "？"), ("!", "！"))
        said, asked, cried = (sum(end in mark for end in ends) for mark in marks)
        return said, asked, cried

    def fits(self, said: int, asked: int, cried: int) -> bool:
        raise NotImplementedError

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        kinds = self._kinds(measure.sentences(response), bare=False)
        return sum(kinds) > 0 and self.fits(*kinds)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self.fits(*self._kinds(measure.punkt_sentences(response), bare=True))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        said, asked, cried = self._kinds(measure.sentences(response), bare=False)
        return f"has {said} statements, {asked} questions and {cried} exclamations"


@register
class SentenceTypeRatio(_SentenceTypes):
    """Twice as many sentences end in a full stop as in a question mark."""

    type = "ratio:sentence_type"
    difficulty_hint = 4
    allows = PLAIN - {"punctuation:no_question_mark"}
    descriptions = (
        "Maintain a 2:1 ratio of declarative to interrogative sentences",
        "Write exactly two statements for each question",
        "Twice as many sentences must end in a full stop as in a question mark",
    )

    def fits(self, said: int, asked: int, cried: int) -> bool:
        return said == 2 * asked


@register
class SentenceBalance(_SentenceTypes):
    """Equally many sentences end in a full stop, a question mark and an exclamation mark."""

    type = "ratio:sentence_balance"
    difficulty_hint = 4
    allows = PLAIN - {"punctuation:no_question_mark", "punctuation:no_exclamation",
                      "punctuation:punctuation_exclamation"}
    descriptions = (
        "Balance the types of sentences: as many statements as questions as exclamations",
        "Use equally many declarative, interrogative and exclamatory sentences",
        "The numbers of sentences ending in a full stop, a question mark and an exclamation mark must be equal",
    )

    def fits(self, said: int, asked: int, cried: int) -> bool:
        return said == asked == cried


@register
class Overlap(Public):
    """``percentage`` (plus or minus 2) per cent of the response's trigrams of characters occur in
    ``reference_text``.
    """

    type = "ratio:overlap"
    composable = False
    only_read = "it needs a reference text, and no writer meets a share of trigrams to two points"
    arguments = ("reference_text", "percentage")
    descriptions = (
        "Maintain a trigram overlap of {percentage}% (±2%) with this reference text: {reference_text}",
        "Between two points below and two above {percentage}% of your character trigrams must occur in this text: "
        "{reference_text}",
        "Write so that {percentage}% (±2%) of the trigrams of your response are also in: {reference_text}",
    )

    @staticmethod
    def _share(response: str, reference: str) -> float | None:
        ours, theirs = ({text[i:i + 3] for i in range(len(text) - 2)} for text in (response, reference))
        return 100 * len(ours & theirs) / len(ours) if ours else None

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        share = self._share(response, kwargs["reference_text"])
        return share is not None and abs(share - float(kwargs["percentage"])) <= 2

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        float(kwargs["percentage"])
        return Demands()

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        share = self._share(response, kwargs["reference_text"])
        return f"shares {share or 0:.0f}% of its trigrams with the reference text"
