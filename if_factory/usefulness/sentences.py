"""Sentences as the usefulness rules take a text apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Begins with one set of characters, which the search skips to.
_SENTENCE_END = re.compile(r"[.!?…。！？\n](?:(?<=[.!?…])[\"'”’)\]*_]*\s+|(?<=[。！？])(?!$)|(?<=\n)\n*)")
MARKS = " \t\"'“”‘’«»()[]{}*_#>|~`-–—•·:;,.\\/=+<"


def sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Sentences with more than marks in them, each with whether it is the last; split lazily."""
    start, held = 0, ""
    while start < len(text):
        found = _SENTENCE_END.search(text, start + (text[start] == "\n"))  # a line break here ends no sentence
        stop = after = len(text)
        if found:
            stop, after = found.start(), found.end()
            stop += text[stop] != "\n"
        if text[start:stop].strip(MARKS):
            if held:
                yield held, False
            held = text[start:stop]
        start = after
    if held:
        yield held, True
