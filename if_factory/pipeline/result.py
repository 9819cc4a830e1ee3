"""What a run makes, how it fails, and who may watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from if_factory.chat.client import ChatClient
from if_factory.pipeline.ledger import Ledger
from if_factory.records import Record


class StageFailed(Exception):
    """A stage raised something other than ``Dropped``, ``RequestFailed`` or ``UserError``: a bug in it."""


class DroppedRecord(NamedTuple):
    stage: str
    record_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class RunResult:
    """What a run made. Both lists are ordered by the position of the seed and the path of its children.

    Attributes:
        records: those that passed every stage; none unless every record could reach the end of its segment.
        complete: nothing is unfinished; a stopped run continues where it was if run again.
        stopped_by: ``budget``, ``interrupt``, ``batch`` (requests wait for a batch) or None.
    """

    # asyncio.run makes the repr of its main task's result: with all records in it, that took longer than the run.
    records: Sequence[Record] = field(repr=False)
    dropped: list[DroppedRecord] = field(repr=False)
    ledger: Ledger
    complete: bool
    stopped_by: str | None = None

    @property
    def to_continue(self) -> str:
        """What continues a stopped run."""
        if self.stopped_by == "budget":  # which counts what was spent before, so that nothing would be asked
            return "raise `budget` in the recipe (max_requests, max_usd...), then the same command continues it"
        return "the same command continues it"


class Observer(Protocol):
    """Someone watching, e.g. the progress display. It reads counters at its own pace; no event is sent."""

    def start(self, ledger: Ledger, models: Mapping[str, ChatClient], total: int | None) -> None:
        """``total``: how many inputs there are, None where they are not counted beforehand."""
        ...

    def stop(self) -> None: ...
