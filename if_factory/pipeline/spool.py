"""A spool of records in an unnamed temporary file, so that memory does not grow with the length of a run.

A record of a long run holds every answer it got, tens of kilobytes; only its place in the file stays in memory, and
the keys that order the records are in a temporary database. Both disappear with the process: they are no output, and
nothing is resumed from them.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import overload

from pydantic import ValidationError

from if_factory.errors import UserError
from if_factory.files import TemporaryLines, dump_json
from if_factory.records import Record

_TOGETHER = 256  # keys written at once: one at a time takes three times as long


class Spool(Sequence[Record]):
    """Records in the order they are put in; each is read when accessed.

    Args:
        folder: on whose disk the file is; ``None`` is the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._lines = TemporaryLines(folder)

    def append(self, record: Record) -> None:
        """Raises ``UserError``: the disk is full; what was answered is in the log."""
        self._lines.append(line_of(record))

    def lines(self) -> Iterator[bytes]:
        """Each record as a line of records.jsonl, in order."""
        return map(self._lines.__getitem__, self._places())

    def ids(self) -> Iterator[str]:
        """The records' ids, in order; no record is made for it."""
        return map(_id_of, self.lines())

    def _places(self) -> Sequence[int]:
        """The order of the lines."""
        return range(len(self._lines))

    def _record(self, place: int) -> Record:
        return record_of(self._lines[place])

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, self._places())

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._record(self._places()[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Record.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]


class SortedSpool(Spool):
    """Records in the order of their keys, whatever order they are put in."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        # Beyond its cache of 2 MB it is in a file of its own; an empty name is a temporary database.
        self._keys = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._keys.execute("CREATE TABLE keys (key BLOB PRIMARY KEY, place INTEGER) WITHOUT ROWID")
        self._keys.execute("BEGIN")
        self._order: array[int] | None = None
        self._new: list[tuple[bytes, int]] = []  # keys that wait to be written together

    def __del__(self) -> None:
        self._keys.close()

    def put(self, key: tuple[int, ...], record: Record) -> None:
        """Raises ``UserError``: as ``append``. A key is put once."""
        self.put_line(key, line_of(record))

    def put_line(self, key: tuple[int, ...], line: bytes) -> None:
        """``put`` with the line that ``line_of`` made, here or in another process."""
        self._lines.append(line)
        self._new.append((_packed(key), len(self._lines) - 1))
        self._order = None
        if len(self._new) >= _TOGETHER:
            self._insert()

    def _insert(self) -> None:
        try:
            self._keys.executemany("INSERT INTO keys VALUES (?, ?)", self._new)
        except sqlite3.OperationalError as e:
            raise UserError(f"cannot write a temporary file: {e}",
                            fix="free space in the folder for temporary files and run the same command again; "
                            "answers logged so far are kept") from None
        self._new.clear()

    def by_seed(self) -> Iterator[tuple[int, list[Record]]]:
        """The first number of their keys and the records that share it, one group at a time, in order."""
        self._insert()
        keys = self._keys.execute("SELECT substr(key, 1, 8), place FROM keys ORDER BY key")
        for seed, places in groupby(keys, key=lambda row: row[0]):
            yield int.from_bytes(seed, "big"), [self._record(place) for _, place in places]

    def _places(self) -> Sequence[int]:
        if self._order is None:
            self._insert()
            self._order = array("Q", (place for place, in self._keys.execute("SELECT place FROM keys ORDER BY key")))
        return self._order


def line_of(record: Record) -> bytes:
    """A record as its line in a spool."""
    return dump_json(record.model_dump(mode="json")).encode("ascii") + b"\n"


def record_of(line: bytes) -> Record:
    """The record that ``line_of`` made a line of."""
    try:
        return Record.model_validate_json(line)
    except ValidationError:  # half of a surrogate pair, which pydantic's JSON does not take
        return Record.model_validate(json.loads(line))


def _id_of(line: bytes) -> str:
    """The first field of a line."""
    found: str = _decode(line.decode("ascii"), len('{"id": '))[0]
    return found


_decode = json.JSONDecoder().raw_decode


def _packed(key: tuple[int, ...]) -> bytes:
    """Bytes in the order of the keys: whole numbers from 0, and a key before those that it begins."""
    return struct.pack(f">{len(key)}Q", *key)
