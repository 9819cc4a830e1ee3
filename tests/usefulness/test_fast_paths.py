"""The usefulness rules' short cuts give what the plain patterns they stand for give."""

from __future__ import annotations

import random
import re

from if_factory.usefulness.rules import _MARKS, _sentences
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
            if text[start:stop].strip(_MARKS):
                wanted.append(text[start:stop])
            start = after
        assert [sentence for sentence, _ in _sentences(text)] == wanted, repr(text)
