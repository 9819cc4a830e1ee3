"""The event loop of a run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_NEW_OBJECTS = 20_000  # between two looks of the collector; Python's 700 are the objects of three requests


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on uvloop's event loop, where there is one for this system."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = None
    # What was made before the run stays until its end: the collector, which the garbage of many small requests calls
    # up again and again, need not look through all of it each time.
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
