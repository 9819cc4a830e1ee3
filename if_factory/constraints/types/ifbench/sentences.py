"""What each sentence is like, beside its neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import plural
from if_factory.constraints.text.vocabulary import draw_keyword
from if_factory.constraints.types.extra.symbols import count_emoji
from if_factory.constraints.types.public import AVOIDING, PLAIN, PUNCTUATION, Public, no_marks, unmarked


@register
class AlliterationIncrement(Public):
    """Each sentence has a longer run of words with one first letter than the sentence before (a run is two or
    more).

    The public checker adds up all runs of a sentence.
    """

    type = "sentence:alliteration_increment"
    allows = AVOIDING
    difficulty_hint = 5
    descriptions = (
        "Each sentence must have a longer sequence of consecutive alliterative words than the previous one",
        "Let the longest run of words with the same first letter grow from sentence to sentence",
        "From one sentence to the next, use a longer run of neighbouring words that begin alike",
    )

    @staticmethod
    def _longest(words: list[str]) -> int:
        best = run = 1 if words else 0
        for a, b in pairwise(words):
            run = run + 1 if a[0] == b[0] else 1
            best = max(best, run)
        return best if best > 1 else 0

    @staticmethod
    def _all_runs(sentence: str) -> int:
        words = [clean for word in sentence.lower().split() if (clean := word.lstrip(PUNCTUATION))]
        total, inside = 0, False
        for a, b in pairwise(words):
            alike = a[0] == b[0]
            total += (1 if inside else 2) if alike else 0
            inside = alike
        return total

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        runs = [self._longest(no_marks(s)) for s in measure.sentences(response)]
        return bool(runs) and all(a < b for a, b in pairwise(runs))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        runs = [self._all_runs(s) for s in measure.punkt_sentences(response)]
        return all(a < b for a, b in pairwise(runs))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has runs of {[self._longest(no_marks(s)) for s in measure.sentences(response)]} words"


@register
class SentenceKeyword(Public):
    """Sentence ``N`` (from 1) contains ``word`` as a whole word, case ignored."""

    type = "sentence:keyword"
    difficulty_hint = 2
    allows = PLAIN | {"length_constraints:number_sentences"}
    arguments = ("word", "N")
    descriptions = (
        'The response must include the keyword "{word}" in sentence {N}',
        'Sentence number {N} must contain the word "{word}"',
        'Use "{word}" in sentence {N} of your answer',
    )

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"word": draw_keyword(rng, seed_prompt), "N": rng.randint(1, 5)}

    def _has(self, found: list[str], kwargs: Mapping[str, Any]) -> bool:
        n = int(kwargs["N"])
        return 0 < n <= len(found) and measure.contains_phrase(found[n - 1], kwargs["word"])

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._has(measure.sentences(response), kwargs)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found, n = measure.punkt_sentences(response), int(kwargs["N"])
        return n <= len(found) and re.search(rf"\b{re.escape(kwargs['word'])}\b", found[n - 1], re.I) is not None

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(words=(kwargs["word"],), counts={"sentences": Range(int(kwargs["N"]))})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'does not have "{kwargs["word"]}" in sentence {kwargs["N"]}'


@register
class LastFirst(Public):
    """The last word of each sentence is the first one of the next, case ignored."""

    type = "words:last_first"
    allows = AVOIDING
    difficulty_hint = 4
    descriptions = (
        "The last word of each sentence must become the first word of the next sentence",
        "Begin every sentence with the word that ended the sentence before it",
        "Let each new sentence open with the last word of the previous one",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = [no_marks(s) for s in measure.sentences(response)]
        return bool(found) and all(a and b and a[-1] == b[0] for a, b in pairwise(found))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.punkt_sentences(response)
        ends = [s.rstrip(PUNCTUATION).lower().split() for s in found]
        starts = [s.lstrip(PUNCTUATION).lower().split() for s in found]
        return all(a and b and a[-1] == b[0] for a, b in zip(ends, starts[1:], strict=False))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has a sentence that does not begin with the last word of the one before"


@register
class WordIncrement(Public):
    """Each sentence has exactly ``small_n`` more words than the one before."""

    type = "sentence:increment"
    allows = AVOIDING
    arguments = ("small_n",)
    difficulty_hint = 4
    descriptions = (
        "Each sentence must contain exactly {small_n} more {words} than the previous one",
        "Let every sentence be {small_n} {words} longer than the sentence before it",
        "From sentence to sentence the number of words must grow by exactly {small_n}",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        counts = [measure.count_words(s) for s in measure.sentences(response)]
        return bool(counts) and all(b - a == int(kwargs["small_n"]) for a, b in pairwise(counts))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        counts = [len(unmarked(s).split()) for s in measure.punkt_sentences(response)]
        return all(b - a == int(kwargs["small_n"]) for a, b in pairwise(counts))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"small_n": rng.randint(1, 3)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        int(kwargs["small_n"])
        return Demands()

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "words": plural(kwargs["small_n"], "word")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has sentences of {[measure.count_words(s) for s in measure.sentences(response)]} words"


@register
class EmojiAtEnds(Public):
    """Every sentence has an emoji at its end, before or behind its punctuation mark."""

    type = "format:emoji"
    allows = PLAIN | {"length_constraints:number_sentences"}
    descriptions = (
        "Use an emoji at the end of every sentence",
        "End each sentence with an emoji",
        "Put an emoji at the end of all your sentences",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        pieces = [p for p in re.split(r"(?<=[.!?…])(?=\s)|\n+", response) if p.strip()]
        ends: list[bool] = []
        for piece in pieces:
            lead = re.match(r"[\s\W]*", piece)
            if ends and not ends[-1] and lead and count_emoji(lead.group()):
                ends[-1] = True  # the emoji follows the mark: "Nice. 🎉 Next one"
            if any(map(str.isalnum, piece)):
                tail = re.search(r"[\W_]*$", piece)
                ends.append(tail is not None and count_emoji(tail.group()) > 0)
        return bool(ends) and all(ends)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"emoji": Range(1)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has a sentence without an emoji at its end"


@register
class SameLength(Public):
    """Three sentences of equally many characters and without a common word (public checker: lengths only)."""

    type = "ratio:sentence_words"
    allows = AVOIDING
    difficulty_hint = 5
    descriptions = (
        "Respond with three sentences, all containing the same number of characters but using all different words",
        "Write exactly 3 sentences of equal length in characters that share no word",
        "Give three sentences with the same number of characters and no word in common",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.sentences(response)
        words = [word for sentence in found for word in set(no_marks(sentence))]
        return len(found) == 3 and len({len(s) for s in found}) == 1 and len(words) == len(set(words))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.punkt_sentences(response)
        return len(found) == 3 and len({len(s.strip()) for s in found}) == 1

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"sentences": Range(3, 3)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has sentences of {[len(s) for s in measure.sentences(response)]} characters, or common words"


@register
class AlphabetStory(Public):
    """Twenty-six sentences whose first letters are A to Z in order."""

    type = "custom:sentence_alphabet"
    composable = False
    only_read = "it is a task of its own, not a constraint on the answer to another request"
    difficulty_hint = 5
    descriptions = (
        "Tell a story of 26 sentences whose first words start with the letters of the alphabet in order",
        "Write 26 sentences, the first beginning with A, the second with B and so on to Z",
        "Write a 26-sentence story in which sentence 1 starts with A, sentence 2 with B, up to Z",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        firsts = [measure.first_word(s)[:1].lower() for s in measure.sentences(response)]
        return firsts == list("abcdefghijklmnopqrstuvwxyz")

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return [s.lstrip()[:1].lower() for s in measure.punkt_sentences(response)] == list("abcdefghijklmnopqrstuvwxyz")

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"sentences": Range(26, 26)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        firsts = "".join(measure.first_word(s)[:1] for s in measure.sentences(response))
        return f"has sentences that start with {firsts[:40]!r}"
