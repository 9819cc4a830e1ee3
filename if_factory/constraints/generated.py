"""Constraints decided by functions that a model wrote (AutoIF): run in the sandbox, then put to the vote.

A constraint of kind ``generated_code`` has ``kwargs`` ``{"functions": [source, ...], "threshold": float}``. It
passes if at least ``threshold`` of the functions that gave a verdict returned true (with ``more_than`` in place of
``threshold``: if more did); where none gave one, there is none. A crash or a time-out is no vote.
Paper: AutoIF, section 3.2 (accuracy of a response over its functions).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Any

from if_factory.sandbox import Limits, Pool
from if_factory.verdicts import Constraint, Outcome, Verdict

THRESHOLD = 0.5
Settings = tuple[int, Limits, bool]  # of ``configure``

_lock = threading.Lock()
_settings: Settings = (2, Limits(), False)
_pool: tuple[int, Pool] | None = None  # with the process it belongs to: a fork must not share its sockets
_elsewhere: str | None = None


def configure(*, workers: int = 2, limits: Limits | None = None, allow_weak: bool = False) -> None:
    """Settings of the pool that ``verify`` uses; a pool already started with others is ended."""
    global _settings
    wanted = (workers, limits or Limits(), allow_weak)
    with _lock:
        if wanted != _settings:
            _settings = wanted
            _end()


def settings() -> Settings:
    """What ``configure`` was last told."""
    return _settings


def shared_pool() -> Pool:
    """This process's pool, started when first asked for; it ends with the process.

    Raises:
        UserError: generated code cannot be isolated on this machine.
    """
    global _pool
    with _lock:
        if _pool is None or _pool[0] != os.getpid():
            workers, limits, allow_weak = _settings
            atexit.register(close_shared_pool)  # registering it twice is harmless
            _pool = (os.getpid(), Pool(workers, limits, allow_weak=allow_weak))
        return _pool[1]


def forget_time_outs() -> bool:
    """See ``Pool.forget_time_outs``; starts no pool."""
    with _lock:
        return _pool is not None and _pool[1].forget_time_outs()


def isolation_used() -> str | None:
    """The level under which this process or its workers ran generated code; None if they ran none."""
    return str(_pool[1].isolation) if _pool is not None else _elsewhere


def note_isolation(level: str) -> None:
    """A worker process ran generated code under ``level``."""
    global _elsewhere
    _elsewhere = level


def close_shared_pool() -> None:
    with _lock:
        _end()


def _end() -> None:
    global _pool, _elsewhere
    if _pool is not None and _pool[0] == os.getpid():
        _pool[1].close()
    _pool, _elsewhere = None, None


def verify_many(responses: Sequence[str], constraint: Constraint, pool: Pool | None = None) -> tuple[Verdict, ...]:
    """One verdict per response; each function is forked once for all of them.

    Raises:
        UserError: see ``shared_pool``.
    """
    if not responses:
        return ()
    votes = [(pool or shared_pool()).run(source, responses).verdicts for source in functions_of(constraint)]
    return tuple(tally(constraint, [v[i] for v in votes]) for i in range(len(responses)))


def functions_of(constraint: Constraint) -> Sequence[str]:
    """The sources; none where ``kwargs`` are not as they should be."""
    given = constraint.kwargs.get("functions")
    return given if isinstance(given, list | tuple) and _threshold(constraint.kwargs) is not None else ()


def tally(constraint: Constraint, votes: Sequence[Verdict]) -> Verdict:
    """The vote of ``functions_of(constraint)`` on one response; the reason counts and names those that say no."""
    threshold, names = _threshold(constraint.kwargs), [name(source) for source in functions_of(constraint)]
    if threshold is None or not names:
        return Verdict(outcome=Outcome.NO_VERDICT, reason="needs `functions` (a list) and a threshold in [0, 1]")
    cast = [v for v in votes if v.outcome is not Outcome.NO_VERDICT]
    silent = [f"{n}: {v.reason}" for n, v in zip(names, votes, strict=True) if v.outcome is Outcome.NO_VERDICT]
    if not cast:
        return Verdict(outcome=Outcome.NO_VERDICT, reason="no function gave a verdict; " + "; ".join(silent[:3]))
    against = [n for n, v in zip(names, votes, strict=True) if v.failed]
    share = (len(cast) - len(against)) / len(cast)
    reason = f"{len(cast) - len(against)} of {len(cast)} functions say true"
    if against:
        reason += f"; false: {', '.join(against)}"
    if silent:
        reason += f"; without a verdict: {'; '.join(silent[:3])}"
    enough = share > threshold if "more_than" in constraint.kwargs else share >= threshold
    return Verdict(outcome=Outcome.PASS if enough else Outcome.FAIL, reason=reason)


def name(source: Any) -> str:
    """What a function is called in reasons and provenance: 10 hex digits of its text's SHA-1."""
    return hashlib.sha1(str(source).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:10]


def _threshold(kwargs: dict[str, Any]) -> float | None:
    given = kwargs.get("more_than", kwargs.get("threshold", THRESHOLD))
    number = isinstance(given, int | float) and not isinstance(given, bool)
    return float(given) if number and 0 <= given <= 1 else None
