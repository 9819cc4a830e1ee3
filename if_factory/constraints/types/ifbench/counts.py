"""How many of something."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import count_of
from if_factory.constraints.text.vocabulary import draw_keywords
from if_factory.constraints.types.extra.counts import WordRange
from if_factory.constraints.types.ifevalg.counting import COUNTERS
from if_factory.constraints.types.public import PLAIN, PUNCTUATION, Public, no_marks, treebank_words, unmarked

_CONJUNCTIONS = frozenset(("and", "but", "for", "nor", "or", "so", "yet"))
_PRONOUNS = frozenset("""
    i me we us you he him she her it they them my mine our ours your yours his hers its their theirs myself
    ourselves yourself yourselves himself herself itself themselves this that these those who whom whose which
    what whoever whomever whatever whichever anybody anyone anything everybody everyone everything nobody
    nothing somebody someone something each either neither both all some any none
    """.split())  # noqa: SIM905
_NAMES = tuple("""
    Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin
    Harper Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria
    Elijah Layla Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan
    Stella Jonathan
    """.split())  # noqa: SIM905


def plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


class _AtLeast(Public):
    """At least ``N`` of something."""

    argument = "N"
    noun = ""
    drawn: ClassVar[range]

    def count(self, response: str) -> int:
        raise NotImplementedError

    def count_compat(self, response: str) -> int:
        return self.count(response)

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self.count(response) >= int(kwargs[self.argument])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self.count_compat(response) >= int(kwargs[self.argument])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {self.argument: rng.choice(self.drawn)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        n = int(kwargs[self.argument])
        return Demands(counts={"words": Range(n)}, room=n)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {self.count(response)} {self.noun}, fewer than {kwargs[self.argument]}"


@register
class WordCountRange(Public):
    """Between ``min_words`` and ``max_words`` words, both included."""

    type = "count:word_count_range"
    never_with = frozenset(("length:word_range", "length:exact_words", "length_constraints:number_words"))
    arguments = ("min_words", "max_words")
    descriptions = (
        "The response must contain between {min_words} and {max_words} words",
        "Write between {min_words} and {max_words} words",
        "Keep your answer to {min_words} to {max_words} words",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return int(kwargs["min_words"]) <= measure.count_words(response) <= int(kwargs["max_words"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return int(kwargs["min_words"]) <= len(plain_words(response)) <= int(kwargs["max_words"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return WordRange().sample(rng, seed_prompt)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"words": Range(int(kwargs["min_words"]), int(kwargs["max_words"]))})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {measure.count_words(response)} words, not {kwargs['min_words']} to {kwargs['max_words']}"


@register
class UniqueWords(_AtLeast):
    """At least ``N`` different words, case ignored."""

    type = "count:unique_word_count"
    drawn = range(20, 61, 10)
    never_with = frozenset(("language",))
    arguments = ("N",)
    noun = "different words"
    descriptions = (
        "Use at least {N} unique words in the response",
        "Your response must contain {N} or more different words",
        "Write with a vocabulary of at least {N} different words",
    )

    def count(self, response: str) -> int:
        return len(set(no_marks(response)))

    def count_compat(self, response: str) -> int:
        return len({word.strip(PUNCTUATION) for word in response.lower().split()})


@register
class Conjunctions(_AtLeast):
    """At least ``small_n`` different ones of and, but, for, nor, or, so, yet."""

    type = "count:conjunctions"
    drawn = range(2, 6)
    never_with = frozenset(("language",))
    arguments = ("small_n",)
    argument = "small_n"
    noun = "different coordinating conjunctions"
    descriptions = (
        "Use at least {small_n} different coordinating conjunctions in the response",
        "Your response must contain {small_n} or more different ones of and, but, for, nor, or, so, yet",
        "Include no fewer than {small_n} different coordinating conjunctions",
    )

    def count(self, response: str) -> int:
        return len(_CONJUNCTIONS & set(no_marks(response)))

    def count_compat(self, response: str) -> int:  # "And," and "and" are two to the public checker
        return len({w for w in response.split() if w.strip(PUNCTUATION).lower() in _CONJUNCTIONS})


@register
class PersonNames(_AtLeast):
    """At least ``N`` different first names of the benchmark's list of fifty."""

    type = "count:person_names"
    drawn = range(2, 6)
    never_with = frozenset(("change_case:english_capital", "change_case:english_lowercase"))
    arguments = ("N",)
    noun = "of the listed names"
    descriptions = (
        "Mention at least {N} different person names from this list: " + ", ".join(_NAMES),
        "Use {N} or more different names out of these: " + ", ".join(_NAMES),
        "At least {N} of the following names must occur: " + ", ".join(_NAMES),
    )

    def count(self, response: str) -> int:
        return sum(re.search(rf"\b{name}\b", response) is not None for name in _NAMES)


@register
class Numbers(Public):
    """Exactly ``N`` numbers in digits; ``3.50`` and ``1,000`` are one each."""

    type = "count:numbers"
    # Numbered items and sections are numbers too, and a request may hold some.
    never_with = frozenset(("list:numbered_items", "detectable_format:multiple_sections", "combination:repeat_prompt"))
    arguments = ("N",)
    descriptions = (
        "Include exactly {numbers} in the response",
        "Your response must contain exactly {numbers}, written in digits",
        "Write {numbers} in digits, no more and no fewer",
    )

    def _count(self, response: str) -> int:
        return len(re.findall(r"\d+(?:[.,:/]\d+)*", response))

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._count(response) == int(kwargs["N"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(re.findall(r"\d+", unmarked(response))) == int(kwargs["N"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"N": rng.randint(1, 6)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"numbers": Range(int(kwargs["N"]))},
                       exclusive=frozenset({"numbers in the response"}))

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "numbers": count_of(kwargs["N"], "number")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {self._count(response)} numbers instead of {kwargs['N']}"


@register
class Pronouns(_AtLeast):
    """At least ``N`` pronouns, counting every occurrence."""

    type = "count:pronouns"
    drawn = range(3, 13)
    never_with = frozenset(("language",))
    arguments = ("N",)
    noun = "pronouns"
    descriptions = (
        "The response should include at least {N} pronouns",
        "Use {N} or more pronouns",
        "Your answer must contain no fewer than {N} pronouns",
    )

    def count(self, response: str) -> int:
        return sum(word.split("'")[0] in _PRONOUNS for word in no_marks(response))

    def count_compat(self, response: str) -> int:
        return sum(word in _PRONOUNS for word in treebank_words(response.lower().replace("/", " ")))


@register
class Punctuation(Public):
    """``.``, ``,``, ``!``, ``?``, ``;``, ``:`` and an interrobang (``?!``, ``!?`` or ``‽``) all occur."""

    type = "count:punctuation"
    room = 6
    never_with = frozenset(("length_constraints:number_sentences", "sentence:distinct_starts"))
    descriptions = (
        "Use every standard punctuation mark at least once, including semicolons, colons and the interrobang (?!)",
        "Your response must contain . , ! ? ; : and the interrobang (?!)",
        "Include each of the marks . , ! ? ; : and an interrobang at least once",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        if not re.search(r"\?!|!\?|‽", response):
            return False
        rest = re.sub(r"\?!|!\?", "", response, count=1)
        return all(mark in rest for mark in ".,!?;:")

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        rest = response.replace("?!", "", 1)
        rest = response.replace("!?", "", 1) if rest == response else rest
        return re.search(r"\?!|!\?|‽", response) is not None and all(mark in rest for mark in ".,!?;:")

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=(".", ",", "!", "?", ";", ":"))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        missing = [mark for mark in (".", ",", "!", "?", ";", ":") if mark not in response]
        return f"lacks {' '.join(missing) or 'an interrobang beside the single marks'}"


@register
class WordRepeats(Public):
    """No word occurs more than ``small_n`` times, case ignored."""

    type = "words:repeats"
    difficulty_hint = 4
    allows = PLAIN | {"length_constraints:number_sentences"}
    arguments = ("small_n",)
    descriptions = (
        "The response should not repeat any word more than {small_n} times",
        "Use no word more than {small_n} times",
        "Each word may occur at most {small_n} times in your answer",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return max(Counter(no_marks(response)).values(), default=0) <= int(kwargs["small_n"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return max(Counter(unmarked(response.lower()).split()).values(), default=0) <= int(kwargs["small_n"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"small_n": rng.randint(3, 5)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"word_repeats": Range(0, int(kwargs["small_n"]))})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        word, n = Counter(no_marks(response)).most_common(1)[0]
        return f"uses '{word}' {n} times, more than {kwargs['small_n']}"


@register
class KeywordsMultiple(Public):
    """Five keywords occur 1, 2, 3, 5 and 7 times, as whole words."""

    type = "count:keywords_multiple"
    difficulty_hint = 5
    never_with = COUNTERS
    arguments = ("keyword1", "keyword2", "keyword3", "keyword4", "keyword5")
    times = (1, 2, 3, 5, 7)
    descriptions = (
        'Include the keyword "{keyword1}" once, "{keyword2}" twice, "{keyword3}" three times, "{keyword4}" five '
        'times and "{keyword5}" seven times',
        'Use "{keyword1}" 1 time, "{keyword2}" 2 times, "{keyword3}" 3 times, "{keyword4}" 5 times and '
        '"{keyword5}" '
        '7 times',
        'Your response must contain "{keyword1}" exactly once, "{keyword2}" exactly twice, "{keyword3}" exactly '
        'three times, "{keyword4}" exactly five times and "{keyword5}" exactly seven times',
    )

    def _pairs(self, kwargs: Mapping[str, Any]) -> list[tuple[str, int]]:
        return [(kwargs[name], n) for name, n in zip(self.arguments, self.times, strict=True)]

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(measure.count_phrase(response, word) == n for word, n in self._pairs(kwargs))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(response.lower().count(word.lower()) == n for word, n in self._pairs(kwargs))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return dict(zip(self.arguments, draw_keywords(rng, seed_prompt, 5), strict=True))

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={f"word:{word.lower()}": Range(n, n) for word, n in self._pairs(kwargs)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return ", ".join(f'"{word}" {measure.count_phrase(response, word)} times instead of {n}'
                         for word, n in self._pairs(kwargs) if measure.count_phrase(response, word) != n)
