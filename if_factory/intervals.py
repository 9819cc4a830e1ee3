"""Wilson's score interval, by scipy."""

from __future__ import annotations

from typing import Any

from if_factory.errors import UserError


def scipy_stats() -> Any:
    """scipy.stats.

    Raises:
        UserError: scipy is not installed.
    """
    try:
        from scipy import stats
    except ImportError:
        raise UserError("confidence intervals need scipy, which is not installed",
                        fix='pip install "if-factory[eval]"') from None
    return stats


def wilson_interval(passed: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent trials (Wilson, 1927), in [0, 1]; of no trial, all of it.

    Raises:
        UserError: scipy is not installed.
    """
    if n == 0:
        return 0.0, 1.0
    interval = scipy_stats().binomtest(passed, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
