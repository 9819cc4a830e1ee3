"""Reading what users give us and writing what we promise: clear errors in, atomic and stable bytes out."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from if_factory import parquet
from if_factory.errors import UserError, no_such_file

_NOT_TEXT = "looks like UTF-16 or a binary file, not UTF-8"
_NUL_FIX = "the file may have been cut short by a crash; restore it or delete this line"


def read_text(path: Path) -> str:
    """The file's text; a missing, unreadable or non-UTF-8 file is a ``UserError`` that says which line."""
    with _readable(path):
        raw = path.read_bytes()
    _refuse_binary(path, raw)
    text = _decoded(path, raw.removeprefix(codecs.BOM_UTF8))
    if (nul := text.find("\0")) >= 0:
        raise UserError("contains a NUL byte", where=f"{path}:{text.count(chr(10), 0, nul) + 1}", fix=_NUL_FIX)
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """``(number from 1, text with its line end)`` of each line, read one at a time; errors are those of ``read_text``.

    Only a line feed ends a line: U+2028 and friends may stand inside a JSON string.
    """
    with _readable(path), path.open("rb") as f:
        before = 0
        for n, raw in enumerate(f, 1):
            if n == 1:
                _refuse_binary(path, raw)
                raw = raw.removeprefix(codecs.BOM_UTF8)
            line = _decoded(path, raw, n, before)
            if "\0" in line:
                raise UserError("contains a NUL byte", where=f"{path}:{n}", fix=_NUL_FIX)
            before += len(raw)
            yield n, line


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises ``UserError`` for what keeps a file from being opened or read."""
    try:
        yield
    except FileNotFoundError:
        raise no_such_file(path) from None
    except IsADirectoryError:
        raise UserError("this is a folder", where=str(path), fix="name a file in it") from None
    except OSError as e:
        raise UserError(f"cannot read: {e.strerror or e}", where=str(path),
                        fix="check the path and that you may read the file") from None


def _refuse_binary(path: Path, raw: bytes) -> None:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in raw[:4]:
        raise UserError(_NOT_TEXT, where=str(path), fix="if it is text, convert it: `iconv -f UTF-16 -t UTF-8`")


def _decoded(path: Path, raw: bytes, line: int = 1, before: int = 0) -> str:
    """``line`` and ``before``: the number of the first line, and the bytes in front of it."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as e:
        row = line + raw.count(b"\n", 0, e.start)
        raise UserError(f"not UTF-8: byte {before + e.start} is 0x{raw[e.start]:02x}", where=f"{path}:{row}",
                        fix="convert the file, e.g. `iconv -f LATIN1 -t UTF-8`") from None


def strict_json(text: str) -> Any:
    """``json.loads`` for what others must be able to read again.

    Raises:
        ValueError: not JSON; NaN or Infinity (Python takes them, JSON has none); half of a surrogate pair
            (it cannot be written as UTF-8); nested too deeply.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as e:
            raise ValueError(f"half of a surrogate pair: \\u{ord(e.object[e.start]):04x}") from None
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def read_rows(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row number from 1, object)`` of a .jsonl, .json (a list of objects) or .parquet file.

    Blank lines are skipped but counted, so a row number is a line number in .jsonl. An empty .jsonl file has
    no rows; whether that is an error is the caller's to say. A .jsonl file is read line by line, a .parquet file
    row group by row group (see ``parquet.read_parquet`` for its nulls), a .json file as a whole.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == parquet.ENDING:
        yield from parquet.read_parquet(path)
        return
    if suffix not in (".json", ".jsonl"):
        if path.is_dir():
            raise UserError("this is a folder", where=str(path), fix="name a file in it")
        raise UserError(f"cannot read a '{suffix}' file" if suffix else "the file name has no ending",
                        where=str(path), fix="use .jsonl (one object per line), .json (a list of objects) or .parquet")
    if suffix == ".jsonl":
        yield from ((n, row_of_line(path, n, line)) for n, line in read_lines(path) if line.strip())
        return
    for n, row in enumerate(_parse_list(path, read_text(path)), 1):
        if not isinstance(row, dict):
            raise UserError(f"expected an object, found {_kind(row)}", where=f"{path}:{n}",
                            fix="write each row as { ... }")
        yield n, row


def row_of_line(path: Path, n: int, line: str) -> dict[str, Any]:
    """What ``read_rows`` gives for line ``n`` of a .jsonl file; its errors are that function's."""
    try:
        row = strict_json(line)
    except ValueError as e:
        # its "line 1" is this line, which the place names
        said = f"{e.msg}: column {e.colno}" if isinstance(e, json.JSONDecodeError) else str(e)
        fix = "one JSON object per line; a list, or an object over several lines, belongs in a .json file" \
            if n == 1 else "fix or delete this line; every line is one JSON object"
        raise UserError(f"not valid JSON: {said}", where=f"{path}:{n}", fix=fix) from None
    if not isinstance(row, dict):
        raise UserError(f"expected an object, found {_kind(row)}", where=f"{path}:{n}",
                        fix="a list of rows belongs in a .json file" if isinstance(row, list)
                        else "write each row as { ... }")
    return row


def count_rows(path: Path) -> int:
    """How many rows ``read_rows`` will give, without parsing those of a .jsonl file."""
    if path.suffix.lower() == ".jsonl":
        return sum(1 for _, line in read_lines(path) if line.strip())
    if path.suffix.lower() == parquet.ENDING:
        return parquet.count_parquet(path)
    return sum(1 for _ in read_rows(path))


def _parse_list(path: Path, text: str) -> list[Any]:
    try:
        rows = strict_json(text)
    except json.JSONDecodeError as e:
        fix = "one object per line? then name the file .jsonl" if e.msg == "Extra data" else \
              "fix the file there, or create it again"
        raise UserError(f"not valid JSON: {e}", where=f"{path}:{e.lineno}", fix=fix) from None
    except ValueError as e:
        raise UserError(f"not valid JSON: {e}", where=str(path), fix="remove that value") from None
    if not isinstance(rows, list):
        raise UserError(f"expected a list of objects, found {_kind(rows)}", where=str(path),
                        fix="wrap the rows in [ ... ], or use one object per line in a .jsonl file")
    return rows


def _kind(value: Any) -> str:
    """The value's type in JSON's words, for error messages."""
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number")


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace ``path`` in one step: a reader sees the old bytes or the new ones, never a part.

    A symbolic link is followed: its target is replaced, the link stays.

    Raises:
        UserError: the folder is read-only, the disk is full, ... (the old file is then untouched).
    """
    _replace(path, [data.encode() if isinstance(data, str) else data])


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    with atomic_file(path) as f:
        f.writelines(parts)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of ``path`` at the end of the block, or disappears if it fails.

    Raises:
        UserError: as ``write_atomic``.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_symlink():  # only a loop resolves to a link
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target.parent.mkdir(parents=True, exist_ok=True)
        import tempfile  # much to import where files are only read

        fd, tmp = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.")
        try:
            with os.fdopen(fd, "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            os.chmod(tmp, target.stat().st_mode & 0o777 if target.exists() else 0o644)
            os.replace(tmp, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(tmp)
            raise
    except FileExistsError as e:
        raise UserError(f"cannot write: '{e.filename}' is a file, not a folder", where=str(path),
                        fix="choose another output folder; nothing was changed") from None
    except OSError as e:
        raise UserError(f"cannot write: {e.strerror or e}", where=str(path),
                        fix="free space or choose another output folder; nothing was changed") from None


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """ASCII JSON with keys in the order given: the same value is the same bytes everywhere."""
    return _line_of(value) if indent is None else json.dumps(value, ensure_ascii=True, indent=indent)


_line_of = json.JSONEncoder(ensure_ascii=True).encode  # made once, as it is asked for with every record


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines atomically, as they come, each with its line end."""
    _replace(path, lines)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows atomically, one object per line, as they come; returns how many."""
    written = 0

    def lines() -> Iterator[bytes]:
        nonlocal written
        for row in rows:
            written += 1
            yield dump_json(row).encode() + b"\n"

    _replace(path, lines())
    return written


class Hold:
    """The lock of a file that one process at a time may use. It ends with ``release`` or with the process.

    filelock's own lock, where the system and the disk have ``flock``; importing filelock takes as long as 200 requests.

    Raises:
        BlockingIOError: another process has it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._other: Any = None
        try:
            self._file: IO[bytes] | None = _flocked(str(path))
        except (ImportError, NotImplementedError):
            from filelock import FileLock, Timeout

            self._file, self._other = None, FileLock(str(path), timeout=0)
            try:
                self._other.acquire()
            except Timeout:
                raise BlockingIOError from None

    def release(self) -> None:
        if self._other is not None:
            self._other.release()
        if self._file is not None:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_UN)  # a process that was forked from this one may have it open too
            self._file.close()
            self._file = None


def _flocked(path: str) -> IO[bytes]:
    import fcntl

    def opened(name: str, flags: int) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)

    while True:
        file = open(path, "ab", opener=opened)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:  # else it was deleted meanwhile, and another process makes a new one
                return file
        except OSError as e:
            file.close()
            if e.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError from None
            if e.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
                raise NotImplementedError from None
            raise
        file.close()


_IN_MEMORY = 2**20  # bytes up to which there is no file at all


class TemporaryLines:
    """Pieces of text in an unnamed temporary file, in the order appended; memory holds 8 bytes for each.

    The file disappears with the process.

    Args:
        folder: on whose disk the file is; ``None`` is the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        import tempfile

        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115
        self._ends = array("Q", [0])
        self._at_end = True

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: bytes) -> None:
        """Raises ``UserError``: the disk is full."""
        try:
            if not self._at_end:
                self._file.seek(self._ends[-1])
                self._at_end = True
            self._file.write(text)
        except OSError as e:
            import tempfile

            self._at_end = False
            raise UserError(f"cannot write a temporary file: {e.strerror or e}",
                            where=str(self._folder or tempfile.gettempdir()),
                            fix="free space and run the same command again; answers logged so far are kept"
                            ) from None
        self._ends.append(self._ends[-1] + len(text))

    def __getitem__(self, place: int) -> bytes:
        if not 0 <= place < len(self):
            raise IndexError(place)
        self._at_end = False
        self._file.seek(self._ends[place])
        return self._file.read(self._ends[place + 1] - self._ends[place])
