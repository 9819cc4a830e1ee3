"""Reading what users give us and writing what we promise: clear errors in, atomic and stable bytes out."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from if_factory.errors import UserError


def read_text(path: Path) -> str:
    """The file's text; a missing, unreadable or non-UTF-8 file is a ``UserError`` that says which byte."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise UserError(f"not UTF-8: byte {e.start} is 0x{e.object[e.start]:02x}", where=str(path),
                        fix="convert the file, e.g. `iconv -f LATIN1 -t UTF-8`") from None
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="check the path; it is relative to where you "
                        "run the command") from None
    except OSError as e:
        raise UserError(e.strerror or str(e), where=str(path)) from None


def read_rows(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row number from 1, object)`` of a .jsonl or .json file (a .json file holds a list of objects).

    Blank lines are skipped but counted, so a row number is a line number in .jsonl.
    """
    path = Path(path)
    text = read_text(path)
    if path.suffix == ".json":
        try:
            rows = json.loads(text)
        except ValueError as e:
            raise UserError(f"not valid JSON: {e}", where=str(path)) from None
        if not isinstance(rows, list):
            raise UserError(f"expected a list of objects, found {type(rows).__name__}", where=str(path),
                            fix="wrap the rows in [ ... ], or use one object per line in a .jsonl file")
        numbered: Iterable[tuple[int, Any]] = enumerate(rows, 1)
    elif path.suffix == ".jsonl":
        numbered = ((n, _parse_line(path, n, line)) for n, line in enumerate(text.split("\n"), 1) if line.strip())
    else:
        raise UserError(f"cannot read a '{path.suffix}' file", where=str(path), fix="use .jsonl or .json")
    for n, row in numbered:
        if not isinstance(row, dict):
            raise UserError(f"expected an object, found {type(row).__name__}", where=f"{path}:{n}")
        yield n, row


def _parse_line(path: Path, n: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as e:
        hint = "one JSON object per line; is this a .json list saved as .jsonl?" if n == 1 else \
               "mend or delete this line; every line is one JSON object"
        raise UserError(f"not valid JSON: {e}", where=f"{path}:{n}", fix=hint) from None


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace ``path`` in one step: a reader sees the old bytes or the new ones, never a part.

    Raises:
        UserError: the folder is read-only, the disk is full, ... (the old file is then untouched).
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(fd, "wb") as f:
                f.write(raw)
                f.flush()
                os.fsync(f.fileno())
            os.chmod(tmp, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(tmp, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(tmp)
            raise
    except OSError as e:
        raise UserError(f"cannot write: {e.strerror or e}", where=str(path),
                        fix="free space or choose another output folder; nothing was changed") from None


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """ASCII JSON with keys in the order given: the same value is the same bytes everywhere."""
    return json.dumps(value, ensure_ascii=True, indent=indent,
                      separators=(",", ": ") if indent is not None else (", ", ": "))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows atomically, one object per line; returns how many."""
    lines = [dump_json(row) for row in rows]
    write_atomic(path, "".join(line + "\n" for line in lines))
    return len(lines)
