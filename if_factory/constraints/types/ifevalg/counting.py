"""How often words and letters occur, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

from if_factory.constraints import relations
from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text.vocabulary import draw_forbidden, draw_keyword, draw_keywords
from if_factory.constraints.types.ifeval.keywords import LetterFrequency
from if_factory.constraints.types.ifevalg.splitting import divided
from if_factory.constraints.types.public import AVOIDING, PLAIN, Public, no_marks, treebank_words

# What else says how often a word occurs, or a letter, of which a repeated word may hold many.
COUNTERS = frozenset(("keywords:existence", "keywords:frequency", "word:exact_count", "keywords:word_once",
                      "keywords:word_count_different_numbers", "count:count_increment_word",
                      "count:keywords_multiple", "keywords:letter_frequency", "letters:letter_counting2"))


@register
class WordOnce(Public):
    """``keyword`` occurs exactly once as a whole word."""

    type = "keywords:word_once"
    arguments = ("keyword",)
    difficulty_hint = 2
    never_with = COUNTERS
    descriptions = (
        'Include the keyword "{keyword}" exactly once',
        'Use the word "{keyword}" once in your response, and only once',
        'The word "{keyword}" should appear exactly one time',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.count_phrase(response, kwargs["keyword"]) == 1

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(re.findall(kwargs["keyword"], response, re.IGNORECASE)) == 1

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"keyword": draw_keyword(rng, seed_prompt)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={f"word:{kwargs['keyword'].lower()}": Range(1, 1)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = measure.count_phrase(response, kwargs["keyword"])
        return f'has the word "{kwargs["keyword"]}" {found} times, not once'


@register
class WordCountDifferent(Public):
    """``keyword`` occurs ``frequency`` times, by ``relation`` (exactly, where the row names none)."""

    type = "keywords:word_count_different_numbers"
    arguments = ("keyword", "frequency")
    never_with = COUNTERS
    descriptions = (
        'The word "{keyword}" should appear {bound} {times}',
        'Use the word "{keyword}" {bound} {times} in your response',
        'Mention "{keyword}" {bound} {times}',
    )

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        # With a relation: without one the public checker draws it.
        relation, frequency = relations.draw(rng, (2, 4), (2, 4))
        return {"keyword": draw_keyword(rng, seed_prompt), "relation": relation, "frequency": frequency}

    @staticmethod
    def _range(kwargs: Mapping[str, Any]) -> Range:
        return Range.of(kwargs.get("relation") or "exactly", int(kwargs["frequency"]))

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.count_phrase(response, kwargs["keyword"]) in self._range(kwargs)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(re.findall(kwargs["keyword"], response, re.IGNORECASE)) in self._range(kwargs)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={f"word:{kwargs['keyword'].lower()}": self._range(kwargs)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        n = kwargs["frequency"]
        return {"keyword": kwargs["keyword"], "bound": relations.bound(kwargs.get("relation") or "exactly", n),
                "times": relations.plural(n, "time")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'has the word "{kwargs["keyword"]}" {measure.count_phrase(response, kwargs["keyword"])} times'


@register
class ExcludeWord(Public):
    """``keyword`` does not occur as a whole word (public checker: not between two blanks, in this very case)."""

    type = "keywords:exclude_word_harder"
    arguments = ("keyword",)
    difficulty_hint = 2
    never_with = frozenset(("keywords:forbidden_words",))
    descriptions = (
        'Do not include the keyword "{keyword}" in the response',
        'The word "{keyword}" must not appear',
        'Avoid the word "{keyword}" altogether',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not measure.contains_phrase(response, kwargs["keyword"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return f" {kwargs['keyword']} " not in response

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        word = draw_forbidden(rng, seed_prompt)
        return {"keyword": word} if word else None

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden=(kwargs["keyword"],))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'uses the word "{kwargs["keyword"]}"'


@register
class NoAdjacentConsecutive(Public):
    """No word starts with the letter of the alphabet that follows the first letter of the word before it."""

    type = "keywords:no_adjacent_consecutive"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "No two adjacent words can start with consecutive letters of the alphabet",
        "Never let a word that starts with the next letter of the alphabet follow a word",
        "Two neighbouring words must not begin with letters that follow each other in the alphabet",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._ok(measure.words(response))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._ok(response.split())

    @staticmethod
    def _ok(found: list[str]) -> bool:
        first = [word[0].lower() for word in found]
        return all(len(b) == 1 == len(a) and ord(b) - ord(a) != 1 for a, b in pairwise(first))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has adjacent words that start with consecutive letters"


@register
class LowercaseCounting(Public):
    """At most ``N`` words are written all in small letters."""

    type = "count:lowercase_counting"
    arguments = ("N",)
    # A request that is repeated, tags and code are written as they are.
    never_with = frozenset(("change_case:english_lowercase", "combination:repeat_prompt", "xml", "code"))
    descriptions = (
        "Use at most {N} words in all lowercase letters",
        "Words in lowercase may appear at most {N} times in your response",
        "No more than {N} words of the response may be all lowercase",
    )

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"N": rng.randrange(10, 31, 5)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        int(kwargs["N"])
        return Demands()

    def _count(self, response: str) -> int:
        return sum(word.islower() for word in measure.words(response))

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._count(response) <= int(kwargs["N"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(re.findall(r"\b[a-z]+\b", response)) <= int(kwargs["N"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {self._count(response)} lowercase words, more than {kwargs['N']}"


@register
class LetterCounting(Public):
    """``relation`` (at least, less than) ``N`` letters."""

    type = "letters:letter_counting"
    arguments = ("relation", "N")
    # One measure of length is enough.
    never_with = frozenset(("length", "length_constraints:number_words", "length_constraints:number_sentences",
                            "sentence:max_words", "count:word_count_range", "count:unique_word_count"))
    descriptions = (
        "Answer with {bound} {letters}",
        "Your response should have {bound} {letters}",
        "Write {bound} {letters}, spaces and punctuation aside",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return relations.holds(sum(map(str.isalpha, measure.plain(response))), kwargs["relation"], kwargs["N"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return relations.holds(len(re.findall("[a-zA-Z]", response)), kwargs["relation"], kwargs["N"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        relation, n = relations.draw(rng, (2, 12), (4, 20))
        return {"relation": relation, "N": n * 50}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"letters": relations.as_range(kwargs["relation"], kwargs["N"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"bound": relations.bound(kwargs["relation"], kwargs["N"]),
                "letters": relations.plural(kwargs["N"], "letter")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        count = sum(map(str.isalpha, response))
        return relations.too_many_or_few(count, kwargs["relation"], kwargs["N"], "letter")


@register
class LetterCounting2(LetterFrequency):
    """IFEval's letter frequency under another id."""

    type = "letters:letter_counting2"
    by_default = False
    benchmark = "ifevalg"

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return replace(super().demands(kwargs), never_with=frozenset(("keywords:letter_frequency",)))


@register
class CountingComposition(Public):
    """Three paragraphs divided by ``***`` (``* * *``), each of ``n_sent`` sentences of ``n_words`` words."""

    type = "count:counting_composition"
    arguments = ("n_sent", "n_words")
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "Write 3 paragraphs, delimited by the Markdown divider * * *, with exactly {sentences} each, with "
        "exactly {n_words} words in each sentence",
        "Give three paragraphs divided by * * *, each of {sentences}, each sentence of {n_words} words",
        "Divide the response by * * * into 3 paragraphs of {sentences} each, with {n_words} words in each sentence",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = [p.strip() for p in re.split(r"(?m)(?:^|\s)\*[ \t]?\*[ \t]?\*(?:\s|$)", response) if p.strip()]
        return len(parts) == 3 and all(
            len(found := measure.sentences(part)) == int(kwargs["n_sent"])
            and all(measure.count_words(s) == int(kwargs["n_words"]) for s in found) for part in parts)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = re.split(r"\s?\*\*\*\s?", response)
        inner = parts[1 if not parts[0].strip() else 0:-1 if len(parts) > 1 and not parts[-1].strip() else None]
        if len(inner) != 3:
            return False
        # An empty part at either end has no sentences, so it fails where n_sent is not 0.
        return all(len(found := divided(part)) == int(kwargs["n_sent"])
                   and all(len(treebank_words(s)) == int(kwargs["n_words"]) for s in found) for part in parts)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"n_sent": rng.randint(1, 3), "n_words": rng.randint(5, 10)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        n = 3 * int(kwargs["n_sent"])
        return Demands(exclusive=frozenset({"separator"}), counts={
            "sentences": Range(n, n), "words": Range(n * int(kwargs["n_words"]), n * int(kwargs["n_words"]))})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "sentences": relations.count_of(kwargs["n_sent"], "sentence")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"is not 3 paragraphs of {kwargs['n_sent']} sentences of {kwargs['n_words']} words"


@register
class CountUnique(Public):
    """No word occurs twice, case ignored (public checker: no token, so a second full stop fails)."""

    type = "count:count_unique"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "Only use unique words in your response; no word should be repeated",
        "Do not use any word more than once",
        "Every word of your answer must be different from all others",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = no_marks(response)
        return len(found) == len(set(found))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = treebank_words(response)
        return len(found) == len(set(found))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = no_marks(response)
        twice = next((word for i, word in enumerate(found) if word in found[:i]), "")
        return f"repeats the word '{twice}'"


@register
class CountIncrement(Public):
    """``keyword1`` occurs once and ``keyword2`` twice, as whole words."""

    type = "count:count_increment_word"
    arguments = ("keyword1", "keyword2")
    never_with = COUNTERS
    descriptions = (
        'Include the keyword "{keyword1}" once and the keyword "{keyword2}" twice in your response',
        'Use "{keyword1}" exactly once and "{keyword2}" exactly twice',
        'The word "{keyword1}" should appear one time and the word "{keyword2}" two times',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return (measure.count_phrase(response, kwargs["keyword1"]) == 1
                and measure.count_phrase(response, kwargs["keyword2"]) == 2)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(len(re.findall(kwargs[name], response, re.IGNORECASE)) == n
                   for name, n in (("keyword1", 1), ("keyword2", 2)))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return dict(zip(self.arguments, draw_keywords(rng, seed_prompt, 2), strict=True))

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={f"word:{kwargs['keyword1'].lower()}": Range(1, 1),
                               f"word:{kwargs['keyword2'].lower()}": Range(2, 2)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return (f'has "{kwargs["keyword1"]}" {measure.count_phrase(response, kwargs["keyword1"])} times and '
                f'"{kwargs["keyword2"]}" {measure.count_phrase(response, kwargs["keyword2"])} times')


@register
class Palindrome(Public):
    """A word of three letters or more reads the same backwards (public checker: any token, so ``a`` will do)."""

    type = "keywords:palindrome"
    never_with = frozenset(("words:palindrome",))
    room = 1
    descriptions = (
        "Include a palindrome in your response",
        "Use at least one word that reads the same forwards and backwards",
        "Your response should contain a palindrome, such as level or noon",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = no_marks(response)
        if any(len(word) > 2 and word == word[::-1] and word.isalpha() for word in found):
            return True
        text = "".join(found)
        return len(text) > 6 and text == text[::-1]

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return any(word == word[::-1] for word in response.split())

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has no word of three letters or more that reads the same backwards"


@register
class KeywordPosition(Public):
    """The ``m``-th word of the ``n``-th sentence is ``keyword`` (both counted from 1)."""

    type = "keywords:keyword_specific_position"
    arguments = ("keyword", "n", "m")
    difficulty_hint = 4
    allows = PLAIN | {"length_constraints:number_sentences"}
    case = True
    divide = staticmethod(divided)
    descriptions = (
        'Include the keyword "{keyword}" in sentence {n}, as word {m} of that sentence',
        'Word {m} of sentence {n} must be "{keyword}"',
        'Put the word "{keyword}" in sentence number {n} as its word number {m}',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found, n, m = measure.sentences(response), int(kwargs["n"]), int(kwargs["m"])
        words = no_marks(found[n - 1]) if 0 < n <= len(found) else []
        return 0 < m <= len(words) and words[m - 1] == measure.plain(kwargs["keyword"]).lower()

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found, n, m = self.divide(response), int(kwargs["n"]), int(kwargs["m"])
        tokens = treebank_words(found[n - 1]) if n <= len(found) else []
        if not self.case:
            tokens = [t.lower() for t in tokens if any(map(str.isalnum, t))]
        wanted = kwargs["keyword"] if self.case else kwargs["keyword"].lower()
        return m <= len(tokens) and bool(tokens[m - 1] == wanted)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"keyword": draw_keyword(rng, seed_prompt), "n": rng.randint(1, 4), "m": rng.randint(1, 6)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        n, m = int(kwargs["n"]), int(kwargs["m"])
        return Demands(words=(kwargs["keyword"],), counts={"sentences": Range(n), "words": Range(n - 1 + m)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'does not have "{kwargs["keyword"]}" as word {kwargs["m"]} of sentence {kwargs["n"]}'


@register
class KeywordPositionIfbench(KeywordPosition):
    """IFBench's id for the same; its checker ignores case."""

    type = "words:keywords_specific_position"
    benchmark = "ifbench"
    case = False
    divide = staticmethod(measure.punkt_sentences)
