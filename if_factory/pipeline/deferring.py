"""A run whose requests wait for batches: which records they hold up, and when a stage is through with its tasks."""

from __future__ import annotations

import asyncio
from typing import Any


class Deferring:
    """What a run must know to stop at unanswered requests. A run that asks its models directly pays nothing for it.

    A stage may ask several things at once. The first ``Deferred`` ends the stage's own coroutine; the tasks beside it
    go on, so that all that can be asked now is in one batch, and ``settled`` waits for them.

    Attributes:
        any: a request was put off.
        here: positions, in the segment being streamed, of the seeds of which a record was put off.
    """

    def __init__(self, on: bool) -> None:
        self._on = on
        self._tasks: set[asyncio.Task[Any]] = set()
        self._factory: Any = None
        self.any = False
        self.here: set[int] = set()

    def start(self) -> None:
        """From here on every task that is begun is known, those of ``asyncio.gather`` too."""
        if self._on:
            loop = asyncio.get_running_loop()
            self._factory = loop.get_task_factory()
            loop.set_task_factory(self._begin)

    def put_off(self, seed: int | None = None) -> None:
        """A record of the seed at this position ended at an unanswered request; ``None``: several records together."""
        self.any = True
        if seed is not None:
            self.here.add(seed)

    async def settled(self) -> None:
        """Wait until no task is left."""
        while left := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(left)

    async def stop(self) -> None:
        if self._on:
            for task in self._tasks:
                task.cancel()
            await self.settled()
            asyncio.get_running_loop().set_task_factory(self._factory)

    def _begin(self, loop: asyncio.AbstractEventLoop, coro: Any, **how: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **how)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
