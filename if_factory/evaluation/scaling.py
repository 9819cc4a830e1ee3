"""How a score grows with the number of training rows: w = alpha log N + C, by least squares.

Humpback compares data sources by alpha (arXiv 2308.06259, section 3.4: w is the win rate in per cent of a model
finetuned on N rows). The paper does not say which logarithm it takes, and alpha depends on it: 6.95 per e-fold is
16.00 per tenfold and 4.82 per doubling. So the base is part of the result here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.tables import markdown_table

Base = Literal["e", "2", "10"]
_LOG = {"e": math.log, "2": math.log2, "10": math.log10}
Point = tuple[int, float]  # (rows, score)


@dataclass(frozen=True, slots=True)
class Fit:
    """``alpha`` is in points of the score per factor ``base`` in rows, ``low`` and ``high`` its 95 % interval
    (``nan`` for two points); ``r2`` is the share of variance explained."""

    base: Base
    alpha: float
    intercept: float
    r2: float
    points: int
    low: float
    high: float

    def at(self, rows: float) -> float:
        return self.alpha * _LOG[self.base](rows) + self.intercept


def fit(points: Sequence[Point], base: Base = "e") -> Fit:
    """Least squares over ``(rows, score)``.

    Raises:
        UserError: fewer than two different numbers of rows, or one below 1.
    """
    from scipy import stats

    if len({n for n, _ in points}) < 2:
        raise UserError("a line needs runs at two different sizes at least", fix="train on more than one N")
    if bad := [n for n, _ in points if n < 1]:
        raise UserError(f"{bad[0]} rows have no logarithm", fix="N counts training rows, from 1")
    logs = [_LOG[base](n) for n, _ in points]
    line = stats.linregress(logs, [w for _, w in points])
    free = len(points) - 2
    half = float(stats.t.ppf(0.975, free) * line.stderr) if free else math.nan
    return Fit(base, float(line.slope), float(line.intercept), float(line.rvalue) ** 2, len(points),
               float(line.slope) - half, float(line.slope) + half)


def read_points(path: Path) -> dict[str, list[Point]]:
    """Points by series from rows ``{"n": rows, "score": per cent, "series": name}`` (``series`` may be left out).

    Raises:
        UserError: names the row and the field.
    """
    series: dict[str, list[Point]] = {}
    for n, row in read_rows(path):
        for field, ok in (("n", type(row.get("n")) is int), ("score", type(row.get("score")) in (int, float))):
            if not ok:
                raise UserError("expected a number", where=f"{path}:{n}: field '{field}'",
                                fix='a row is {"n": 800, "score": 51.2, "series": "curated"}')
        series.setdefault(str(row.get("series", "score")), []).append((row["n"], float(row["score"])))
    if not series:
        raise UserError("the file has no rows", where=str(path))
    return series


def markdown(fits: Mapping[str, Fit]) -> str:
    rows = []
    for name, f in fits.items():
        interval = "" if math.isnan(f.low) else f"[{f.low:.2f}, {f.high:.2f}]"
        rows.append((name, f"{f.alpha:.2f} per factor {f.base}", interval, f"{f.intercept:.2f}", f"{f.r2:.3f}",
                     f.points))
    return "\n".join(markdown_table(("series", "alpha", "95 % interval", "C", "R²", "points"), rows)) + "\n"
