"""The event loop of a run and the garbage collector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from if_factory.pipeline.loop import run_on_loop


async def frozen() -> int:
    await asyncio.sleep(0)
    return gc.get_freeze_count()


async def fails() -> None:
    raise ValueError("as it is")


def test_what_was_there_before_a_run_is_set_aside_for_its_time_only() -> None:
    before = gc.get_threshold()
    assert run_on_loop(frozen()) > 1000
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
    with pytest.raises(ValueError, match="as it is"):
        run_on_loop(fails())
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
