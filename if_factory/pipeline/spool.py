"""A spool of finished records in an unnamed temporary file, so that memory does not grow with the length of a run.

A record of a long run holds every answer it got, tens of kilobytes; only its position in the file stays in memory.
The file disappears with the process: it is not an output, and nothing is resumed from it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import overload

from if_factory.errors import UserError
from if_factory.files import dump_json
from if_factory.records import Record

_IN_MEMORY = 8 * 2**20  # bytes up to which there is no file at all


class Spool(Sequence[Record]):
    """Records in the order of their keys, whatever order they were put in; each is read when accessed.

    Args:
        folder: on whose disk the file is; ``None`` is the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        # Open as long as the spool is: the file goes with it.
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115
        self._places: list[tuple[tuple[int, ...], int]] = []
        self._end = 0
        self._sorted = True

    def put(self, key: tuple[int, ...], record: Record) -> None:
        """Raises ``UserError``: the disk is full; what was answered is in the log."""
        self.put_line(key, line_of(record))

    def put_line(self, key: tuple[int, ...], line: bytes) -> None:
        """``put`` with the line that ``line_of`` made, here or in another process."""
        try:
            self._file.seek(self._end)
            self._file.write(line)
        except OSError as e:
            raise UserError(f"cannot write a temporary file: {e.strerror or e}",
                            where=str(self._folder or tempfile.gettempdir()),
                            fix="free space and run the same command again; answers logged so far are kept"
                            ) from None
        self._sorted = self._sorted and (not self._places or self._places[-1][0] < key)
        self._places.append((key, self._end))
        self._end += len(line)

    def by_seed(self) -> Iterator[list[Record]]:
        """The records by the first number of their keys, one group at a time, in order."""
        self._sort()
        for _, places in groupby(enumerate(self._places), key=lambda at: at[1][0][0]):
            yield [self[i] for i, _ in places]

    def _sort(self) -> None:
        if not self._sorted:
            self._places.sort()
            self._sorted = True

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        self._sort()
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        self._file.seek(self._places[index][1])
        return Record.model_validate(json.loads(self._file.readline()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Record.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]


def line_of(record: Record) -> bytes:
    """A record as its line in a spool."""
    return dump_json(record.model_dump(mode="json")).encode("ascii") + b"\n"
