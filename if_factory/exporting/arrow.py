"""Rows as LLaMA-Factory's converters see them: one Arrow type per column, absent keys filled with null.

A data file goes through the ``datasets`` loader before LLaMA-Factory looks at a single row. That step can refuse
the whole file (a field that is a string here and a number there) or change what a value is (a column of nothing
but dates becomes timestamps, no longer strings). A .jsonl file is typed in pieces of 10 MB: every later piece is
cast to the types of the first, so a column that is null or absent throughout the first piece cannot hold anything
later. The rows that the converters return are typed in the same way, 1,000 at a time.
Source: ``datasets`` 4.0.0 ``packaged_modules/json``, ``table.cast_array_to_feature``, ``arrow_writer``; Arrow's
and pandas' JSON readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any, Literal

Mode = Literal["lines", "list", "python"]  # Arrow's reader, pandas' reader, Python values
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T](?P<time>\d\d(?::\d\d(?::\d\d)?)?)(?:Z|[+-]\d\d(?::?\d\d)?)?)?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf|-inf")
_DATE_NAME = re.compile(r".*(?:_at|_time)|modified|date|datetime|timestamp.*", re.IGNORECASE | re.DOTALL)
_SCALARS = {"bool", "int", "float", "date", "string", "timestamp"}


class Unloadable(Exception):
    """The loader refuses the whole file because of this place. ``row`` counts from 1."""

    def __init__(self, reason: str, *, row: int | None = None, field: str = "") -> None:
        self.reason, self.row, self.field = reason, row, field
        super().__init__(reason)


class Timestamp:
    """Stands for a string that the loader turned into a timestamp: it is not a ``str`` any more."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"timestamp {self.text}"


@dataclass(slots=True)
class Type:
    """What a column, or a part of one, holds.

    ``kind`` is null, bool, int, float, date, string, timestamp, list, object or the name of another Python type.
    ``parts`` are the keys of an object, or ``"[]"`` for the items of a list; ``objects`` counts the objects seen,
    ``present`` in how many of them this key stood.
    """

    kind: str = "null"
    parts: dict[str, Type] = field(default_factory=dict)
    objects: int = 0
    present: int = 0

    def same(self, other: Type) -> bool:
        """Equal as Arrow types; a date column is a timestamp column."""
        return (self.kind == other.kind or {self.kind, other.kind} == {"date", "timestamp"}) and \
            self.parts.keys() == other.parts.keys() and all(p.same(other.parts[k]) for k, p in self.parts.items())

    def changes(self) -> bool:
        """Whether loading changes a value: dates become timestamps, absent keys become null."""
        return self.kind == "date" or any(
            p.changes() or (self.kind == "object" and p.present < self.objects) for p in self.parts.values())


def learn_rows(rows: Sequence[Any], mode: Mode, first_row: int = 1) -> Type:
    """The type of a piece of a file.

    Raises:
        Unloadable: a row is not an object, or a field changes its type between rows.
    """
    table = Type("object")
    for n, row in enumerate(rows, first_row):
        if not isinstance(row, dict) and not (row is None and mode == "lines"):  # there, null is a row of nulls
            raise Unloadable(f"expected an object, found {_kind(row, mode)}", row=n)
        learn(table, {} if row is None else row, mode, n)
    if mode == "list":
        _dates_by_name(table, rows)
        _whole_numbers(table, rows)
    return table


def learn(t: Type, value: Any, mode: Mode, row: int | None = None, path: str = "") -> None:
    """Widen ``t`` so that it holds ``value`` too.

    Raises:
        Unloadable: it cannot.
    """
    if value is None:
        return
    kind = "string" if type(value) is str and mode != "lines" else _kind(value, mode)
    if t.kind != kind:
        t.kind = _widened(t.kind, kind, row, path)
    if kind == "object":
        t.objects += 1
        for key, v in value.items():
            part = t.parts.get(key)
            if part is None:
                part = t.parts[key] = Type()
            part.present += 1
            if v is not None:
                learn(part, v, mode, row, f"{path}.{key}" if path else key)
    elif kind == "list":
        items = t.parts.setdefault("[]", Type())
        for v in value:
            learn(items, v, mode, row, f"{path}[]")
    elif kind == "string" and mode == "lines" and not value.isascii():  # the list reader lets half a pair pass
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unloadable("holds half of a surrogate pair, which is no text", row=row, field=path) from None
    elif kind == "int" and mode == "list" and not -2 ** 63 <= value < 2 ** 64:
        raise Unloadable("is an integer of more than 64 bits", row=row, field=path)


def _widened(old: str, new: str, row: int | None, path: str) -> str:
    if old == "null":
        return new
    if {old, new} == {"date", "string"}:
        return "string"
    if {old, new} == {"int", "float"}:
        return "float"
    raise Unloadable(f"is a {_said(new)} here and a {_said(old)} before; a field has one type in all rows",
                     row=row, field=path)


def _said(kind: str) -> str:
    return "number" if kind in ("int", "float") else kind


def _kind(value: Any, mode: Mode) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "date" if mode == "lines" and _is_date(value) else "string"
    if isinstance(value, int):
        return "int" if mode != "lines" or -2 ** 63 <= value < 2 ** 63 else "float"
    for known, kind in ((float, "float"), (list, "list"), (dict, "object"), (Timestamp, "timestamp")):
        if isinstance(value, known):
            return kind
    return type(value).__name__


def _is_date(text: str) -> bool:
    if len(text) > 25 or not (found := _DATE.fullmatch(text)):
        return False
    try:
        if text[:4] != "0000":
            date.fromisoformat(text[:10])
        if found["time"]:
            time.fromisoformat(found["time"])
    except ValueError:
        return False
    return True


def _dates_by_name(table: Type, rows: Sequence[Any]) -> None:
    """pandas reads a column of a list file as dates if its name says so and every value is one."""
    for name, t in table.parts.items():
        if t.kind == "string" and _DATE_NAME.fullmatch(name) and all(
                _is_date(row[name]) for row in rows if row.get(name) is not None):
            t.kind = "date"


def _whole_numbers(table: Type, rows: Sequence[Any]) -> None:
    """pandas makes integers of a column whose numbers are all whole."""
    for name, t in table.parts.items():
        if t.kind == "float" and all(float(v).is_integer() and -2 ** 63 <= v < 2 ** 63
                                     for row in rows if (v := row.get(name)) is not None):
            t.kind = "int"


def fits(first: Type, later: Type, values: Callable[[str], Iterable[Any]], since: str, path: str = "") -> None:
    """Whether a later piece can be cast to the types of the first one; ``values(path)`` are the later values.

    Raises:
        Unloadable: it cannot. ``since`` says what the first piece is, for the message.
    """
    if later.kind == "null":
        return
    where = path.removesuffix("[]").removesuffix(".")
    if first.kind == "null":
        raise Unloadable(f"is empty throughout {since} and a {_said(later.kind)} later: the loader fixes its type "
                         "before it sees one; put a row that has it first", field=where)
    if later.kind in ("object", "list"):
        if first.kind != later.kind:
            raise Unloadable(f"is a {_said(first.kind)} in {since} and a {later.kind} later", field=where)
        for key, part in later.parts.items():
            at = f"{path}[]" if key == "[]" else f"{path}.{key}" if path else key
            if key not in first.parts:
                raise Unloadable(f"'{key}' is in no row of {since} and there later: the loader fixes the columns "
                                 "before it sees it; put a row that has it first", field=at)
            fits(first.parts[key], part, values, since, at)
    elif first.kind != later.kind and not _castable(first.kind, later.kind, lambda: values(path)):
        raise Unloadable(f"is a {_said(first.kind)} in {since} and a {_said(later.kind)} later", field=where)


def _castable(to: str, kind: str, values: Callable[[], Iterable[Any]]) -> bool:
    """Arrow's safe cast of one kind of scalar to another."""
    if to not in _SCALARS or kind not in _SCALARS:
        return False
    if to == "string" or {to, kind} == {"date", "timestamp"}:
        return True
    if kind == "string":
        if to == "bool":
            return all(str(v).lower() in ("true", "false", "0", "1") for v in values())
        if to == "int":
            return all(re.fullmatch(r"-?\d+", str(v)) and -2 ** 63 <= int(v) < 2 ** 63 for v in values())
        return to == "float" and all(_NUMBER.fullmatch(str(v).lower()) for v in values())
    if "date" in (to, kind):
        return "int" in (to, kind)
    if to == "bool":
        return True
    if kind == "bool":
        return to in ("int", "float")
    return to == "float" or all(isinstance(v, int) or (isinstance(v, float) and v.is_integer()) for v in values())


def values_at(rows: Sequence[Any], path: str) -> Iterator[Any]:
    """The values other than null at a path such as ``meta.notes[].text``."""
    keys = [k for k in re.split(r"\.|(\[\])", path) if k]

    def walk(value: Any, rest: list[str]) -> Iterator[Any]:
        if value is None:
            return
        if not rest:
            yield value
        elif rest[0] == "[]":
            for item in value:
                yield from walk(item, rest[1:])
        else:
            yield from walk(value.get(rest[0]), rest[1:])

    for row in rows:
        yield from walk(row, keys)


def cast(value: Any, first: Type, own: Type) -> Any:
    """A value of a piece of type ``own`` as the loader returns it where the file has the type ``first``."""
    if value is None:
        return None
    if first.kind == "object":
        return {key: cast(value.get(key), part, own.parts.get(key, part)) for key, part in first.parts.items()}
    if first.kind == "list":
        return [cast(v, first.parts["[]"], own.parts["[]"]) for v in value]
    if first.kind == "date" and isinstance(value, str):
        return Timestamp(value)
    if first.kind != own.kind and first.kind == "string" and not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if first.kind == "bool" and not isinstance(value, bool):
        return value not in (0, "0", "false", "False")
    if first.kind in ("int", "float") and isinstance(value, str | bool):
        return float(value) if first.kind == "float" else int(value)
    return value
