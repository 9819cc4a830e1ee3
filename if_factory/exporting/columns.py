"""A piece of a .jsonl file column by column: the types that ``arrow.learn_rows`` finds, at the parser's speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any

from if_factory.exporting.arrow import Type, _is_date
from if_factory.exporting.remarks import NOTABLE, SIGNS

_AT_ONCE = 1000  # values joined to one text: few enough to stay in the processor's cache


@dataclass(slots=True)
class Columns:
    """The type of a piece and its columns (``None`` where a row lacks the key)."""

    type: Type
    values: dict[str, Sequence[Any]]


def learn_columns(rows: Sequence[Any], whole: bool = False) -> Columns | None:
    """``None`` where it takes a look at every row to say what is wrong, or whether anything is.

    ``whole``: no text is known to hold half of a surrogate pair, so none is looked for.
    """
    if set(map(type, rows)) != {dict}:
        return None
    values: dict[str, Sequence[Any]] = {}
    made = _objects(rows, whole, values)
    return Columns(made, values) if made else None


def _objects(rows: Sequence[dict[str, Any]], whole: bool, kept: dict[str, Sequence[Any]] | None = None) -> Type | None:
    made = Type("object", objects=len(rows))
    for key, values, present in _split(rows):
        if kept is not None:
            kept[key] = values
        part = _column(values, whole)
        if part is None:
            return None
        part.present = present
        made.parts[key] = part
    return made


def _split(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Sequence[Any], int]]:
    """(key, values, in how many rows the key stands)."""
    alike = set(map(len, rows)) == {len(rows[0])} if rows else False
    try:
        if alike:
            for key, values in [(key, list(map(itemgetter(key), rows))) for key in rows[0]]:
                yield key, values, len(rows)
            return
    except KeyError:
        pass
    for key in dict.fromkeys(chain.from_iterable(rows)):
        yield key, [row.get(key) for row in rows], sum(key in row for row in rows)


def _column(values: Sequence[Any], whole: bool) -> Type | None:
    try:
        return _texts(values, whole)
    except TypeError:  # not strings alone
        pass
    kinds = set(map(type, values))
    if NoneType in kinds:
        kinds.discard(NoneType)
        values = [v for v in values if v is not None]
    if not kinds:
        return Type()
    if kinds == {str}:
        return _texts(values, whole)
    if kinds == {list}:
        items = _column(list(chain.from_iterable(values)), whole)
        return Type("list", {"[]": items}) if items else None
    if kinds == {dict}:
        return _objects(values, whole)
    if kinds == {bool}:
        return Type("bool")
    if kinds == {float}:
        return Type("float")
    if kinds == {int} and min(values) >= -2 ** 63 and max(values) < 2 ** 63:
        return Type("int")
    return None


def _texts(values: Sequence[Any], whole: bool) -> Type | None:
    """Raises ``TypeError`` if they are not all strings. ``None``: one holds half of a surrogate pair."""
    if whole and any(kind is not str for kind in set(map(type, values))):
        raise TypeError
    for at in range(0, 0 if whole else len(values), _AT_ONCE):
        text = "".join(values[at:at + _AT_ONCE])
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                return None
    return Type("date" if all(map(_is_date, values)) else "string") if values else Type()


def notable(values: Sequence[str | None]) -> Iterator[int]:
    """The places of texts that hold a word of ``remarks.NOTABLE``."""
    for at in range(0, len(values), _AT_ONCE):
        part = values[at:at + _AT_ONCE]
        if holds_sign("\n".join(part if None not in part else filter(None, part))):  # type: ignore[arg-type]
            yield from (at + i for i, text in enumerate(part) if text and holds_sign(text) and NOTABLE.search(text))


def holds_sign(text: str) -> bool:
    """Whether ``NOTABLE`` may match: a search for fixed words is many times faster than the pattern."""
    angle, inst, turn = SIGNS  # written out, this runs for every text
    return angle in text or inst in text or turn in text
