"""Parquet files in and out, some rows at a time. The library, pyarrow, comes with ``if-factory[datasets]``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from if_factory.errors import UserError, no_such_file

ENDING = ".parquet"
_TOGETHER = 1000  # rows in memory while a file is read


def library(where: str) -> Any:
    """The module ``pyarrow.parquet``. Raises ``UserError`` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError("parquet files need the `pyarrow` library", where=where,
                        fix='pip install "if-factory[datasets]"') from None
    return pyarrow.parquet


def read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row number from 1, object)``, read row group by row group.

    A parquet file has every column in every row, so null means that the row has no such key: it is left out, in
    nested objects too. What JSON cannot hold becomes text (dates), or is left out (bytes, NaN).

    Raises:
        UserError: no such file, not a parquet file, or pyarrow is missing.
    """
    n = 0
    for rows in batches(path):
        for row in rows:
            n += 1
            yield n, _plain(row)


def batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows as they are, up to a thousand at a time. Raises ``UserError`` as ``read_parquet``."""
    file = opened(path)
    try:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_size=_TOGETHER, row_groups=[group]):
                yield batch.to_pylist()
    except (OSError, ValueError) as e:  # Arrow's errors are kinds of these
        raise UserError(f"cannot read: {e}".splitlines()[0], where=str(path),
                        fix="the file may be damaged; fetch or make it again") from None
    finally:
        file.close()


def count_parquet(path: Path) -> int:
    """The number of rows, from the file's end. Raises ``UserError`` as ``read_parquet``."""
    file = opened(path)
    try:
        return int(file.metadata.num_rows)
    finally:
        file.close()


def opened(path: Path) -> Any:
    """A ``pyarrow.parquet.ParquetFile``. Raises ``UserError`` as ``read_parquet``."""
    pq = library(str(path))
    if path.is_dir():
        raise UserError("this is a folder", where=str(path), fix="name a file in it")
    if not path.is_file():
        raise no_such_file(path)
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as e:
        raise UserError(f"not a parquet file: {e}".splitlines()[0], where=str(path),
                        fix="check the file's name; text belongs in .jsonl") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: made for k, v in value.items() if (made := _plain(v)) is not None}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, str | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if isinstance(value, bytes) else str(value)


class TableWriter:
    """Writes rows with the same keys into an open file; each ``write`` is one row group.

    The types are those of the first row: texts, booleans, floats, objects of these, and lists; ``history`` is a list
    of lists of texts.
    """

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._pq, self._file = library(where), file
        self._writer: Any = None

    def write(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Returns the file's schema."""
        import pyarrow as pa

        if self._writer is None:
            schema = pa.schema([(key, _type(pa, key, value)) for key, value in rows[0].items()])
            self._writer = self._pq.ParquetWriter(self._file, schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._writer.schema))
        return self._writer.schema

    def close(self) -> None:
        """Write the file's end."""
        if self._writer is not None:
            self._writer.close()


def _type(pa: Any, key: str, value: Any) -> Any:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, dict):
        return pa.struct([(k, _type(pa, k, v)) for k, v in value.items()])
    if isinstance(value, list):
        return pa.list_(pa.list_(pa.string()) if key == "history" else _type(pa, key, value[0]))
    return pa.string()
