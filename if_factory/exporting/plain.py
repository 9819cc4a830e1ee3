"""A fast way for ordinary rows: which rows of a piece have to be looked at one by one.

Columns are looked at as wholes, at the speed of the parser, so that a million good rows take little longer than
reading them. Whatever is not an ordinary text row goes the long way (``rules.py``); the verdicts are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from if_factory.exporting.arrow import Type
from if_factory.exporting.columns import Columns, holds_sign, notable
from if_factory.exporting.remarks import NOTABLE
from if_factory.exporting.rules import Shape, TrainingStage

_ROLES = {("alpaca", "sft"): ("prompt", "query", "response", "system", "history"),
          ("alpaca", "dpo"): ("prompt", "query", "chosen", "rejected", "system", "history"),
          ("alpaca", "kto"): ("prompt", "query", "response", "kto_tag", "system", "history"),
          ("sharegpt", "sft"): ("messages", "system"),
          ("sharegpt", "dpo"): ("messages", "chosen", "rejected", "system"),
          ("sharegpt", "kto"): ("messages", "kto_tag", "system")}
_UNREAD = {"alpaca": ("messages",), "sharegpt": ("prompt", "query", "response", "history")}
_OPTIONAL = ("query", "system", "history")


def odd_rows(piece: Columns, first: Type, shape: Shape, stage: TrainingStage, quiet: bool = False
             ) -> set[int] | None:
    """The rows of a piece, from 0, that the stage may drop or that deserve a remark; ``None``: look at all.

    ``first`` is the type of the file's first piece; ``quiet``: no text holds a word to remark. The other rows are
    alpaca rows whose columns are texts, with a history of pairs of texts, or sharegpt rows in which user and assistant
    take turns, and all of them are trained. Of KTO rows the neighbours of odd ones are odd too, for the KL term.
    """
    try:
        roles = _ROLES.get((shape.formatting, stage))
    except TypeError:
        return None
    if roles is None or bool(shape.ranking) != (stage == "dpo"):
        return None
    ignored = (*_UNREAD[shape.formatting], *(("response",) if stage == "dpo" else ()))
    columns = {r: c for r, c in shape.columns.items() if c and r not in ignored}
    own = piece.type.parts
    if columns.keys() - set(roles) or any(r not in columns for r in roles if r not in _OPTIONAL) or not all(
            isinstance(c, str) and c in first.parts and c in own for c in columns.values()):
        return None
    if shape.formatting == "alpaca":
        odd = _odd_alpaca(piece, first, columns, quiet)
    else:
        odd = _odd_chats(piece, first, columns, shape, quiet)
    return _with_neighbours(odd, piece, columns, shape) if odd is not None and stage == "kto" else odd


def _odd_alpaca(piece: Columns, first: Type, columns: dict[str, str], quiet: bool) -> set[int] | None:
    if not all(_within(first.parts[c], piece.type.parts[c]) and _fit_for(r, piece.type.parts[c])
               for r, c in columns.items()):
        return None
    odd: set[int] = set()
    for role, column in columns.items():
        values = piece.values[column]
        if role == "history":
            if any(values):
                odd.update(i for i, turns in enumerate(values) if turns and not all(map(_is_pair, turns)))
            continue
        if role == "kto_tag":
            odd.update(i for i, label in enumerate(values) if label is None)
            continue
        if not quiet:
            odd.update(notable(values))
        if role not in _OPTIONAL and not all(values):
            odd.update(i for i, text in enumerate(values) if not text)
    if "chosen" in columns:
        chosen, rejected = (piece.values[columns[r]] for r in ("chosen", "rejected"))
        odd.update(i for i, (a, b) in enumerate(zip(chosen, rejected, strict=True)) if a == b)
    return odd


def _odd_chats(piece: Columns, first: Type, columns: dict[str, str], shape: Shape, quiet: bool) -> set[int] | None:
    tags = [tag for tag in shape.tags.values() if tag is not None]
    role, content, user, assistant, *_ = shape.tags.values()
    if None in (role, content, user, assistant) or not all(isinstance(tag, str) for tag in tags) or \
            len(set(tags)) < len(tags):
        return None
    for name, column in columns.items():
        loaded, own = first.parts[column], piece.type.parts[column]
        if name == "messages":
            if (loaded.kind, own.kind) != ("list", "list"):
                return None
            loaded, own = loaded.parts["[]"], own.parts["[]"]
        if name in ("system", "kto_tag"):
            if not (_within(loaded, own) and _fit_for(name, own)):
                return None
        elif not all(key in part.parts and part.parts[key].kind == "string"
                     for part in (loaded, own) for key in (role, content)):
            return None
    talks, odd = piece.values[columns["messages"]], set[int]()
    system = None if "system" in columns else shape.tags["system_tag"]  # with a column too, the turn goes first
    known: set[tuple[str, ...]] = set()  # sequences of roles that are in order
    for i, talk in enumerate(talks):
        try:
            turns = tuple([message[role] for message in talk])
            texts = [message[content] for message in talk]
        except (KeyError, TypeError):
            odd.add(i)
            continue
        if turns not in known:
            if not _takes_turns(turns, user, assistant, system, ends=user if "chosen" in columns else assistant):
                odd.add(i)
                continue
            known.add(turns)
        if not all(texts) or not (quiet or _unremarked(texts)):
            odd.add(i)
    if "chosen" in columns:
        sides = (piece.values[columns[r]] for r in ("chosen", "rejected"))
        for i, pair in enumerate(zip(*sides, strict=True)):
            if None in pair or not _is_choice([side.get(role) for side in pair], assistant,
                                              [side.get(content) for side in pair], quiet):
                odd.add(i)
    if "kto_tag" in columns:
        odd.update(i for i, label in enumerate(piece.values[columns["kto_tag"]]) if label is None)
    if "system" in columns and not quiet:
        odd.update(notable(piece.values[columns["system"]]))
    return odd


def _takes_turns(turns: tuple[str, ...], user: str, assistant: str, system: str | None, ends: str) -> bool:
    if system is not None and turns[:1] == (system,):
        turns = turns[1:]
    return bool(turns) and turns[-1] == ends and all(
        turn == (user, assistant)[i % 2] for i, turn in enumerate(turns))


def _is_choice(roles: list[Any], assistant: str, texts: list[Any], quiet: bool) -> bool:
    return roles == [assistant, assistant] and all(texts) and texts[0] != texts[1] and (quiet or _unremarked(texts))


def _unremarked(texts: Sequence[str]) -> bool:
    return not any(holds_sign(text) and NOTABLE.search(text) for text in texts)


def _with_neighbours(odd: set[int], piece: Columns, columns: dict[str, str], shape: Shape) -> set[int]:
    """For the KL term a row takes the answer of the row before it, which may be in the piece before."""
    answers = list(_answers(piece, columns, shape))
    odd |= {0, len(answers) - 1}
    odd.update(i for i, (a, b) in enumerate(pairwise(answers)) if a == b)
    return {j for i in odd for j in (i - 1, i, i + 1) if 0 <= j < len(answers)}


def _answers(piece: Columns, columns: dict[str, str], shape: Shape) -> Iterator[Any]:
    if "response" in columns:
        return iter(piece.values[columns["response"]])
    content = shape.tags["content_tag"]
    return (talk[-1].get(content) if talk and talk[-1] else None for talk in piece.values[columns["messages"]])


def _within(first: Type, own: Type) -> bool:
    """Whether loading leaves the values as they are."""
    return own.kind == "null" or (first.kind == own.kind and all(
        key in first.parts and _within(first.parts[key], part) for key, part in own.parts.items()))


def _fit_for(role: str, own: Type) -> bool:
    if own.kind == "null":
        return True
    if role == "kto_tag":
        return own.kind == "bool"
    if role != "history":
        return own.kind == "string"
    turns = own.parts.get("[]", Type())
    return own.kind == "list" and (turns.kind == "null" or (
        turns.kind == "list" and turns.parts["[]"].kind in ("null", "string")))


def _is_pair(turns: Any) -> bool:
    """Question and answer, with no word to remark."""
    return turns is not None and len(turns) == 2 and None not in turns and _unremarked(turns)
