"""Rows as LLaMA-Factory's converters will see them: one Arrow type per column, absent keys filled with null.

A data file goes through the ``datasets`` JSON loader before LLaMA-Factory looks at a single row. That step can
refuse the whole file (a field that is a string here and a number there) or change what a value is (a column
of nothing but dates becomes timestamps, no longer strings). Both are restated here for files below 10 MB;
larger ones are typed in 10 MB pieces, so a key absent from one whole piece can still stop them from loading.
Source: ``datasets`` 4.0.0 ``packaged_modules/json``, Arrow's JSON reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import Any

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T](?P<time>\d\d(?::\d\d(?::\d\d)?)?)(?:Z|[+-]\d\d(?::?\d\d)?)?)?")


_SOLID = re.compile(r"[^ \t\r\n]")


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
class _Type:
    """``kind`` is null, bool, number, date, string, list or object; ``parts`` is what a list or object holds."""

    kind: str
    parts: dict[str, _Type]


def parse(raw: bytes) -> list[Any]:
    """The rows of a .json or .jsonl file; the loader goes by the content, not by the extension.

    Raises:
        Unloadable: not UTF-8, or not JSON.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        raise Unloadable(f"not UTF-8: byte {e.start} is 0x{raw[e.start]:02x}", row=line) from None
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except ValueError as e:
            raise Unloadable(f"not valid JSON: {e}") from None
    return _values(text.removeprefix("\ufeff"))


def _values(text: str) -> list[Any]:
    """Values one after the other: Arrow asks for white space between them at most, not for lines."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    values: list[Any] = []
    at = 0
    while (at := _not_blank(text, at)) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as e:
            line = f" (line {e.lineno})" if isinstance(e, json.JSONDecodeError) else ""
            raise Unloadable(f"not valid JSON: {getattr(e, 'msg', e)}{line}", row=len(values) + 1) from None
        values.append(value)
    return values


def _not_blank(text: str, at: int) -> int:
    found = _SOLID.search(text, at)
    return found.start() if found else len(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice in one object")
    return made


def unify(rows: Sequence[Any], *, dates: bool = True) -> list[dict[str, Any]]:
    """Every row with every column of the file, and the values the loader makes of them.

    ``dates``: whether date-like columns become timestamps; true for line-by-line JSON, false for a JSON list.

    Raises:
        Unloadable: a row is not an object, or a field changes its type between rows.
    """
    table = _Type("null", {})
    for n, row in enumerate(rows, 1):
        if not isinstance(row, dict) and not (row is None and dates):  # line by line, null is a row of nulls
            raise Unloadable(f"expected an object, found {_kind(row, dates)}", row=n)
        _learn(table, row, dates, n, "")
    return [_cast(row or {}, table) for row in rows]


def _kind(value: Any, dates: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "date" if dates and _is_date(value) else "string"
    return "number" if isinstance(value, int | float) else "list" if isinstance(value, list) else "object"


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


def _learn(t: _Type, value: Any, dates: bool, row: int, path: str) -> None:
    """Widen ``t`` so that it holds ``value`` too."""
    if value is None:
        return
    kind = _kind(value, dates)
    if t.kind != kind:
        if t.kind == "null":
            t.kind = kind
        elif {t.kind, kind} == {"date", "string"}:
            t.kind = "string"
        else:
            raise Unloadable(f"is a {kind} here and a {t.kind} before; a field has one type in all rows",
                             row=row, field=path)
    if kind == "object":
        for key, v in value.items():
            _learn(t.parts.setdefault(key, _Type("null", {})), v, dates, row, f"{path}.{key}" if path else key)
    elif kind == "list":
        items = t.parts.setdefault("[]", _Type("null", {}))
        for v in value:
            _learn(items, v, dates, row, f"{path}[]")
    elif kind == "string" and dates and not value.isascii():  # the list reader lets half a pair pass
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unloadable("holds half of a surrogate pair, which is no text", row=row, field=path) from None


def _cast(value: Any, t: _Type) -> Any:
    if value is None:
        return None
    if t.kind == "object":
        return {key: _cast(value.get(key), part) for key, part in t.parts.items()}
    if t.kind == "list":
        return [_cast(v, t.parts["[]"]) for v in value]
    return Timestamp(value) if t.kind == "date" else value
