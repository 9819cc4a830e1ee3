"""The two relations of IFEval's counting types, and the wording that goes with a number."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from if_factory.constraints.demands import Range

AT_LEAST = "at least"
LESS_THAN = "less than"


def holds(count: int, relation: Any, n: Any) -> bool:
    """``count >= n`` for "at least", ``count < n`` for "less than".

    Raises:
        ValueError: another relation (a checker that raises is ``no_verdict``, never a silent pass).
    """
    if relation not in (AT_LEAST, LESS_THAN):
        raise _unknown(relation)
    return count >= int(n) if relation == AT_LEAST else count < int(n)


def as_range(relation: Any, n: Any) -> Range:
    """The same relation as a range of counts; ``less than 0`` is empty.

    Raises:
        ValueError: another relation, or ``n`` is no number.
    """
    if relation not in (AT_LEAST, LESS_THAN):
        raise _unknown(relation)
    return Range(int(n), None) if relation == AT_LEAST else Range(0, int(n) - 1)


def _unknown(relation: Any) -> ValueError:
    return ValueError(f"unknown relation {relation!r}; expected '{AT_LEAST}' or '{LESS_THAN}'")


def draw(rng: Random, at_least: tuple[int, int], less_than: tuple[int, int]) -> tuple[str, int]:
    """A relation and a number from that relation's own range (both ends included)."""
    if rng.random() < 0.5:
        return AT_LEAST, rng.randint(*at_least)
    return LESS_THAN, rng.randint(*less_than)


def bound(relation: Any, n: Any) -> str:
    """``at least 3`` or ``fewer than 3``: what stands before something one can count."""
    return f"{'fewer than' if relation == LESS_THAN else relation} {n}"


def plural(n: Any, one: str, many: str | None = None) -> str:
    """The noun for a number: ``1 sentence``, ``3 sentences``."""
    return one if int(n) == 1 else many or one + "s"


def count_of(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {plural(n, one, many)}"


def quoted(items: Sequence[str]) -> str:
    """``"a"``, ``"a" and "b"``, ``"a", "b" and "c"``."""
    marked = [f'"{item}"' for item in items]
    return marked[0] if len(marked) == 1 else ", ".join(marked[:-1]) + " and " + marked[-1]


def too_many_or_few(count: int, relation: Any, n: Any, one: str, many: str | None = None) -> str:
    return f"has {count_of(count, one, many)}; {bound(relation, n)} were asked for"
