"""What happens of a run in a Ray worker's process; ``ray_engine`` has the driver's side."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import NamedTuple

from if_factory.chat.budget import Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.remote import Broken, Channel, Message, Reply, current_usage
from if_factory.constraints.generated import isolation_used
from if_factory.errors import UserError
from if_factory.pipeline.ledger import Row
from if_factory.pipeline.result import DroppedRecord
from if_factory.pipeline.runner import Item, Position, Runner
from if_factory.pipeline.spool import line_of
from if_factory.pipeline.stage import Stage, Useful


class Parts(NamedTuple):
    """What a worker needs of a run; see ``Runner``."""

    stages: Sequence[Stage]
    models: Mapping[str, ChatClient]
    useful: Useful | None


# Opens a worker's parts in its process; must survive pickling. The channel leads to the driver.
OpenParts = Callable[[Channel], AbstractAsyncContextManager[Parts]]


@dataclass
class Outcome:
    """What became of a few records in one segment of the method.

    Attributes:
        rows: of the ledger, for the segment's stages.
        arrived: records at the segment's end, as lines of a spool.
        lost: requests without an answer and retries, by stage and role.
        isolation: see ``isolation_used``.
    """

    rows: list[Row]
    arrived: list[tuple[Position, bytes]]
    dropped: list[tuple[Position, DroppedRecord]]
    usage: Usage
    isolation: str | None


class _Batch(Runner):
    """The runner of a few records in a worker's process."""

    channel: Channel

    async def carry(self, items: list[Item], end: int) -> Outcome:
        start = items[0].stage
        self.arrived: list[tuple[Position, bytes]] = []
        try:
            await self._stream(iter(items), end, self.finished)
        finally:
            self.draining = True
            self._halt()
            if self.tasks:
                await asyncio.gather(*self.tasks, return_exceptions=True)
        # A worker killed between its outcome and its last messages left records with answers that nobody had logged.
        await self.channel.kept()
        return Outcome(self.ledger.rows[start + 1:end + 1], self.arrived, self.dropped_here, current_usage.get(),
                       isolation_used())

    def _arrive(self, items: list[Item]) -> None:
        self.arrived += ((item.path, line_of(item.record)) for item in items)

    def _fail(self, error: BaseException) -> None:
        # At once: this worker's other records cannot go on either.
        error.add_note("".join(traceback.format_exception(error)))
        self.channel.send(Broken(error))
        super()._fail(error)


class Worker:
    """The actor. Its methods run on one event loop."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.stack = AsyncExitStack()
        self.batches: set[_Batch] = set()

    async def open(self, parts: OpenParts, seed: int, window: int, environment: Mapping[str, str]) -> Exception | None:
        """Get ready. Returns what is wrong with the recipe or the endpoints as seen from here."""
        os.environ.update(environment)
        self.seed, self.window = seed, window
        try:
            self.parts = await self.stack.enter_async_context(parts(self.channel))
        except UserError as e:
            return e
        return None

    async def carry(self, items: list[Item], end: int) -> Outcome:
        current_usage.set(Usage())
        stages, models, useful = self.parts
        batch = _Batch(stages, models, self.seed, self.window, None, useful)
        batch.channel = self.channel
        self.batches.add(batch)
        try:
            return await batch.carry(items, end)
        finally:
            self.batches.discard(batch)

    async def messages(self) -> list[Message]:
        return await self.channel.take()

    async def deliver(self, replies: list[tuple[int, Reply]]) -> None:
        self.channel.deliver(replies)

    async def stop(self) -> None:
        """Let requests in flight finish and begin no other."""
        for batch in list(self.batches):
            batch.stop("driver")
