"""Bins by measured difficulty: what a model always or never solves set apart, the rest from easy to hard."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from if_factory.errors import UserError
from if_factory.records import Example
from if_factory.training.bins import split_places

By = Literal["count", "pass_rate", "both"]
ALWAYS, NEVER, UNMEASURED = "always_solved", "never_solved", "unmeasured"
APART = (ALWAYS, NEVER, UNMEASURED)
RateOf = Callable[[Example], float | None]


def names_apart(given: Collection[str]) -> tuple[str, ...]:
    """The names of ``APART`` in ``given``, in order.

    Raises:
        UserError: another name.
    """
    if unknown := sorted(set(given) - set(APART)):
        raise UserError(f"there are no rows called '{unknown[0]}'", where="--keep", fix="one of: " + ", ".join(APART))
    return tuple(name for name in APART if name in given)


def measured_places(rates: Sequence[float | None], own: Sequence[float], number: int, by: By,
                    keep: Collection[str] = ()) -> tuple[list[Sequence[int]], dict[str, Sequence[int]]]:
    """``number`` bins of about equal size by pass rate, or by pass rate and the method's own difficulty: the places
    (from 0) of the rows in each, and of those set apart, by name.

    ``both`` orders by the mean of the two ranks. All answers right or all wrong say only that a prompt is easier or
    harder than k answers can show: such rows are set apart, and so are rows without a rate.

    Args:
        own: the method's own difficulties.
        keep: of ``APART``, what goes into the bins all the same: always solved ones are the easiest, never solved
            ones the hardest, unmeasured ones count as solved half the time.
    """
    apart = {name: array("I") for name in APART}
    left, hard = array("I"), array("d")
    for place, rate in enumerate(rates):
        name = UNMEASURED if rate is None else ALWAYS if rate >= 1 else NEVER if rate <= 0 else ""
        if name and name not in keep:
            apart[name].append(place)
        else:
            left.append(place)
            hard.append(1 - (0.5 if rate is None else rate))
    if by == "both":
        hard = array("d", map(float.__add__, _ranks(hard), _ranks([own[place] for place in left])))
    if len(left) >= number:
        bins: list[Sequence[int]] = [array("I", (left[i] for i in places)) for places in split_places(hard, number)]
    else:
        order = sorted(range(len(left)), key=lambda i: hard[i])
        bins = [*([left[i]] for i in order), *([] for _ in range(number - len(left)))]
    return bins, dict(apart)


def _ranks(values: Sequence[float]) -> list[float]:
    """Twice the mean rank of each value, equal values sharing one; whole numbers, so that sums compare exactly."""
    place: dict[float, tuple[int, int]] = {}
    for i, value in enumerate(sorted(values)):
        first, _ = place.get(value, (i, i))
        place[value] = (first, i)
    return [float(sum(place[v])) for v in values]
