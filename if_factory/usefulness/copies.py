"""Answers that are a copy: of the text to work on, or of a worked example about something else."""

from __future__ import annotations

import re
from functools import cache

from if_factory.constraints.examples import worked_examples
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.repetition import runs_of
from if_factory.usefulness.words import content, words

_COPIES_RIGHTLY = re.compile(  # the right answer may be the given text, or its words in another order or form
    r"\b(?:correct|proofread|fix|edit|mend|sort|arrang|order|rearrang|reorder|alphabeti|format|convert|turn|punctuat|"
    r"capital|uppercase|lowercase|copy|repeat|quote|split|join|combin|list|type|transl|mistake|error|grammar|spelling|"
    r"scramble|fill)")
_LEAD_IN = re.compile(r"^[^:\n]{0,80}\b(?:here|this|following|answer|version|summary|rewritten|revised|is|are|"
                      r"would be)\b[^:\n]{0,40}:\s*")


def copies(asked: Asked, bare: str) -> bool:
    """Whether the answer is the text that it should have worked on, with nothing new and little left out."""
    source = asked.source
    if len(source) < 5 or len(bare) > 2 * len(asked.request) + 80:
        return False
    tokens = words(_LEAD_IN.sub("", bare.lower(), count=1))
    if not 0.8 * len(source) <= len(tokens) <= 1.2 * len(source) + 2:
        return False
    told = asked.request.lower().split('"', 1)[0].split(":", 1)[0]
    known, said = set(asked.words), set(tokens)
    if not content(said - known) and len(said & set(source)) >= 0.85 * len(set(source)):
        return tokens == list(source) and "correct" not in told if _COPIES_RIGHTLY.search(told) else True
    return False


_RUN = 6  # words in a row that no two answers on different subjects have in common by chance


@cache
def _examples() -> tuple[frozenset[tuple[str, ...]], tuple[tuple[frozenset[str], frozenset[tuple[str, ...]]], ...]]:
    """All runs of four words of the answers; of each worked example what it is about and its answer's runs of six."""
    found: list[tuple[frozenset[str], frozenset[tuple[str, ...]]]] = []
    fours: set[tuple[str, ...]] = set()
    for example in worked_examples():
        fours.update(runs_of(words(example.answer), 4))
        demanded = " ".join(str(v) for v in example.constraint.kwargs.values())
        found.append((frozenset(content(words(example.prompt))),
                      frozenset(runs_of(words(example.answer), _RUN)) - set(runs_of(words(demanded), _RUN))))
    return frozenset(fours), tuple(found)


def copies_example(asked: Asked, response: str) -> bool:
    """A small model that is shown how to keep bread fresh ends its advice on laptops with the bread's postscript."""
    tokens = words(response)
    fours, examples = _examples()
    # Six words in a row hold four that begin at a multiple of three.
    if fours.isdisjoint(zip(tokens[::3], tokens[1::3], tokens[2::3], tokens[3::3], strict=False)):
        return False
    said = set(runs_of(tokens, _RUN))
    shared = [(about, runs & said) for about, runs in examples if not runs.isdisjoint(said)]
    if not shared:
        return False
    given = set(runs_of(words(asked.prompt), _RUN))
    return any(runs - given and len(about & asked.stems) < 0.5 * len(about) for about, runs in shared)
