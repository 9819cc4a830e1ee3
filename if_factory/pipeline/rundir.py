"""A run's folder: the response log that makes a run resumable, and the files that are its outcome.

::

    recipe.yaml      the recipe of the latest run here, every value written out
    responses.jsonl  the response log; only ever appended to (chat/log.py). Its lock is the folder's lock
    records.jsonl    the records that passed every stage
    dropped.jsonl    those that did not: stage, record_id, reason, detail
    usage.json       answers, tokens and cost per stage and role, whether asked now or by an earlier run
    ledger.json      the account; written last, so where it is, the files beside it are of the same run

All but the log is rewritten whole by each run and is a function of recipe, seed and answers alone: no clock,
no host, no order of arrival.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from if_factory.chat.budget import Usage
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError, deprecated
from if_factory.files import (
    dump_json,
    read_lines,
    read_rows,
    read_text,
    row_of_line,
    write_atomic,
    write_jsonl,
    write_lines,
)
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.result import DroppedRecord, RunResult
from if_factory.pipeline.spool import Spool
from if_factory.records import Record

RECORDS = "records.jsonl"
_IDENTITY = ("method", "seed", "shard")


class RunDir:
    """``with RunDir(path) as folder`` holds the folder for one run; reading a finished run needs no ``with``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._log: ResponseLog | None = None

    def __enter__(self) -> RunDir:
        """Raises ``UserError``: another run holds the folder, or it cannot be written."""
        self._log = ResponseLog(self.path / "responses.jsonl")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def log(self) -> ResponseLog:
        if self._log is None:
            raise RuntimeError("the run folder is not open: use `with RunDir(path) as folder`")
        return self._log

    # ------------------------------------------------------------------ writing

    def claim(self, recipe: Mapping[str, Any], *, force: bool = False) -> None:
        """Say which recipe is about to run here, and keep a copy of it.

        An edited recipe may run here: what was asked before is taken from the log. Another method, seed or shard
        would ask everything again and replace the outcome, so that needs ``force``.

        Raises:
            UserError: the folder holds a run of another method, seed or shard.
        """
        if not force and (self.path / "recipe.yaml").exists():
            before = self.recipe()
            for key in _IDENTITY:
                if before.get(key) != recipe.get(key):
                    raise UserError(f"this folder holds a run with {key} {before.get(key)!r}, the recipe has "
                                    f"{recipe.get(key)!r}", where=str(self.path),
                                    fix="give this run another folder with --out, or delete this one")
        import yaml  # much to import for a run without a recipe

        plain = json.loads(json.dumps(dict(recipe), default=str))
        write_atomic(self.path / "recipe.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    def write(self, result: RunResult, usage: Usage, emission: Mapping[str, Any] | None = None, *,
              sandbox: str | None = None, usefulness: Mapping[str, Any] | None = None) -> None:
        """Write the outcome; ``emission`` is the method's count of what can be emitted of it.

        ``usefulness`` says who decided which answers attempt their requests, and shows some that do not.
        ``sandbox`` is the isolation under which generated code ran, for the account; left out where none ran.

        A kill at any point leaves no ledger beside files of another run.
        """
        stages = [row.stage for row in result.ledger.rows]
        account = {"complete": result.complete, "stopped_by": result.stopped_by,
                   "stages": result.ledger.to_dict(), "emission": dict(emission or {}),
                   **({"usefulness": dict(usefulness)} if usefulness else {}),
                   **({"sandbox": sandbox} if sandbox else {})}
        (self.path / "ledger.json").unlink(missing_ok=True)
        records = result.records
        if isinstance(records, Spool):
            write_lines(self.path / RECORDS, records.lines())
        else:
            write_jsonl(self.path / RECORDS, (record.model_dump(mode="json") for record in records))
        write_jsonl(self.path / "dropped.jsonl", (each._asdict() for each in result.dropped))
        write_atomic(self.path / "usage.json", dump_json(usage_rows(usage, stages), indent=2) + "\n")
        write_atomic(self.path / "ledger.json", dump_json(account, indent=2) + "\n")

    # ------------------------------------------------------------------ reading a run back

    def recipe(self) -> dict[str, Any]:
        """The recipe of the latest run here, as loaded from YAML."""
        import yaml

        path = self.path / "recipe.yaml"
        if not path.exists():
            raise UserError("there is no run here", where=str(self.path), fix="make one with `if-factory run`")
        try:
            recipe = yaml.safe_load(read_text(path))
        except yaml.YAMLError as e:
            raise UserError(f"not valid YAML: {e}", where=str(path), fix="delete it and run again") from None
        if not isinstance(recipe, dict):
            raise UserError("expected a mapping", where=str(path), fix="delete it and run again")
        return recipe

    def records(self) -> list[Record]:
        """All of them in memory; ``iter_records`` reads one at a time.

        Raises:
            UserError: the folder holds no finished run or a row is not a record.
        """
        return list(self.iter_records())

    def iter_records(self) -> Iterator[Record]:
        """The records one at a time, in order. Raises ``UserError`` as ``records``."""
        return map(partial(record_of_line, self.path), self.iter_lines())

    def iter_lines(self) -> Iterator[tuple[int, str]]:
        """The number of each record's line and its text, which ``record_of_line`` reads, here or in another process."""
        self._account()
        return ((n, line) for n, line in read_lines(self.path / RECORDS) if line.strip())

    def records_at(self, places: Collection[int]) -> dict[int, Record]:
        """The records at some places (from 0, as ``iter_records`` counts); the others are not parsed."""
        wanted = set(places)
        return {place: record_of_line(self.path, numbered) for place, numbered in enumerate(self.iter_lines())
                if place in wanted}

    def dropped(self) -> list[DroppedRecord]:
        """All of them in memory; ``iter_dropped`` reads one at a time."""
        return list(self.iter_dropped())

    def iter_dropped(self) -> Iterator[DroppedRecord]:
        """The dropped records one at a time, in order."""
        self._account()
        path = self.path / "dropped.jsonl"
        if not path.exists() and (before := self.path / "rejects.jsonl").exists():
            deprecated(f"{before} has the name of if-factory 0.1", "run again, at no cost, to have dropped.jsonl")
            path = before
        for _, row in read_rows(path):
            yield DroppedRecord(**row)

    def ledger(self) -> Ledger:
        return Ledger.from_dict(self._account()["stages"])

    def emission(self) -> dict[str, Any]:
        """What ``write`` was given."""
        return dict(self._account()["emission"])

    def usefulness(self) -> dict[str, Any]:
        """What ``write`` was given; empty for a run made before there was such a gate."""
        return dict(self._account().get("usefulness", {}))

    def complete(self) -> bool:
        """The last run here reached the end: no budget and no Ctrl-C stopped it."""
        return bool(self._account()["complete"])

    def usage(self) -> list[dict[str, Any]]:
        """Rows of ``usage_rows``."""
        self._account()
        return list(json.loads(read_text(self.path / "usage.json")))

    def _account(self) -> dict[str, Any]:
        path = self.path / "ledger.json"
        if not path.exists():
            started = (self.path / "responses.jsonl").exists()
            raise UserError("the run here has not finished" if started else "there is no run here",
                            where=str(self.path), fix="start or continue it with `if-factory run`")
        try:
            return dict(json.loads(read_text(path)))
        except (ValueError, TypeError) as e:
            raise UserError(f"not valid JSON: {e}", where=str(path), fix="run again; what was already answered "
                            "costs nothing") from None


def record_of_line(folder: Path, numbered: tuple[int, str]) -> Record:
    """The record on a line of a run folder's records.jsonl.

    Raises:
        UserError: the row is not a record.
    """
    path, (n, line) = folder / RECORDS, numbered
    row = row_of_line(path, n, line)
    try:
        return Record.model_validate(row)
    except ValueError as e:
        raise UserError(f"not a record: {e}", where=f"{path}:{n}",
                        fix="run again; what was already answered costs nothing") from None


def usage_rows(usage: Usage, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Usage as a function of the answers alone: stages in order, no matter which process asked.

    ``cost`` is in USD, rounded to 1e-6 because it was added up in the order of arrival; None if unknown.
    """
    rows = []
    for (stage, role), t in sorted(usage.tallies.items(), key=lambda kv: (stages.index(kv[0][0]), kv[0][1])):
        rows.append({"stage": stage, "role": role, "answers": t.requests + t.replayed, "failed": t.failed,
                     "prompt_tokens": t.prompt_tokens, "completion_tokens": t.completion_tokens,
                     "truncated": t.truncated, "filtered": t.filtered,
                     "cost": None if t.cost is None else round(t.cost, 6)})
    return rows
