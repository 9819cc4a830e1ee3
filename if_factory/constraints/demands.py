"""What a constraint demands of a response, in a vocabulary in which demands can be compared.

Each constraint type says once, as data, what a complying response must contain, must avoid, how long it may
be and who owns its first and last characters. Conflicts then follow by arithmetic (two disjoint word ranges,
a required word that is also forbidden, a capital letter in a marker under "lower case only") instead of from
a hand-kept table of pairs, so a new type conflicts correctly with all others on the day it is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeVar


@dataclass(frozen=True, slots=True)
class Range:
    """How many of something; both ends inclusive, ``high=None`` is unbounded."""

    low: int = 0
    high: int | None = None

    @classmethod
    def of(cls, relation: str, n: int) -> Range:
        """``exactly``, ``at least``, ``at most`` or ``less than`` ``n``."""
        limits = {"exactly": (n, n), "at least": (n, None), "at most": (0, n), "less than": (0, n - 1)}
        return cls(*limits[relation])

    def __contains__(self, n: int) -> bool:
        return self.low <= n and (self.high is None or n <= self.high)

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
        literals: strings that stand in the response exactly as written (markers, phrases). What several
            constraints write adds up, so name each one: ``("SECTION 1", "SECTION 2")``.
        words: words or phrases that must occur, case ignored.
        forbidden: words or phrases that must not occur as whole words, case ignored.
        forbidden_chars: characters that must not occur (``","``).
        case: the response is entirely lower or upper case.
        language: ISO 639-1 code of the whole response.
        starts: the response opens with this text, case ignored (if its case counts, it is a literal too).
        ends: the response closes with this text, case ignored.
        owns: the form of the *whole* response (``json``, ``fixed_answer``, ``two_responses``...); two
            constraints may share a form only if it is equal.
        allows: with ``owns``, the types (``keywords:existence``) or families (``keywords``) that still make
            sense inside that form; every other type conflicts. Without ``owns`` the same for a constraint that
            shapes every word or sentence, of which empty means that any type may stand beside it.
        never_with: types or families that ask for the same, or for what cannot sensibly be had beside it. Like
            ``allows`` and ``room`` no contradiction in itself: ``conflict(strict=True)`` looks at none of them.
        room: how many words it takes beside those that others demand; adds up.
        counts: ranges by unit: ``words``, ``sentences``, ``paragraphs``, ``capital_words``, ``bullets``,
            ``lines``, ``characters``, ``numbers`` (runs of digits), ``sentence_words`` (words in each
            sentence), ``word_letters`` (letters in each word), ``line_characters``, ``repeated_starts``
            (sentences beginning like an earlier one), ``letter:x``, ``word:x``... Equal units of two
            constraints must intersect.
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
    never_with: frozenset[str] = frozenset()
    room: int = 0
    counts: dict[str, Range] = field(default_factory=dict)
    exclusive: frozenset[str] = frozenset()


class Unsatisfiable(Exception):
    """Demands that cannot hold together; the text says why."""


def merge(parts: Iterable[Demands]) -> Demands:
    """The demands of a whole set of constraints, as one (but for ``allows`` and ``never_with``, about types).

    Raises:
        Unsatisfiable: two parts contradict each other field by field. What only shows across fields (a
            forbidden word in a required phrase) is ``contradictions.conflict``'s to find.
    """
    parts = list(parts)
    counts: dict[str, Range] = {}
    exclusive: set[str] = set()
    for part in parts:
        for unit, limit in part.counts.items():
            counts[unit] = limit = counts.get(unit, Range()) & limit
            if limit.empty:
                raise Unsatisfiable(f"no number of {unit} is both at least {limit.low} and at most {limit.high}")
        if shared := exclusive & part.exclusive:
            raise Unsatisfiable(f"two constraints decide the {min(shared)}")
        exclusive |= part.exclusive
    return Demands(
        literals=tuple(dict.fromkeys(text for part in parts for text in part.literals)),
        words=tuple(dict.fromkeys(word for part in parts for word in part.words)),
        forbidden=tuple(dict.fromkeys(word for part in parts for word in part.forbidden)),
        forbidden_chars="".join(sorted({char for part in parts for char in part.forbidden_chars})),
        case=_only("case", (part.case for part in parts)),
        language=_only("language", (part.language for part in parts)),
        owns=_only("form", (part.owns for part in parts)),
        starts=_longest("start", [part.starts for part in parts if part.starts], backwards=False),
        ends=_longest("end", [part.ends for part in parts if part.ends], backwards=True),
        counts=counts, exclusive=frozenset(exclusive), room=sum(part.room for part in parts))


V = TypeVar("V", bound=str)


def _only(what: str, values: Iterable[V | None]) -> V | None:
    found = sorted({value for value in values if value is not None})
    if len(found) > 1:
        raise Unsatisfiable(f"one response has one {what}, not both {found[0]} and {found[1]}")
    return found[0] if found else None


def _longest(edge: str, texts: list[str], *, backwards: bool) -> str | None:
    """The text that every other one is a beginning (or an ending) of, whole words only, case ignored.

    Quotation marks around the whole response stand outside what opens and closes it, so they never clash.
    """
    quote = '"' if any(text.endswith('"') if backwards else text.startswith('"') for text in texts) else ""
    bare = sorted({text.strip('"').strip() for text in texts} - {""}, key=lambda text: (len(text), text))
    for short, long in pairwise(bare):
        cut = long[-len(short):] if backwards else long[:len(short)]
        inside = long[:-len(short)][-1:] + short[:1] if backwards else short[-1:] + long[len(short):][:1]
        if cut.lower() != short.lower() or re.fullmatch(r"\w\w", inside):
            raise Unsatisfiable(f"the response cannot {edge} with both {short!r} and {long!r}")
    longest = bare[-1] if bare else ""
    if quote and longest and (longest[-1] if backwards else longest[0]) in "<>{}[]#|":
        raise Unsatisfiable(f"the response cannot {edge} with both a quotation mark and {longest!r}")
    return (longest + quote if backwards else quote + longest) or None
