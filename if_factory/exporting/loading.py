"""A dataset's files read as LLaMA-Factory's loader reads them: piece by piece, in the order of the folder."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from if_factory import parquet
from if_factory.errors import UserError
from if_factory.exporting import arrow
from if_factory.exporting.remarks import SIGNS

PIECE = 10 << 20  # bytes; datasets' JsonConfig.chunksize
_KINDS = {"arrow": "arrow", "csv": "csv", "json": "json", "jsonl": "json", "parquet": "parquet", "txt": "text"}
_SOLID = re.compile(r"[^ \t\r\n]")
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
_SPACED_KEY = re.compile(rb'"[ \t\r]+:')
_SURPLUS_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*\})', re.DOTALL)


@dataclass(slots=True)
class Piece:
    """Rows that the loader types together. ``first_row`` counts from 1, ``job`` (the worker that reads it) from 0.

    ``type``: of a parquet file's schema. ``whole``: known to hold no half of a surrogate pair. ``quiet``: known to
    hold no word of ``remarks.NOTABLE``.
    """

    rows: list[Any]
    mode: arrow.Mode
    first_row: int = 1
    type: arrow.Type | None = None
    whole: bool = False
    quiet: bool = False
    job: int = 0


class Unreadable(Exception):
    """The file needs a library that is not installed here."""


def files_of(path: Path) -> tuple[str, list[Path]]:
    """The builder (json, csv, parquet, arrow, text) and the files, in the order LLaMA-Factory gets them.

    Raises:
        Unloadable: no such file, or types that LLaMA-Factory does not take or does not mix.
    """
    if path.is_dir():
        files = [path / name for name in os.listdir(path)]
    elif path.is_file():
        files = [path]
    else:
        raise arrow.Unloadable(f"file {path} not found", field="file_name")
    kinds = {_KINDS.get(f.suffix[1:]) for f in files}
    if None in kinds or not kinds:
        raise arrow.Unloadable(f"file type of {path.name} not allowed; allowed: {', '.join(_KINDS)}",
                               field="file_name")
    if len(kinds) > 1:
        raise arrow.Unloadable(f"the files of folder {path} are of different types", field="file_name")
    return str(kinds.pop()), files


def shares(number: int, workers: int) -> list[range]:
    """What of ``number`` things each worker gets: contiguous, the first ones one more."""
    workers = max(1, min(workers, number))
    size, more = divmod(number, workers)
    ends = [0]
    for i in range(workers):
        ends.append(ends[-1] + size + (i < more))
    return [range(a, b) for a, b in pairwise(ends)]


def read_pieces(path: Path, size: int = PIECE, workers: int = 1) -> Iterator[Piece]:
    """The pieces of a file, or of all files of a folder, which ``workers`` share out among themselves.

    Raises:
        Unloadable: the loader refuses the file, or all files of a worker are empty.
        Unreadable: the ``datasets`` library is needed and not installed.
    """
    kind, files = files_of(path)
    if kind == "parquet" and (schema := _own_schema(files)) is not None:
        yield from _parquet_pieces(files, schema_type(schema))
        return
    if kind != "json":
        yield Piece(_with_datasets(kind, files, workers), "python")
        return
    row = 1
    for job, share in enumerate(shares(len(files), workers)):
        empty = True
        for file in files[share.start:share.stop]:
            for piece in _json_pieces(file, size, row):
                piece.job, empty = job, False
                yield piece
                row += len(piece.rows)
        if empty and len(share) < len(files):
            raise arrow.Unloadable(f"{files[share.start].name} is empty, and the one of preprocessing_num_workers that "
                                   "reads it has nothing else: remove the file", field="file_name")


def _own_schema(files: list[Path]) -> Any:
    """The one Arrow schema of parquet files; ``None`` where they differ or name features of ``datasets``, whose
    loader then says what their rows are."""
    try:
        schemas = []
        for path in files:
            file = parquet.opened(path)
            schemas.append(file.schema_arrow)
            file.close()
    except UserError as e:
        if importlib.util.find_spec("pyarrow") is None:
            raise Unreadable(f"not checked: {e.problem} ({e.fix})") from None
        raise arrow.Unloadable(f"the loader refuses the file: {e.problem}", field="file_name") from None
    named = any(b"huggingface" in (s.metadata or {}) for s in schemas)
    return None if named or any(not s.equals(schemas[0]) for s in schemas) else schemas[0]


def _parquet_pieces(files: list[Path], own: arrow.Type) -> Iterator[Piece]:
    row = 1
    for path in files:
        try:
            for rows in parquet.batches(path):
                yield Piece(rows, "python", row, own)
                row += len(rows)
        except UserError as e:
            raise arrow.Unloadable(f"the loader refuses the file: {e.problem}", field="file_name") from None


def schema_type(schema: Any) -> arrow.Type:
    """The type of rows with this Arrow schema (or struct), in which a null takes no part."""
    return arrow.Type("object", {f.name: _arrow_type(f.type) for f in schema})


def _arrow_type(t: Any) -> arrow.Type:
    from pyarrow import types

    if types.is_struct(t):
        return schema_type([t.field(i) for i in range(t.num_fields)])
    if types.is_list(t) or types.is_large_list(t) or types.is_fixed_size_list(t):
        return arrow.Type("list", {"[]": _arrow_type(t.value_type)})
    known = (("null", types.is_null), ("string", types.is_string), ("string", types.is_large_string),
             ("bool", types.is_boolean), ("int", types.is_integer), ("float", types.is_floating))
    return arrow.Type(next((kind for kind, holds in known if holds(t)), str(t)))


def _json_pieces(file: Path, size: int, row: int) -> Iterator[Piece]:
    with file.open("rb") as f:
        first = True
        while raw := f.read(size):
            raw += f.readline()
            if first and raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):  # the loader goes by the content
                yield Piece(parse_list(raw + f.read()), "list", row)
                return
            if first:
                raw, first = raw.removeprefix(b"\xef\xbb\xbf"), False
            rows = _line_by_line(raw)
            if rows is None:
                piece = Piece(parse_lines(_decoded(raw, row), row), "lines", row)
            else:  # the parser has refused half pairs
                piece = Piece(rows, "lines", row, whole=True, quiet=_quiet(raw))
            yield piece
            row += len(piece.rows)


def _quiet(raw: bytes) -> bool:
    """No text holds a sign of ``remarks.NOTABLE``, written as itself or as an escape."""
    return not any(sign.encode() in raw for sign in SIGNS) and (
        b"\\u00" not in raw or not _ESCAPED_ASCII.search(raw))


def _decoded(raw: bytes, row: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise arrow.Unloadable(f"not UTF-8: byte 0x{raw[e.start]:02x}",
                               row=row + raw.count(b"\n", 0, e.start)) from None


def parse_list(raw: bytes) -> list[Any]:
    """A JSON list as pandas reads it: line breaks in strings and a comma before ``}`` are taken.

    Raises:
        Unloadable: not UTF-8, or not JSON.
    """
    text = _decoded(raw, 1)
    decoder = json.JSONDecoder(strict=False)
    try:
        return list(decoder.decode(text))
    except RecursionError:
        raise arrow.Unloadable("nested too deeply") from None
    except ValueError as e:
        if _SURPLUS_COMMA.search(text):
            try:
                return list(decoder.decode(_SURPLUS_COMMA.sub(lambda m: m[1] or "", text)))
            except ValueError:
                pass
        raise arrow.Unloadable(f"not valid JSON: {e}") from None


def parse_lines(text: str, first_row: int = 1) -> list[Any]:
    """The values of a piece of a .jsonl file.

    Raises:
        Unloadable: not JSON, or a key is there twice in one object.
    """
    # Arrow asks for white space between values at most, not for lines.
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    values: list[Any] = []
    at = 0
    while found := _SOLID.search(text, at):
        try:
            value, at = decoder.raw_decode(text, found.start())
        except RecursionError:
            raise arrow.Unloadable("nested too deeply", row=first_row + len(values)) from None
        except ValueError as e:
            raise arrow.Unloadable(f"not valid JSON: {getattr(e, 'msg', e)}",
                                   row=first_row + len(values)) from None
        values.append(value)
    return values


def _line_by_line(raw: bytes) -> list[Any] | None:
    """The same where every line holds one object and nothing is wrong; ``None`` otherwise.

    pydantic's parser (jiter) takes less than half of the time of ``json`` and nothing that ``json`` refuses.
    """
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n")
    if not raw.endswith(b"\n") or raw.endswith(b"\n\n"):
        raw = raw.rstrip(b"\n") + b"\n"
    try:
        rows = list(map(from_json, BytesIO(raw)))
        if set(map(type, rows)) != {dict}:
            return None
        # outside strings every `":` ends a key, so one too many may be a key that is there twice
        keys = raw.count(b'":')
        nested = keys != sum(map(len, rows))
        if (nested and (keys - raw.count(b'\\":') != _all_keys(rows) or b'\\\\":' in raw)) or b" :" in raw or \
                b"\t" in raw or b"\r" in raw:
            for line, row in zip(BytesIO(raw), rows, strict=True):
                if line.count(b'":') - line.count(b'\\":') != _keys(row) or b'\\\\":' in line or \
                        _SPACED_KEY.search(line):
                    json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return rows


def _all_keys(rows: list[Any]) -> int:
    """The keys of all objects, level by level, which takes a fraction of the time of ``_keys`` of each row."""
    number, level = 0, rows
    while level:
        objects = [v for v in level if type(v) is dict]
        number += sum(map(len, objects))
        inner: list[Any] = list(chain.from_iterable(v for v in level if type(v) is list))
        inner += chain.from_iterable(map(dict.values, objects))
        level = [v for v in inner if type(v) is dict or type(v) is list]
    return number


def _keys(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum(_keys(v) for v in value.values() if type(v) in (dict, list))
    return sum(_keys(v) for v in value if type(v) in (dict, list))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice in one object")
    return made


def _with_datasets(kind: str, files: list[Path], workers: int) -> list[Any]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise Unreadable(f"not checked: {kind} files are read with the `datasets` library, which is not "
                         'installed (pip install "if-factory[datasets]")') from None
    try:
        return list(load_dataset(kind, data_files=[str(f) for f in files], split="train",
                                 num_proc=workers if min(workers, len(files)) > 1 else None))
    except Exception as e:  # whatever the loader raises here, it raises in LLaMA-Factory too
        raise arrow.Unloadable(f"the loader refuses the file: {e}", field="file_name") from None


_SLICE = re.compile(r"(?P<split>\w+(?:\.\w+)*)(?:\[(?:(?P<start>-?[\d_]+)(?P<start_pct>%)?)?:"
                    r"(?:(?P<stop>-?[\d_]+)(?P<stop_pct>%)?)?\])?(?:\((?P<rounding>[^)]*)\))?")


def split_rows(split: str, rows: int) -> list[range]:
    """Which rows of ``rows`` a ``split`` such as ``train[:10%]+train[5:]`` takes, from 0.

    Raises:
        Unloadable: not a split of a local file.
    """
    taken = []
    for part in re.split(r"\s*\+\s*", split.strip()):
        m = _SLICE.fullmatch(part)
        if m is None or m["split"] not in ("train", "all"):
            raise arrow.Unloadable(f"a local file only has the split 'train', not {split!r}", field="split")
        percent = m["start_pct"] or m["stop_pct"]
        ends = [int(m[k]) if m[k] else None for k in ("start", "stop")]
        if percent:
            if (drop := m["rounding"] == "pct1_dropremainder") and rows < 100:
                raise arrow.Unloadable(f"'{split}' is empty with fewer than 100 rows", field="split")
            ends = [None if e is None else e * (rows // 100) if drop else round(e * rows / 100) for e in ends]
        start, stop = (default if e is None else max(rows + e, 0) if e < 0 else min(e, rows)
                       for e, default in zip(ends, (0, rows), strict=True))
        if stop == start - 1 and stop > 0:
            stop = rows  # datasets 4.0 takes -1 rows, and reads that as all there are (arrow_reader.py)
        taken.append(range(start, max(start, stop)))
    return taken
