"""Bins of difficulty: rows shared out from easy to hard."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from if_factory.errors import UserError
from if_factory.records import Example

E = TypeVar("E", bound=Example)


def bin_names(k: int) -> list[str]:
    """``easy, hard`` for two bins, ``1 .. k`` otherwise (``all`` for one)."""
    return ["all"] if k == 1 else ["easy", "hard"] if k == 2 else [str(i + 1) for i in range(k)]


def split_bins(examples: Sequence[E], k: int, difficulty: Sequence[float] | None = None) -> list[list[E]]:
    """``split_places`` of examples, by their own difficulty if no other is given."""
    hard = [e.difficulty for e in examples] if difficulty is None else difficulty
    return [[examples[i] for i in places] for places in split_places(hard, k)]


def cut_bins(examples: Sequence[E], uppers: Sequence[float]) -> list[list[E]]:
    """``cut_places`` of examples, by their own difficulty."""
    return [[examples[i] for i in places] for places in cut_places([e.difficulty for e in examples], uppers)]


def split_places(hard: Sequence[float], k: int) -> list[Sequence[int]]:
    """The places (from 0) of rows with these difficulties in ``k`` bins of about equal size, easiest first, each in
    the order given.

    Rows of one difficulty stay together: a cut falls between two difficulties, at the one nearest to an equal
    share. Only if there are fewer difficulties than bins is a difficulty shared out, in the order given.

    Raises:
        UserError: fewer rows than bins.
    """
    if k < 1:
        raise ValueError("k counts bins and is at least 1")
    if len(hard) < k:
        raise UserError(f"{len(hard)} rows cannot fill {k} bins", fix="make more rows, or use fewer bins")
    order, ends = array("I"), []
    groups = _by_difficulty(hard)
    for _, places in groups:
        order.extend(places)
        ends.append(len(order))
    possible: Sequence[int] = range(1, len(order) + 1) if len(groups) < k else ends
    cuts = [0]
    for b in range(1, k):
        # leave a group for every later bin
        open_ends = possible[bisect_right(possible, cuts[-1]):][: -(k - b) or None]
        cuts.append(min(open_ends, key=lambda e: abs(e - len(order) * b / k)))
    cuts.append(len(order))
    bin_of = array("I", bytes(4 * len(order)))
    for b, (start, stop) in enumerate(pairwise(cuts)):
        for at in range(start, stop):
            bin_of[order[at]] = b
    bins = [array("I") for _ in range(k)]
    for place, b in enumerate(bin_of):
        bins[b].append(place)
    return list(bins)


def cut_places(hard: Sequence[float], uppers: Sequence[float]) -> list[Sequence[int]]:
    """The places of rows in ``len(uppers) + 1`` bins: up to the first difficulty, up to the second, ..., the rest;
    some may be empty.

    Each goes from easy to hard, for stages that keep their order; rows of one difficulty stay in the order given.
    """
    limits = [*uppers, float("inf")]
    bins = [array("I") for _ in limits]
    for difficulty, places in _by_difficulty(hard):
        bins[bisect_left(limits, difficulty)].extend(places)
    return list(bins)


def _by_difficulty(hard: Sequence[float]) -> list[tuple[float, array[int]]]:
    """Each difficulty, easiest first, with the places of its rows: 4 bytes a row, where sorting takes 36."""
    found: dict[float, array[int]] = {}
    for place, difficulty in enumerate(hard):
        found.setdefault(difficulty, array("I")).append(place)
    return sorted(found.items(), key=lambda each: each[0])


def read_bins(text: str) -> int | list[float]:
    """``3`` is a number of bins of about equal size; ``1-3,4-5`` or ``1,2-3,4-5`` are bins by difficulty.

    Returns:
        The number, or the upper difficulty of every bin but the last, as ``cut_bins`` takes them: what is easier
        than the first bin goes into it, what is harder than the last into that.

    Raises:
        UserError: neither, or bins that overlap or leave a gap.
    """
    how = "give a number of bins (2), or bins by difficulty (1-3,4-5)"
    if re.fullmatch(r"\d+", text):
        if int(text) < 1:
            raise UserError("expected at least one bin", where=f"--bins {text}", fix=how)
        return int(text)
    found = [re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()) for part in text.split(",")]
    spans = [(int(m[1]), int(m[2] or m[1])) for m in found if m]
    if len(spans) < len(found) or any(low > high for low, high in spans):
        raise UserError("cannot read these bins", where=f"--bins {text}", fix=how)
    for (_, high), (low, _) in pairwise(spans):
        if low != high + 1:
            raise UserError(f"after {high} the next bin begins at {high + 1}, not {low}", where=f"--bins {text}",
                            fix=how)
    return [float(high) for _, high in spans[:-1]]
