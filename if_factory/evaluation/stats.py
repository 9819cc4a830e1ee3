"""Intervals and tests for rates and means, all from scipy. Pure functions, seeded, nothing about models here.

Prompts are independent of each other; the constraints of one prompt are not (one answer decides them all). So
the prompt level gets Wilson's interval and McNemar's test, and whatever is counted per constraint is
resampled by prompt (cluster bootstrap). A bootstrap of answers that all agree has zero width: it cannot know
what it never saw, so read the prompt-level interval in that case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from if_factory.intervals import scipy_stats, wilson_interval

RESAMPLES = 4999


@dataclass(frozen=True, slots=True)
class Rate:
    """``passed`` of ``n`` (both counts) and the 95 % interval of the share; all shares lie in [0, 1]."""

    passed: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.passed / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of shares (after minus before, in [-1, 1]) and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over ``n`` independent things and its 95 % interval; ``None`` where fewer than two say nothing."""

    value: float
    n: int
    low: float | None
    high: float | None


def wilson(passed: int, n: int) -> Rate:
    """A share of independent trials with Wilson's score interval; nothing seen (``n`` 0) is [0, 1]."""
    return Rate(passed, n, *wilson_interval(passed, n))


def cluster_rate(passed: Sequence[int], sizes: Sequence[int], seed: int = 0) -> Rate:
    """``sum(passed) / sum(sizes)`` over clusters (prompts), resampled by cluster."""
    low, high = _bootstrap((passed, sizes), lambda p, s, axis=-1: p.sum(axis=axis) / s.sum(axis=axis), seed,
                           unknown=(0.0, 1.0))
    return Rate(sum(passed), sum(sizes), low, high)


def cluster_difference(before: Sequence[int], after: Sequence[int], sizes: Sequence[int],
                       seed: int = 0) -> Difference:
    """Difference of two shares over the same clusters; each resample draws a prompt with both its answers."""
    low, high = _bootstrap((before, after, sizes),
                           lambda b, a, s, axis=-1: (a.sum(axis=axis) - b.sum(axis=axis)) / s.sum(axis=axis), seed,
                           unknown=(-1.0, 1.0))
    total = sum(sizes)
    return Difference((sum(after) - sum(before)) / total if total else 0.0, low, high)


def average(values: Sequence[float], seed: int = 0) -> Mean:
    """The mean, with a bootstrap interval; nothing is 0 of 0."""
    n = len(values)
    if n < 2:
        return Mean(sum(values), n, None, None)
    low, high = _bootstrap((values,), lambda v, axis=-1: v.mean(axis=axis), seed, unknown=(0.0, 0.0))
    return Mean(sum(values) / n, n, low, high)


def median(values: Sequence[float], seed: int = 0) -> Mean:
    """The median, with a bootstrap interval; nothing is 0 of 0."""
    import statistics

    if len(values) < 2:
        return Mean(sum(values), len(values), None, None)
    low, high = _bootstrap((values,), _median, seed, unknown=(0.0, 0.0))
    return Mean(float(statistics.median(values)), len(values), low, high)


def median_difference(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Difference | None:
    """Median after minus median before; each resample draws a prompt with both its values. ``None`` below two."""
    import statistics

    if len(before) < 2:
        return None
    low, high = _bootstrap((before, after), lambda b, a, axis=-1: _median(a, axis) - _median(b, axis), seed,
                           unknown=(0.0, 0.0))
    return Difference(float(statistics.median(after) - statistics.median(before)), low, high)


def _median(values: Any, axis: int = -1) -> Any:
    import numpy as np

    return np.median(values, axis=axis)


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided exact p of McNemar's test from the discordant pairs; 1.0 where no pair differs."""
    if lost + gained == 0:
        return 1.0
    return float(scipy_stats().binomtest(gained, lost + gained, 0.5).pvalue)


def _bootstrap(columns: tuple[Sequence[float], ...], statistic: Callable[..., Any], seed: int,
               unknown: tuple[float, float]) -> tuple[float, float]:
    stats = scipy_stats()
    import numpy as np

    if len(columns[0]) < 2:  # one prompt says nothing about the spread between prompts
        return unknown
    result = stats.bootstrap(tuple(np.asarray(c, dtype=float) for c in columns), statistic, paired=True,
                             vectorized=True, n_resamples=RESAMPLES, batch=500, method="percentile",
                             random_state=np.random.default_rng(seed))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
