"""A fast way for the common case: a piece whose rows are plain texts, all alike, with nothing to say about any.

Columns are looked at as wholes, at the speed of the parser, so that a million good rows take little longer than
reading them. Whatever is not plain goes the long way (``rules.py``), and the verdicts are the same.
"""

from __future__ import annotations

from operator import itemgetter

from if_factory.exporting.arrow import Type, _is_date
from if_factory.exporting.loading import Piece
from if_factory.exporting.remarks import NOTABLE
from if_factory.exporting.rules import Shape, TrainingStage

_ROLES = {"sft": ("prompt", "query", "response", "system", "history"),
          "dpo": ("prompt", "query", "chosen", "rejected", "system", "history")}


def plain_piece(piece: Piece, shape: Shape, stage: TrainingStage) -> Type | None:
    """The type of a piece of alpaca rows that are all trained and of which none needs a remark, or ``None``."""
    rows = piece.rows
    roles = _ROLES.get(stage)
    if piece.raw is None or roles is None or shape.formatting != "alpaca" or set(map(type, rows)) != {dict} or \
            bool(shape.ranking) != (stage == "dpo"):
        return None
    columns = {r: c for r, c in shape.columns.items() if c}
    known = dict.fromkeys(rows[0])
    if columns.keys() - set(roles) - {"messages", "response"} or not all(
            isinstance(c, str) and c in known for r, c in columns.items() if r in roles):
        return None
    needed = ("prompt", "chosen", "rejected") if stage == "dpo" else ("prompt", "response")
    if any(r not in columns for r in needed):
        return None
    keys = tuple(rows[0])
    if set(map(tuple, rows)) != {keys} or not piece.raw.isascii() or "\\ud" in piece.raw or \
            "\\uD" in piece.raw or NOTABLE.search(piece.raw):
        return None
    table = Type("object", objects=len(rows))
    by_column = {c: r for r, c in columns.items() if r in roles}
    for key in keys:
        values = list(map(itemgetter(key), rows))
        kinds = set(map(type, values))
        role = by_column.get(key)
        if kinds == {str}:
            if _is_date(values[0]) or (role in needed and not all(values)):
                return None
            table.parts[key] = Type("string", present=len(rows))
        elif kinds == {list} and not any(values):
            table.parts[key] = Type("list", {"[]": Type()}, present=len(rows))
        else:
            return None
        if role == "history" and kinds == {str}:
            return None
    if stage == "dpo" and any(map(str.__eq__, map(itemgetter(columns["chosen"]), rows),
                                  map(itemgetter(columns["rejected"]), rows))):
        return None
    return table
