"""What a constraint demands of a response, in a vocabulary in which demands can be compared.

Each constraint type says once, as data, what a complying response must contain, must avoid, how long it may
be and who owns its first and last characters. Conflicts then follow by arithmetic (two disjoint word ranges,
a required word that is also forbidden, a capital letter in a marker under "lower case only") instead of from
a hand-kept table of pairs, so a new type conflicts correctly with all others on the day it is added.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Range:
    """How many of something; both ends inclusive, ``high=None`` is unbounded."""

    low: int = 0
    high: int | None = None

    def __and__(self, other: Range) -> Range:
        highs = [h for h in (self.high, other.high) if h is not None]
        return Range(max(self.low, other.low), min(highs) if highs else None)

    @property
    def empty(self) -> bool:
        return self.high is not None and self.high < self.low


@dataclass(frozen=True, slots=True)
class Demands:
    """The demands of one constraint; every field defaults to "demands nothing".

    Attributes:
        literals: strings that stand in the response exactly as written (markers, phrases, separators).
        words: words or phrases that must occur, case ignored.
        forbidden: words or phrases that must not occur, case ignored.
        forbidden_chars: characters that must not occur (``","``).
        case: the response is entirely lower or upper case.
        language: ISO 639-1 code of the whole response.
        starts: the response opens with this text.
        ends: the response closes with this text.
        owns: the form of the *whole* response (``json``, ``fixed_answer``, ``two_responses``...); two
            constraints may share a form only if it is equal.
        allows: with ``owns``, the types that still make sense inside that form; every other type conflicts.
        counts: ranges by unit: ``words``, ``sentences``, ``paragraphs``, ``capital_words``, ``bullets``,
            ``lines``, ``letter:x``, ``word:x``... Equal units of two constraints must intersect.
        exclusive: tags of which one response can carry only one (``separator``: what divides paragraphs).
    """

    literals: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    forbidden_chars: str = ""
    case: Literal["lower", "upper"] | None = None
    language: str | None = None
    starts: str | None = None
    ends: str | None = None
    owns: str | None = None
    allows: frozenset[str] = frozenset()
    counts: dict[str, Range] = field(default_factory=dict)
    exclusive: frozenset[str] = frozenset()
