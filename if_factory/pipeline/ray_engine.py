"""The runner on Ray: records spread over worker processes, on this machine or on a cluster.

Ray places the workers, starts them and says which are dead. Every worker is an actor with connections and a sandbox of
its own. It takes a few records at a time through the stages up to the next one for several records, or to the end;
stages for several records run here, on the driver, and so do the log, the budget and the account (``chat/remote.py``).
What a dead worker had in hand goes to the others, which find its answers in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from if_factory.chat.budget import Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.remote import Coordinator, Message, Reply
from if_factory.constraints.generated import note_isolation
from if_factory.errors import UserError
from if_factory.pipeline.ray_worker import OpenParts, Outcome, Worker
from if_factory.pipeline.result import Observer, RunResult, StageFailed
from if_factory.pipeline.runner import Item, Runner, supervise, window_for
from if_factory.pipeline.spool import SortedSpool
from if_factory.pipeline.stage import Stage, Useful
from if_factory.records import Record

_logger = logging.getLogger(__name__)
_TOGETHER = 8  # records a call of a worker takes at most
_DEATHS = 10  # deaths of workers in a row, per worker, with nothing finished between them: the run stops
_PATIENCE = 60.0  # seconds without a free CPU for a worker until that is said


async def run(stages: Sequence[Stage], inputs: Iterable[Record], models: Mapping[str, ChatClient], *, seed: int,
              workers: int, parts: Callable[[int], OpenParts], observer: Observer | None = None,
              folder: Path | None = None, useful: Useful | None = None) -> RunResult:
    """``runner.run`` on ``workers`` actors of the Ray that this process is connected to; the same result.

    Args:
        models: of the driver, with the run's log, budget and usage.
        parts: the number of a worker, from 0 -> what opens its parts. They must equal ``stages`` and ``models``.

    Raises:
        UserError: also where workers die one after the other and nothing is finished.
    """
    runner = RayRunner(stages, models, seed, window_for(models), folder, useful)
    total = len(inputs) if isinstance(inputs, Sized) else None
    async with runner.workers(workers, parts, seed, total):
        return await supervise(runner, inputs, observer)


@dataclass(eq=False)
class _Hired:
    """An actor, from its start to its death.

    Attributes:
        ready: it has its parts and has not failed.
        batches: calls that it is working on.
        replies: on their way to it.
    """

    number: int
    actor: Any
    ready: bool = False
    batches: int = 0
    replies: list[tuple[int, Reply]] = field(default_factory=list)


class RayRunner(Runner):
    """The driver: a ``Runner`` whose records are carried by workers."""

    @contextlib.asynccontextmanager
    async def workers(self, number: int, parts: Callable[[int], OpenParts], seed: int,
                      total: int | None) -> AsyncIterator[None]:
        """So many workers, inside the block.

        Args:
            parts: see ``run``.
            total: how many inputs there are, if that is known.
        """
        import ray

        self._parts, self._seed = parts, seed
        self._actor = ray.remote(Worker)
        self._number = number
        self._size = _TOGETHER if total is None else max(1, min(_TOGETHER, total // (4 * number)))
        self._places = max(2, -(-self.window // (number * self._size)))  # batches at a worker
        self._coordinator = Coordinator(self.models, self._reply, lambda: self.stop("budget"))
        self._hired: list[_Hired] = []
        self._returned: list[list[Item]] = []  # what dead workers had in hand
        self._away = 0  # batches at workers
        self._deaths = 0  # since something was last finished
        self._stopping = False
        self._changed = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        for n in range(number):
            self._start(self._hire(n))
        try:
            yield
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            for hired in self._hired:
                ray.kill(hired.actor)

    def stop(self, reason: str) -> None:
        super().stop(reason)
        if not self._stopping:
            self._stopping = True
            self._stop_workers()

    def _stop_workers(self) -> None:
        self._coordinator.close()
        for hired in self._hired:
            hired.actor.stop.remote()
        self._changed.set()

    # ------------------------------------------------------------------ one segment

    async def _stream(self, source: Iterator[Item], end: int, spool: SortedSpool) -> None:
        start = max((i + 1 for i in range(end) if self.stages[i].scope != "each"), default=0)
        if start == end:
            await super()._stream(source, end, spool)
        else:
            await self._send_out(source, start, end, spool)
        if end == len(self.stages) and not isinstance(self.error, UserError):
            # Left over from stages that gave up on a record with several requests under way: paid, so kept.
            self._coordinator.close()
            await self._coordinator.quiet.wait()

    async def _send_out(self, source: Iterator[Item], start: int, end: int, spool: SortedSpool) -> None:
        self.source, self.end, self.spool = source, end, spool
        self.dropped_here = []
        while not isinstance(self.error, UserError):
            self._dispatch()
            if not self._away and (self.draining or not self._returned):
                break
            await self._changed.wait()
            self._changed.clear()
        left = [item for batch in self._returned for item in batch]
        if source is not self.seeds:  # seeds not taken yet are counted where the run ends: they may have no end
            left += source
        self.ledger.rows[start + 1].taken += len(left)
        self.ledger.rows[start + 1].unfinished += len(left)
        self._returned.clear()
        self.dropped += [one for _, one in sorted(self.dropped_here)]

    def _dispatch(self) -> None:
        """Give the least busy workers something to do, as long as there is something and places are free."""
        while not self.draining:
            free = [hired for hired in self._hired if hired.ready and hired.batches < self._places]
            if not free:
                # Somebody must wait for a worker to become ready.
                if not self._away and (batch := self._next()):
                    self._returned.append(batch)
                return
            try:
                batch = self._next()
            except Exception as e:  # from the inputs: they are read here, a little at a time
                self._fail(e)
                return
            if not batch:
                return
            hired = min(free, key=lambda hired: hired.batches)
            hired.batches += 1
            self._away += 1
            self._start(self._carry_at(hired, batch, self.end))

    def _next(self) -> list[Item]:
        return self._returned.pop() if self._returned else list(islice(self.source, self._size))

    async def _carry_at(self, hired: _Hired, batch: list[Item], end: int) -> None:
        from ray.exceptions import RayError, RayTaskError

        try:
            outcome = await hired.actor.carry.remote(batch, end)
        except RayTaskError as e:
            self._fail(StageFailed(f"a worker failed: {e}"))
        except RayError:  # it is dead, cannot be reached, or its result was on a node that is gone
            self._give_up(hired)
            self._returned.append(batch)
        else:
            self._merge(outcome, end)
        finally:
            hired.batches -= 1
            self._away -= 1
            self._changed.set()

    def _merge(self, outcome: Outcome, end: int) -> None:
        self._deaths = 0
        for row, more in zip(self.ledger.rows[end - len(outcome.rows) + 1:], outcome.rows, strict=False):
            for name in ("taken", "advanced", "produced", "unfinished"):
                setattr(row, name, getattr(row, name) + getattr(more, name))
            row.dropped.update(more.dropped)
        usage = next(iter(self.models.values())).usage if self.models else Usage()  # a run's models share one
        for (stage, role), lost in outcome.usage.tallies.items():
            tally = usage.tally(stage, role)
            tally.failed += lost.failed
            tally.retries += lost.retries
        usage.failures.update(outcome.usage.failures)
        if outcome.isolation:
            note_isolation(outcome.isolation)
        self.dropped_here += outcome.dropped
        for path, line in outcome.arrived:
            self.spool.put_line(path, line)

    # ------------------------------------------------------------------ workers

    async def _hire(self, number: int) -> None:
        """Have Ray start a worker, and listen to it until it is dead; then another takes its number."""
        from ray.exceptions import RayError, RayTaskError

        while not self.error:
            hired = _Hired(number, self._actor.options(num_cpus=1, max_concurrency=1000,
                                                       scheduling_strategy="SPREAD").remote())
            self._hired.append(hired)
            try:
                await self._open(hired)
                while True:
                    for message in await hired.actor.messages.remote():
                        await self._handle(hired, message)
            except RayTaskError as e:
                self._fail(StageFailed(f"a worker failed: {e}"))
                return
            except UserError as e:
                self._fail(e)
                return
            except RayError as e:
                self._give_up(hired)
                self._hired.remove(hired)
                lost = self._coordinator.lose(hired)
                _logger.warning("worker %d is gone (%s) with %d requests in flight, which are asked again; its records "
                                "go to other workers", number + 1, type(e).__name__, lost)
                self._deaths += 1
                if self._deaths >= _DEATHS * self._number:
                    self._fail(UserError(f"{self._deaths} workers died one after the other, and nothing was finished "
                                         f"between; the last one: {e}", where="ray",
                                         fix="look into Ray's logs (memory, packages on the nodes), then run the same "
                                         "command again; answers so far are kept"))

    async def _open(self, hired: _Hired) -> None:
        opened = hired.actor.open.remote(self._parts(hired.number), self._seed, -(-self.window // self._number),
                                         {k: v for k, v in os.environ.items() if k.startswith("IF_FACTORY_")})
        opening = asyncio.wrap_future(opened.future())
        while not (await asyncio.wait([opening], timeout=_PATIENCE))[0]:
            _logger.warning("worker %d waits for a free CPU in the cluster", hired.number + 1)
        if problem := opening.result():
            raise problem
        hired.ready = True
        self._changed.set()

    async def _handle(self, hired: _Hired, message: Message) -> None:
        try:
            await self._coordinator.handle(hired, message)
        except Exception as e:
            self._fail(e)

    def _give_up(self, hired: _Hired) -> None:
        """No more work for it; whatever still lives of it ends."""
        import ray

        hired.ready = False
        ray.kill(hired.actor)

    def _reply(self, hired: Any, number: int, reply: Reply) -> None:
        if not hired.replies:
            asyncio.get_running_loop().call_soon(self._send_replies, hired)
        hired.replies.append((number, reply))

    def _send_replies(self, hired: _Hired) -> None:
        replies, hired.replies = hired.replies, []
        hired.actor.deliver.remote(replies)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
