"""A fast way for ordinary rows: which rows of a piece have to be looked at one by one.

Columns are looked at as wholes, at the speed of the parser, so that a million good rows take little longer than
reading them. Whatever is not an ordinary text row goes the long way (``rules.py``); the verdicts are the same.
"""

from __future__ import annotations

from typing import Any

from if_factory.exporting.arrow import Type
from if_factory.exporting.columns import Columns, holds_sign, notable
from if_factory.exporting.remarks import NOTABLE
from if_factory.exporting.rules import Shape, TrainingStage

_ROLES = {"sft": ("prompt", "query", "response", "system", "history"),
          "dpo": ("prompt", "query", "chosen", "rejected", "system", "history")}


def odd_rows(piece: Columns, first: Type, shape: Shape, stage: TrainingStage, quiet: bool = False
             ) -> set[int] | None:
    """The rows of a piece, from 0, that the stage may drop or that deserve a remark; ``None``: look at all.

    ``first`` is the type of the file's first piece; ``quiet``: no text holds a word to remark. The other rows are
    alpaca rows whose columns are texts, with a history of pairs of texts, and all of them are trained.
    """
    roles = _ROLES.get(stage)
    if roles is None or shape.formatting != "alpaca" or bool(shape.ranking) != (stage == "dpo"):
        return None
    ignored = ("messages", "response") if stage == "dpo" else ("messages",)
    columns = {r: c for r, c in shape.columns.items() if c and r not in ignored}
    own = piece.type.parts
    needed = ("prompt", "chosen", "rejected") if stage == "dpo" else ("prompt", "response")
    if columns.keys() - set(roles) or any(r not in columns for r in needed) or not all(
            isinstance(c, str) and c in first.parts and c in own and _within(first.parts[c], own[c]) and
            _fit_for(r, own[c]) for r, c in columns.items()):
        return None
    odd: set[int] = set()
    for role, column in columns.items():
        values = piece.values[column]
        if role == "history":
            if any(values):
                odd.update(i for i, turns in enumerate(values) if turns and not all(map(_is_pair, turns)))
            continue
        if not quiet:
            odd.update(notable(values))
        if role in needed and not all(values):
            odd.update(i for i, text in enumerate(values) if not text)
    if stage == "dpo":
        chosen, rejected = (piece.values[columns[r]] for r in ("chosen", "rejected"))
        odd.update(i for i, (a, b) in enumerate(zip(chosen, rejected, strict=True)) if a == b)
    return odd


def _within(first: Type, own: Type) -> bool:
    """Whether loading leaves the values as they are."""
    return own.kind == "null" or (first.kind == own.kind and all(
        key in first.parts and _within(first.parts[key], part) for key, part in own.parts.items()))


def _fit_for(role: str, own: Type) -> bool:
    if own.kind == "null":
        return True
    if role != "history":
        return own.kind == "string"
    turns = own.parts.get("[]", Type())
    return own.kind == "list" and (turns.kind == "null" or (
        turns.kind == "list" and turns.parts["[]"].kind in ("null", "string")))


def _is_pair(turns: Any) -> bool:
    """Question and answer, with no word to remark."""
    return turns is not None and len(turns) == 2 and None not in turns and not any(
        holds_sign(text) and NOTABLE.search(text) for text in turns)
