"""What every word is like: letters, lengths, syllables, neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text.vocabulary import draw_keyword
from if_factory.constraints.types.public import AVOIDING, PLAIN, PUNCTUATION, Public, no_marks, treebank_words, unmarked

_PRIMES = frozenset((2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
                     97))
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_CLUSTER = re.compile("[bcdfghjklmnpqrstvwxyz]{2}")
# Verbs that open an instruction, and auxiliaries that open a question: enough to say yes, never to say no.
_VERBS = frozenset("""
    accept add allow am apply are arrange ask avoid bake be become begin believe boil break bring build buy
    calculate call can carry catch change check choose clean click close collect combine come compare compose
    consider cook could count create cut decide describe did discover divide do does draw drink drive eat enjoy
    ensure enter examine expect explain explore feel fill find finish fold follow forget gather get give go grab
    had has have heat help hold imagine include insert install is join keep know learn leave let listen look
    make mark may measure meet might mix move must note observe offer open order paint pay pick plan plant play
    pour practice prepare press print protect pull push put reach read receive recognize reduce remember remove
    repeat replace rest return rinse run save say see seek select send serve set shall share should show sit
    sleep slice solve speak spend spread sprinkle start stay stir stop store study take talk teach tell think
    throw train travel treat try turn understand unlock use visit wait walk was wash watch water were will work
    would wrap write
    """.split())  # noqa: SIM905


class _EveryWord(Public):
    def ok(self, words: list[str]) -> bool:
        raise NotImplementedError

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = no_marks(response)
        return bool(found) and self.ok(found)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self.ok(unmarked(response).lower().split())


@register
class AlphabetLoop(_EveryWord):
    """Each word starts with the letter after its predecessor's; A follows Z."""

    type = "words:alphabet"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "Each word must start with the next letter of the alphabet, looping back to A after Z",
        "Let the first letters of your words run through the alphabet in order, with A again after Z",
        "Start every word with the letter that follows the first letter of the word before it (A after Z)",
    )

    def ok(self, words: list[str]) -> bool:
        first = [word[0] for word in words]
        return bool(first) and first[0] in _ALPHABET and all(
            b == _ALPHABET[(_ALPHABET.index(a) + 1) % 26] if a in _ALPHABET else False for a, b in pairwise(first))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has a word that does not start with the next letter of the alphabet"


@register
class ThreeVowels(Public):
    """One paragraph whose letters include at most three of a, e, i, o, u."""

    type = "words:vowel"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "Write a paragraph using words that contain only three types of vowels",
        "Write one paragraph with at most three of the vowels a, e, i, o, u",
        "Use no more than three different vowels in a single paragraph",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = measure.plain(response).lower()
        return len(measure.paragraphs(response)) == 1 and len(set("aeiou") & set(text)) <= 3

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "\n" not in response.strip() and len(set("aeiou") & set(response.lower())) <= 3

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {len(measure.paragraphs(response))} paragraphs, the vowels " \
               f"{''.join(sorted(set('aeiou') & set(response.lower())))}"


@register
class ConsonantClusters(Public):
    """Every word has two consonants (all letters but a, e, i, o, u) side by side."""

    type = "words:consonants"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "Ensure each word in your response has at least one consonant cluster (two or more consonants together)",
        "Use only words with two or more consonants in a row",
        "Every word must contain two neighbouring consonants",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = no_marks(response)
        return bool(found) and all(map(_CLUSTER.search, found))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(map(_CLUSTER.search, response.lower().split()))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        word = next((w for w in no_marks(response) if not _CLUSTER.search(w)), "")
        return f"has '{word}' without such a cluster"


@register
class Palindromes(Public):
    """Ten palindromes of five letters or more; each word counts once (public checker: every occurrence)."""

    type = "words:palindrome"
    difficulty_hint = 5
    room = 10
    descriptions = (
        "Include at least 10 single-word palindromes, each at least 5 characters long",
        "Use ten or more words of five letters or more that read the same backwards",
        "Your response must contain at least ten palindromes of at least five letters each",
    )

    @staticmethod
    def _found(words: list[str]) -> list[str]:
        return [word for word in words if len(word) >= 5 and word == word[::-1]]

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len({word for word in self._found(no_marks(response)) if word.isalpha()}) >= 10

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(self._found(unmarked(response).lower().split())) >= 10

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"words": Range(10)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {len(set(self._found(no_marks(response))))} such palindromes, fewer than 10"


@register
class PrimeLengths(Public):
    """The number of letters of every word is a prime."""

    type = "words:prime_lengths"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "Use only words with lengths that are prime numbers",
        "Every word must have 2, 3, 5, 7, 11 or another prime number of letters",
        "The length of each word of your answer must be a prime number",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = no_marks(response)
        return bool(found) and all(len(re.sub(r"[\W_]", "", word)) in _PRIMES for word in found)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(len(word) in _PRIMES for word in unmarked(response).split())

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        wrong = next((w for w in no_marks(response) if len(re.sub(r"[\W_]", "", w)) not in _PRIMES), "")
        return f"has '{wrong}', whose length is no prime number"


@register
class StartVerb(Public):
    """The first word is a verb. Told only for common verbs; other words get no verdict, as that takes a tagger."""

    type = "words:start_verb"
    difficulty_hint = 2
    # It owns the first word; the checker knows English verbs.
    never_with = frozenset(("start", "first_word", "paragraph", "combination:repeat_prompt", "xml", "language",
                            "length_constraints:nth_paragraph_first_word", "format:output_template"))
    descriptions = (
        "The response must start with a verb",
        "Begin your response with a verb",
        "Make a verb the first word of the answer",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        word = measure.first_word(response).lower()
        if word in _VERBS:
            return True
        if word in ("a", "an", "the", "he", "she", "they", "we", "i", "my", "of", "in", "on", "at", "with", "and",
                    "this", "these", "those", "certainly", "sure", "yes", "no", "there", "to"):
            return False
        raise ValueError(f"whether '{word}' is a verb takes a part-of-speech tagger")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"begins with '{measure.first_word(response)}', no verb"


@register
class OddEvenSyllables(Public):
    """Words with odd and even numbers of syllables alternate. Where spelling leaves a count open, there is no
    verdict.
    """

    type = "words:odd_even_syllables"
    composable = False
    only_read = "spelling leaves the syllables of most English sentences open, so it would seldom get a verdict"
    descriptions = (
        "Alternate between words with odd and even numbers of syllables",
        "Let every word with an odd number of syllables be followed by one with an even number, and the reverse",
        "Neighbouring words must differ in whether their number of syllables is odd or even",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = [_parity(word) for word in no_marks(response)]
        if any(a is not None and a == b for a, b in pairwise(found)):
            return False
        if None in found:
            raise ValueError("the spelling does not tell the number of syllables of every word")
        return True

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has two neighbouring words whose numbers of syllables are both odd or both even"


def _parity(word: str) -> int | None:
    """Syllables modulo 2 by groups of vowels; ``None`` where a final e or two vowels together leave it open."""
    if not word.isascii() or not word.isalpha() or re.search(r"[aeiouy]{2}|(?:e|es|ed|ism)$", word):
        short = {"the": 1, "be": 1, "he": 1, "she": 1, "me": 1, "we": 1, "you": 1, "are": 1, "were": 1, "have": 1}
        return short.get(word)
    return len(re.findall("[aeiouy]+", word)) % 2 or (None if not re.search("[aeiouy]", word) else 0)


@register
class NoConsecutive(_EveryWord):
    """No two neighbouring words share their first letter."""

    type = "words:no_consecutive"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "No two consecutive words can share the same first letter",
        "Neighbouring words must start with different letters",
        "Never let two words in a row begin with the same letter",
    )

    def ok(self, words: list[str]) -> bool:
        return all(a[0] != b[0] for a, b in pairwise(words))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = next(((a, b) for a, b in pairwise(no_marks(response)) if a[0] == b[0]), ("", ""))
        return f"has '{found[0]} {found[1]}', which share a first letter"


@register
class ParagraphLastFirst(Public):
    """Every line that is not blank ends with the word it started with, case ignored."""

    type = "words:paragraph_last_first"
    difficulty_hint = 4
    allows = AVOIDING
    descriptions = (
        "Each paragraph must end with the same word it started with; separate paragraphs with a newline",
        "Start and end every paragraph with the same word, one paragraph per line",
        "The first and the last word of each paragraph must be the same; a line break ends a paragraph",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        lines = [found for line in measure.lines(response) if (found := no_marks(line))]
        return bool(lines) and all(found[0] == found[-1] for found in lines)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        lines = [line.strip().lower().strip(PUNCTUATION).split() for line in response.split("\n")]
        return all(found[0] == found[-1] for found in lines if found)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has a paragraph that does not end with its first word"


@register
class WordsPosition(Public):
    """The second word and the second to last word are ``keyword``, case ignored."""

    type = "words:words_position"
    difficulty_hint = 4
    allows = PLAIN - {"keywords:frequency"} | {"length_constraints:number_sentences"}
    arguments = ("keyword",)
    descriptions = (
        'The second word in your response and the second to last word should be "{keyword}"',
        'Make "{keyword}" both the second and the second to last word',
        'Your answer must have the word "{keyword}" in second place and in the place before the last word',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found, wanted = no_marks(response), measure.plain(kwargs["keyword"]).lower()
        return len(found) > 1 and found[1] == found[-2] == wanted

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found, wanted = [w.lower() for w in treebank_words(response)], kwargs["keyword"].lower()
        if len(found) < 2:
            return False
        if found[-1] in PUNCTUATION:
            return len(found) > 2 and found[1] == found[-3] == wanted
        return bool(found[1] == found[-2] == wanted)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"keyword": draw_keyword(rng, seed_prompt)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(words=(kwargs["keyword"],))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = no_marks(response)
        return f"has '{' '.join(found[1:2])}' second and '{' '.join(found[-2:-1])}' second to last"


@register
class WordsJapanese(Public):
    """Every ``N``-th word, by white space, holds a Japanese character; numbers are let pass."""

    type = "count:words_japanese"
    difficulty_hint = 4
    allows = AVOIDING
    arguments = ("N",)
    descriptions = (
        "Every {N}th word of your response must be in Japanese",
        "Write each {N}th word in Japanese",
        "Let every word whose position is a multiple of {N} be Japanese",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        n = int(kwargs["N"])
        words = [word.strip(PUNCTUATION) for word in response.split()]
        return all(re.search("[\u3040-\u30ff\u4e00-\u9fff]", word) for word in words[n - 1::n]
                   if word and not word.isdigit())

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"N": rng.randint(4, 8)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        int(kwargs["N"])
        return Demands()

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has a word at a multiple of {kwargs['N']} that is not Japanese"
