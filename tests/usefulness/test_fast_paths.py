"""The usefulness rules' short cuts give what the plain patterns they stand for give."""

from __future__ import annotations

import random
import re

from if_factory.constraints.join import sentence
from if_factory.records import Constraint
from if_factory.usefulness.sentences import MARKS, sentences
from if_factory.usefulness.strip import _LEAD, _OWN_WORD, request_of
from if_factory.usefulness.words import WORD, words

_PIECES = ("word", "Don't", "it’s", "'quoted'", "a''b", "3.5", "x_y", "é", "ﬁn", "東京", "ไทย", ".", "!", "?\"", "…",
           "。", "？", " ", "\n", "\n\n", "\t", ")", "*", "]", "\x1c", "-", "")


def _texts() -> list[str]:
    rng = random.Random(3)
    return ["".join(rng.choices(_PIECES, k=rng.randrange(1, 14))) for _ in range(4000)]


def test_words_are_those_of_the_pattern() -> None:
    for text in (*_texts(), "".join(map(chr, range(256)))):
        assert words(text) == WORD.findall(text.casefold().replace("’", "'")), repr(text)


def test_sentences_end_where_the_plain_pattern_says() -> None:
    ends = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+|(?<=[。！？])(?!$)|\n+")
    for text in _texts():
        wanted, start = [], 0
        while start < len(text):
            found = ends.search(text, start + 1)
            stop, after = found.span() if found else (len(text), len(text))
            if text[start:stop].strip(MARKS):
                wanted.append(text[start:stop])
            start = after
        assert [sentence for sentence, _ in sentences(text)] == wanted, repr(text)


def test_constraints_are_taken_out_of_a_prompt_as_by_a_pattern_for_each() -> None:
    rng = random.Random(5)
    pieces = ("Write", "a", "poem.", "Use", "(two)", "lines", "\n", "\n  ", " ", "\t", "\x1c", "\u2028", "!", "+")

    def text(most: int) -> str:
        return " ".join(rng.choices(pieces, k=rng.randrange(1, most)))

    def plain(prompt: str, stated: str) -> str:
        left = prompt
        for form in (sentence(stated), stated):
            if form in left:
                left = left.replace(form, "")
                break
        else:
            left = re.sub(r"\s+".join(map(re.escape, stated.split())) + r"[.!]?", "", left, count=1)
        if "\n" in left or _LEAD.match(left):
            left = _LEAD.sub("", left)
        return left.strip() if _OWN_WORD.search(left) else prompt.strip()

    for _ in range(4000):
        prompt, stated = text(12), text(4).strip()
        if stated:
            constraint = Constraint(type="own:kind", text=stated, kind="judge")
            assert request_of(prompt, [constraint]) == plain(prompt, stated), (prompt, stated)
