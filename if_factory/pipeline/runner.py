"""Runs records through a method's stages as a stream: each one counted, the same bytes in any order of arrival.

Each record is one asyncio task that carries it from stage to stage, so a slow reply delays only its own record. At
most ``window`` such tasks exist at a time; when a record becomes several, its children wait on a stack and are
processed before new seeds. Finished records wait in an unnamed temporary file, and so do those at *all* and
*per_seed* stages, the only ones that wait for every record: memory does not grow with the number of inputs. The runner
writes no output. Every answer is in the response log as soon as it arrives, and a logged request is answered from the
log at no cost: this is all that resuming a run takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from if_factory.chat.base import Completion, Deferred, RequestFailed
from if_factory.chat.budget import BudgetExceeded
from if_factory.chat.client import ChatClient
from if_factory.errors import UserError
from if_factory.pipeline.context import StageContext
from if_factory.pipeline.deferring import Deferring
from if_factory.pipeline.interrupt import on_ctrl_c
from if_factory.pipeline.ledger import Ledger, LedgerError, Row
from if_factory.pipeline.result import DroppedRecord, Observer, RunResult, StageFailed
from if_factory.pipeline.spool import SortedSpool, Spool
from if_factory.pipeline.stage import All, Dropped, Each, Stage, Useful
from if_factory.records import Record

_logger = logging.getLogger(__name__)

# A record's position in the output: its seed's position, then its index among siblings at every split.
Position = tuple[int, ...]


async def run(stages: Sequence[Stage], inputs: Iterable[Record], models: Mapping[str, ChatClient], *, seed: int,
              window: int | None = None, observer: Observer | None = None,
              folder: Path | None = None, useful: Useful | None = None) -> RunResult:
    """Take ``inputs`` through ``stages``.

    A reached budget or Ctrl-C stops cleanly: no new work, requests in flight finish and are logged, and the
    result says ``complete=False``. A second Ctrl-C raises ``KeyboardInterrupt`` at once.

    Args:
        models: by the role under which stages ask for them.
        seed: of the run; ``ctx.rng`` depends on it and on nothing else but its arguments.
        window: records in flight at most; default four times what the models take at once: a
            record waiting for a retry takes up no place at the endpoint.
        useful: decides for stages whether answers attempt their request.
        folder: on whose disk finished records wait for the end (see ``spool.py``).

    Raises:
        UserError: from a stage or model; requests in flight are cancelled.
        StageFailed: a bug in a stage; requests in flight finish and are logged before it is raised.
        LedgerError: the account does not balance.
    """
    return await supervise(Runner(stages, models, seed, window or window_for(models), folder, useful), inputs, observer)


def window_for(models: Mapping[str, ChatClient]) -> int:
    """How many records are in flight by default."""
    return max(64, 4 * sum(m.concurrency for m in models.values()))


async def supervise(runner: Runner, inputs: Iterable[Record], observer: Observer | None) -> RunResult:
    """``runner.run``, watched and stopped by Ctrl-C; see ``run``."""
    if observer:
        observer.start(runner.ledger, runner.models, len(inputs) if isinstance(inputs, Sized) else None)
    try:
        with on_ctrl_c(lambda: runner.stop("interrupt")):
            return await runner.run(inputs)
    finally:
        if observer:
            observer.stop()


@dataclass(slots=True)
class Item:
    """A record on its way and the index of the stage it is at."""

    record: Record
    path: Position
    stage: int


def _items(records: Iterable[Record], stage: int) -> Iterator[Item]:
    return (Item(record, (i,), stage) for i, record in enumerate(records))


class Runner:
    """The state of one run. Every change of it happens on the event loop's thread."""

    def __init__(self, stages: Sequence[Stage], models: Mapping[str, ChatClient], seed: int, window: int,
                 folder: Path | None, useful: Useful | None = None) -> None:
        self.stages = stages
        self.models = models
        self.window = window
        self.ledger = Ledger([stage.name for stage in stages])
        self.folder = folder
        self.finished = SortedSpool(folder)
        self.contexts = [StageContext(stage.name, frozenset(models), seed, self.chat, useful) for stage in stages]
        self.dropped: list[DroppedRecord] = []
        self.stopped_by: str | None = None
        self.error: BaseException | None = None
        # A stopping run lets requests in flight finish and lets no other begin; then it halts.
        self.requests_in_flight = 0
        self.draining = False
        self.halted = asyncio.Event()
        self.deferring = Deferring(any(model.defers for model in models.values()))
        # The segment being streamed: the stages up to `end`, a stage for several records or the end of the method.
        self.tasks: dict[asyncio.Task[Any], Item | None] = {}
        self.seeds: Iterator[Item] = iter(())
        self.source: Iterator[Item] = iter(())
        self.waiting: list[Item] = []
        self.dropped_here: list[tuple[Position, DroppedRecord]] = []
        self.end = 0
        self.spool = self.finished
        self.idle = asyncio.Event()

    # ------------------------------------------------------------------ the whole run

    async def run(self, inputs: Iterable[Record]) -> RunResult:
        self.deferring.start()
        try:
            source = self.seeds = self._admit(inputs)
            for end, stage in enumerate(self.stages):
                if stage.scope != "each":
                    source = _items(await self._together(end, source), end + 1)
            await self._stream(source, len(self.stages), self.finished)
            if self.requests_in_flight and not self.halted.is_set():
                # Left over from a stage that gave up on a record with several requests under way: paid, so kept.
                self.draining = True
                await self.halted.wait()
        finally:
            self.draining = True
            self._halt()
            if self.tasks:
                await asyncio.gather(*self.tasks, return_exceptions=True)
            await self.deferring.stop()
        if self.deferring.any:
            self.stopped_by = self.stopped_by or "batch"
        if self.error:
            raise self.error
        if self.stopped_by and isinstance(inputs, Sized):
            row = self.ledger.rows[0]
            row.unfinished = len(inputs) - row.taken
            row.taken = len(inputs)
        self._audit()
        return RunResult(self.finished, self.dropped, self.ledger, self.stopped_by is None, self.stopped_by)

    def _admit(self, inputs: Iterable[Record]) -> Iterator[Item]:
        row = self.ledger.rows[0]
        seen: set[str] = set()
        for position, record in enumerate(inputs):
            row.taken += 1
            if record.id in seen:
                self._drop(row, record, (position,), "duplicate_seed", "")
                continue
            seen.add(record.id)
            row.advanced += 1
            row.produced += 1
            yield Item(record, (position,), 0)

    def _audit(self) -> None:
        self.ledger.check()
        rows = self.ledger.rows
        unfinished = sum(row.unfinished for row in rows)
        dropped = sum(row.dropped.total() for row in rows)
        if unfinished and not self.stopped_by:
            raise LedgerError(f"{unfinished} records are unfinished but nothing stopped the run")
        if rows[-1].produced != len(self.finished) or dropped != len(self.dropped):
            raise LedgerError(f"the ledger counts {rows[-1].produced} records and {dropped} dropped ones, "
                              f"the run holds {len(self.finished)} and {len(self.dropped)}")

    # ------------------------------------------------------------------ each record by itself

    async def _stream(self, source: Iterator[Item], end: int, spool: SortedSpool) -> None:
        """Carry records to stage ``end`` and into ``spool``, as many at a time as the window allows."""
        self.source, self.end, self.spool = source, end, spool
        self.waiting, self.dropped_here = [], []
        self.idle.clear()
        self.deferring.here.clear()
        self._fill()
        await self.idle.wait()
        await self.deferring.settled()
        # A stop leaves some behind. Seeds not taken yet are counted where the run ends: they may have no end.
        for item in self.waiting if source is self.seeds else chain(self.waiting, source):
            if item.stage == end:
                self._arrive([item])
                continue
            row = self.ledger.rows[item.stage + 1]
            row.taken += 1
            row.unfinished += 1
        self.dropped += [one for _, one in sorted(self.dropped_here)]

    def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self.draining and len(self.tasks) < self.window:
                item = self.waiting.pop() if self.waiting else next(self.source, None)
                if item is None:
                    break
                if item.stage == self.end:
                    self._arrive([item])
                    continue
                self.ledger.rows[item.stage + 1].taken += 1
                task = loop.create_task(self._carry(item))
                self.tasks[task] = item
                task.add_done_callback(self._done)
        except Exception as e:  # from the inputs: they are read here, a little at a time
            self._fail(e)
        if not self.tasks:
            self.idle.set()

    async def _carry(self, item: Item) -> None:
        while item.stage < self.end:
            stage, row = self.stages[item.stage], self.ledger.rows[item.stage + 1]
            try:
                out = await cast(Each, stage.run)(item.record, self.contexts[item.stage])
            except Dropped as e:
                return self._drop(row, item.record, item.path, e.reason, e.detail)
            except RequestFailed as e:
                return self._drop(row, item.record, item.path, e.reason, "")
            except Deferred:
                row.unfinished += 1
                return self.deferring.put_off(item.path[0])
            except UserError:
                raise
            except Exception as e:
                raise StageFailed(f"stage '{stage.name}' failed on record '{item.record.id}': "
                                  f"{type(e).__name__}: {e}") from e
            children = out if isinstance(out, list) else [out]
            if not children:
                return self._drop(row, item.record, item.path, "produced_nothing", "")
            row.advanced += 1
            row.produced += len(children)
            item.stage += 1
            if len(children) > 1:
                siblings = [Item(child, (*item.path, i), item.stage) for i, child in enumerate(children)]
                if item.stage < self.end:
                    self.waiting += reversed(siblings)
                else:
                    self._arrive(siblings)
                return None
            item.record = children[0]
            if item.stage < self.end:
                self.ledger.rows[item.stage + 1].taken += 1
        self._arrive([item])
        return None

    def _arrive(self, items: list[Item]) -> None:
        for item in items:
            self.spool.put(item.path, item.record)

    def _done(self, task: asyncio.Task[Any]) -> None:
        item = self.tasks.pop(task)
        if task.cancelled():
            if item:
                self.ledger.rows[item.stage + 1].unfinished += 1
                if not self.halted.is_set():
                    self._fail(StageFailed(f"stage '{self.stages[item.stage].name}' cancelled its own task "
                                           f"on record '{item.record.id}'"))
        elif error := task.exception():
            self._fail(error)
        self._fill()

    def _drop(self, row: Row, record: Record, path: Position, reason: str, detail: str) -> None:
        row.dropped[reason] += 1
        self.dropped_here.append((path, DroppedRecord(row.stage, record.id, reason, detail)))

    # ------------------------------------------------------------------ records together

    async def _together(self, index: int, source: Iterator[Item]) -> Spool:
        """What a stage for several records keeps of those that arrive: all at once, or one seed's after the other."""
        arrived, kept = SortedSpool(self.folder), Spool(self.folder)
        await self._stream(source, index, arrived)
        if self.stages[index].scope == "all":
            await self._all(index, arrived, arrived.ids(), kept, put_off=self.deferring.any)
            return kept
        missing = frozenset(self.deferring.here)
        for seed, records in arrived.by_seed():
            await self._all(index, records, [record.id for record in records], kept, put_off=seed in missing)
        return kept

    async def _all(self, index: int, records: Sequence[Record], ids: Iterable[str], kept: Spool, *,
                   put_off: bool) -> None:
        """Run a stage on records together and put what it keeps into ``kept``.

        With ``put_off`` some that belong to them wait for a batch, and so do these.

        Args:
            ids: of the records.
        """
        stage, row, n = self.stages[index], self.ledger.rows[index + 1], len(records)
        row.taken += n
        if self.draining or put_off or not n:
            row.unfinished += n
            return
        task = asyncio.ensure_future(self._account(stage, row, records, ids, kept, self.contexts[index]))
        self.tasks[task] = None
        try:
            await asyncio.wait([task])
        finally:
            if task.done():
                del self.tasks[task]
        if task.cancelled():
            row.unfinished += n
        elif isinstance(error := task.exception(), Deferred):
            await self.deferring.settled()
            self.deferring.put_off()
            row.unfinished += n
        elif error:
            if not isinstance(error, UserError):
                try:
                    raise StageFailed(f"stage '{stage.name}' failed: {type(error).__name__}: {error}") from error
                except StageFailed as failed:
                    error = failed
            self._fail(error)

    async def _account(self, stage: Stage, row: Row, records: Sequence[Record], ids: Iterable[str], kept: Spool,
                       context: StageContext) -> None:
        """Every record must come back, itself or as a parent, or be dropped. Nothing is awaited but the stage."""
        made, dropped = await cast(All, stage.run)(records, context)
        left = Counter(ids)
        for record, why in dropped:
            row.dropped[why.reason] += 1
            self.dropped.append(DroppedRecord(stage.name, record.id, why.reason, why.detail))
            left[record.id] -= 1
        for record in made:
            row.produced += 1
            kept.append(record)
            if left[record.id] > 0:
                left[record.id] -= 1
                row.advanced += 1
            if record.parent is not None:
                row.advanced += max(0, left.pop(record.parent, 0))

    # ------------------------------------------------------------------ stopping

    def stop(self, reason: str) -> None:
        """Take no new work; halt when the requests in flight have finished."""
        self.stopped_by = self.stopped_by or reason
        self.draining = True
        if reason == "interrupt":
            _logger.warning("stopping: %d requests in flight are waited for and kept; Ctrl-C again stops at once, "
                            "and they are asked again next time",
                            self.requests_in_flight + sum(model.elsewhere for model in self.models.values()))
        for model in self.models.values():
            model.budget.close()  # those that wait for a free place at the endpoint must not be sent any more
        if not self.requests_in_flight:
            asyncio.get_running_loop().call_soon(self._halt)

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.stop("error")
        if isinstance(error, UserError):  # a server that is not there answers nothing: do not wait for it
            asyncio.get_running_loop().call_soon(self._halt)

    def _halt(self) -> None:
        self.halted.set()
        for task in self.tasks:
            task.cancel()

    async def chat(self, role: str, messages: Sequence[dict[str, str]], **request: Any) -> Completion:
        model = self.models.get(role)
        if model is None:
            raise UserError(f"stage '{request['stage']}' needs a model for the role '{role}'",
                            fix=f"name one; this run has: {', '.join(sorted(self.models)) or 'none'}")
        if not self.draining:
            self.requests_in_flight += 1
            try:
                return await model.chat(messages, **request)
            except BudgetExceeded:
                if not self.draining:
                    self.stop("budget")
            finally:
                self.requests_in_flight -= 1
                if self.draining and not self.requests_in_flight:
                    # Soon, not now: a task that cancels itself on its last step would lose its result.
                    asyncio.get_running_loop().call_soon(self._halt)
        # The stage must not see the stop, or it might take it for an answer; it waits here to be cancelled.
        await self.halted.wait()
        raise asyncio.CancelledError
