"""The ledger of a run: records taken by each stage, and what became of them. It balances, or the run fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class LedgerError(Exception):
    """Records were lost or invented: a bug in a stage or in the runner, never a mistake of the user."""


@dataclass(slots=True)
class Row:
    """One stage's counts, all in records.

    Attributes:
        taken: records that entered the stage.
        advanced: records that left it for the next stage (each as one or more records).
        produced: records that came out; differs from ``advanced`` where one record becomes several.
        dropped: dropped records, by reason.
        unfinished: records that had entered, or waited to enter, when a run was stopped early.
    """

    stage: str
    taken: int = 0
    advanced: int = 0
    produced: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "taken": self.taken, "advanced": self.advanced, "produced": self.produced,
                "dropped": dict(sorted(self.dropped.items())), "unfinished": self.unfinished}


class Ledger:
    """One row per stage, after a first row ``seeds`` for the inputs themselves.

    ``ledger["stage name"]`` or ``ledger.rows[i]`` is a row.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.rows = [Row("seeds"), *(Row(name) for name in stages)]
        if len({row.stage for row in self.rows}) != len(self.rows):
            raise ValueError(f"stage names must differ from each other and from 'seeds': {list(stages)}")

    def __getitem__(self, stage: str) -> Row:
        return next(row for row in self.rows if row.stage == stage)

    def check(self) -> None:
        """Every record is accounted for at every stage.

        Raises:
            LedgerError: in != advanced + dropped + unfinished, or a stage took other than what was produced.
        """
        for row in self.rows:
            out = row.advanced + row.dropped.total() + row.unfinished
            if row.taken != out:
                raise LedgerError(f"stage '{row.stage}' took {row.taken} records but accounts for {out}: "
                                  f"{row.advanced} advanced, {row.dropped.total()} dropped, "
                                  f"{row.unfinished} unfinished")
        for row, after in zip(self.rows, self.rows[1:], strict=False):
            if row.produced != after.taken:
                raise LedgerError(f"stage '{row.stage}' produced {row.produced} records "
                                  f"but '{after.stage}' took {after.taken}")

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON-able rows in stage order; reasons sorted by name."""
        return [row.to_dict() for row in self.rows]

    @classmethod
    def from_dict(cls, rows: Sequence[dict[str, Any]]) -> Ledger:
        ledger = cls([row["stage"] for row in rows[1:]])
        ledger.rows = [Row(**{**_current(row), "dropped": Counter(_current(row)["dropped"])}) for row in rows]
        return ledger


def _current(row: dict[str, Any]) -> dict[str, Any]:
    """A row with today's names; 0.1 wrote ``rejected``."""
    return {"dropped" if key == "rejected" else key: value for key, value in row.items()}
