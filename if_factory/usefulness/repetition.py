"""Texts that go round in circles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from if_factory.usefulness.sentences import MARKS, sentences
from if_factory.usefulness.words import content, words


@lru_cache(maxsize=64)  # the records of one text come together
def loops(text: str) -> bool:
    """Whether a text goes round in circles: most runs of four words, or most lines, were there before."""
    tokens = text.casefold().split()
    if len(tokens) >= 30:
        runs = len(tokens) - 3
        if len(dict.fromkeys(pairwise(tokens[:runs + 1]))) > 0.75 * runs:  # faster than a set, which grows more often
            return False  # so many runs at least begin with different pairs
        new = len(set(runs_of(tokens, 4)))
        if new < 0.5 * runs or new > 0.75 * runs:
            return new < 0.5 * runs
    elif len(tokens) < 3:
        return len(tokens) == 1 and len(text) > 60 and len(set(text)) < 6
    lines = [s for s in (s.strip(MARKS) for s in _LINE.split(text.casefold())) if s and not s.isdigit()]
    if len(lines) >= 3:
        line, count = Counter(lines).most_common(1)[0]
        if count >= 3 and count * (len(line) + 1) >= 0.6 * sum(len(s) + 1 for s in lines):
            return True
    return len(tokens) >= 8 and len(set(tokens)) <= len(tokens) // 5


_LINE = re.compile(r"[.!?。！？\n]+")


def distinct(text: str) -> float:
    """Share of the runs of four words that were not there before: distinct-4 (Li et al. 2016); 1 below four words."""
    tokens = text.casefold().split()
    runs = len(tokens) - 3
    return len(set(runs_of(tokens, 4))) / runs if runs > 0 else 1.0


def same_sentence(text: str, request: str) -> bool:
    """Whether half of the sentences, four or more, begin and say the same with other numbers, units or times.

    "Soak it for ten minutes. Soak it again for one hour. Soak it for 24 hours. ..." A refrain is none: it stays as it
    is. Where the request holds a number or asks to count, such lines may be the answer.
    """
    if text.count(".") + text.count("\n") < _LEAST_SAME - 1:
        return False
    # They begin with the same word, or with the same mark of a list: all other texts need no closer look.
    begins = Counter(line.split(None, 1)[0] for line in _LINE.split(text.casefold()) if line and not line.isspace())
    if not begins or max(begins.values()) < _LEAST_SAME or _COUNTS.search(request.lower()):
        return False
    found = [content(words(sentence)) for sentence, _ in sentences(text)]
    if len(found) < _LEAST_SAME:
        return False
    said: dict[frozenset[str], list[frozenset[str]]] = {}
    for own in found:
        amounts = frozenset(w for w in own if w in _AMOUNTS or w.isdigit())
        said.setdefault(frozenset(own) - amounts, []).append(amounts)
    return any(same and 2 * len(of) >= len(found) and len(of) >= _LEAST_SAME and len(set(of)) >= _LEAST_SAME - 1
               for same, of in said.items())


_LEAST_SAME = 4
_AMOUNTS = frozenset(content(words("""
    one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty hundred
    thousand first second third fourth fifth sixth seventh next last half quarter seconds minutes hours days weeks
    months years times time twice degrees
    """)))
_COUNTS = re.compile(r"\d|\b(?:count|numbers?|calculat|comput|multipl|times table|schedule|timetable|arithmetic|math)")


def runs_of(tokens: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[i:] for i in range(length)), strict=False)
