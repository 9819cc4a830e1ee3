"""What a method is made of: stages, and what a stage may do.

A stage is an async function. An *each* stage takes one record and returns one record or a list of them; an
*all* stage takes every record that reached it (deduplication, sampling) and returns those it keeps together
with those it drops; a *per_seed* stage does that with the records of one seed (after an *all* stage: of one of
its records). A stage drops a record by raising ``Dropped`` with a short reason that can be counted.

The records of an *all* stage are on disk, and each is read anew whenever it is accessed: go over them once or twice,
hold what you compare and not the records, and return generators. So memory holds few of them at a time; of a
*per_seed* stage it holds one seed's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, Protocol

from if_factory.chat.base import Completion
from if_factory.records import Candidate, Record


class Dropped(Exception):
    """The record is dropped. ``reason`` is a key of the ledger: short, without the record's content."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Context(Protocol):
    """What the runner gives a stage: models by role, and randomness that does not depend on arrival order."""

    async def chat(self, role: str, messages: Sequence[dict[str, str]], *, sample: int = 0,
                   schema: dict[str, Any] | None = None, stop: Sequence[str] = (),
                   **sampling: Any) -> Completion:
        """Ask the model playing ``role`` (``student``, ``teacher``...). ``sampling`` overrides the role's own
        ``temperature``, ``top_p``, ``max_tokens``. Raises ``RequestFailed``, which drops the record."""
        ...

    def has(self, role: str) -> bool: ...

    async def useful(self, record: Record, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with what the run's usefulness gate says of each: whether it attempts the request.

        A run without a gate leaves them undecided, and emission decides.
        """
        ...

    def rng(self, *parts: object) -> Random:
        """A generator seeded by the run's seed and ``parts`` (a record's id, a purpose)."""
        ...


# A gate as the runner takes it: candidates of a record -> the same, decided.
Useful = Callable[[Record, Sequence[Candidate]], Awaitable[list[Candidate]]]
Each = Callable[[Record, Context], Awaitable[Record | list[Record]]]
# Those kept, and those dropped, which are taken first.
Together = tuple[Iterable[Record], Iterable[tuple[Record, Dropped]]]
All = Callable[[Sequence[Record], Context], Awaitable[Together]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A named step of a method. Read a method's list of stages top to bottom to know what it does.

    Attributes:
        joins_answers: it puts answers of some records into others, so the judge says before it which are useful.
    """

    name: str
    run: Each | All
    scope: Literal["each", "all", "per_seed"] = "each"
    joins_answers: bool = False
