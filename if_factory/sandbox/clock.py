"""Time that stands still: what a verdict depends on must not be the day it was asked.

Standard library only; loaded by the jailed fork server. ``freeze`` replaces the functions of ``time`` and the
classes ``datetime.datetime`` and ``datetime.date``; ``time.sleep`` returns at once and moves the clock forward.
"""

from __future__ import annotations

import datetime
import time
from datetime import date as _date
from datetime import datetime as _datetime
from typing import Any

START = 1_735_732_800  # 2025-01-01 12:00:00 UTC
_now_ns = START * 1_000_000_000


class _LooksReal(type):
    """``isinstance(x, datetime.datetime)`` holds for objects that C code made of the real class."""

    real: type

    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, cls.real)

    def __subclasscheck__(cls, c: type) -> bool:
        return issubclass(c, cls.real)


class _FrozenDate(_date, metaclass=_LooksReal):
    real = _date

    @classmethod
    def today(cls) -> Any:
        return cls.fromtimestamp(_now_ns / 1e9)

    def __repr__(self) -> str:
        return f"datetime.{super().__repr__()}"


class _FrozenDatetime(_datetime, metaclass=_LooksReal):
    real = _datetime

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(_now_ns / 1e9, tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    def __repr__(self) -> str:
        return f"datetime.{super().__repr__()}"


_FrozenDate.__name__ = _FrozenDate.__qualname__ = "date"
_FrozenDatetime.__name__ = _FrozenDatetime.__qualname__ = "datetime"
_FrozenDate.__module__ = _FrozenDatetime.__module__ = "datetime"


def freeze(at: int) -> None:
    """Stop every clock of this process's ``time`` and ``datetime`` at ``at`` (seconds since 1970, UTC)."""
    global _now_ns
    _now_ns = at * 1_000_000_000
    localtime, gmtime, ctime = time.localtime, time.gmtime, time.ctime
    strftime, asctime = time.strftime, time.asctime

    def seconds(*clock: int) -> float:
        return _now_ns / 1e9

    def nanoseconds(*clock: int) -> int:
        return _now_ns

    def sleep(secs: float) -> None:
        global _now_ns
        if secs < 0:
            raise ValueError("sleep length must be non-negative")
        _now_ns += int(secs * 1e9)

    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"):
        setattr(time, name, seconds)
        setattr(time, f"{name}_ns", nanoseconds)
    time.sleep = sleep  # type: ignore[assignment]
    time.localtime = lambda secs=None: localtime(seconds() if secs is None else secs)
    time.gmtime = lambda secs=None: gmtime(seconds() if secs is None else secs)
    time.ctime = lambda secs=None: ctime(seconds() if secs is None else secs)
    time.asctime = lambda t=None: asctime(localtime(seconds()) if t is None else t)
    time.strftime = lambda form, t=None: strftime(form, localtime(seconds()) if t is None else t)
    datetime.date, datetime.datetime = _FrozenDate, _FrozenDatetime  # type: ignore[misc]
