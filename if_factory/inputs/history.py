"""The earlier turns of a row: one reader for seeds, suites and triples."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from if_factory.errors import UserError
from if_factory.inputs.roles import role_of
from if_factory.records import Turn

_FIX = 'a list of {"role": "user" or "assistant", "content": "..."} is expected; leave it out if there are no turns'


def read_history(value: Any, where: str, *, foreign: bool = False, alternating: bool = False,
                 system: bool = False) -> tuple[Turn, ...]:
    """Turns from ``[{"role", "content"}]``, oldest first; ``None`` is no history.

    Every entry is looked at, so that the message names the one that is wrong.

    Args:
        where: the place for messages, down to the field.
        foreign: also read sharegpt's ``{"from", "value"}`` and alpaca's ``[question, answer]``.
        system: a system turn may be among them.
        alternating: turns must alternate user, assistant and end with assistant.

    Raises:
        UserError: naming the entry, such as ``field 'history[0]'``.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UserError(f"expected a list of turns, found {type(value).__name__}", where=where, fix=_FIX)
    found: list[Turn] = []
    for i, entry in enumerate(value):
        if foreign and isinstance(entry, list) and len(entry) == 2:
            found += (Turn(role="user", content=str(entry[0])), Turn(role="assistant", content=str(entry[1])))
        else:
            found.append(_turn(_named(entry) if foreign else entry, _place(where, i), system))
    if alternating:
        _check_order(found, where)
    return tuple(found)


def _named(entry: Any) -> Any:
    """A sharegpt entry with the names of the others."""
    if not isinstance(entry, dict):
        return entry
    role = role_of(entry) or entry.get("role", entry.get("from"))  # an unknown name is shown as it is
    return {"role": role, "content": entry.get("content", entry.get("value"))}


def _turn(entry: Any, where: str, system: bool) -> Turn:
    try:
        turn = Turn.model_validate(entry)
    except ValidationError as e:
        error = e.errors()[0]
        field = ".".join(str(part) for part in error["loc"])
        raise UserError(f"{field}: {error['msg']}" if field else "expected an object", where=where, fix=_FIX) from None
    if turn.role == "system" and not system:
        raise UserError("role: a system turn", where=where, fix="give it in the row's `system` field")
    return turn


def _place(where: str, i: int) -> str:
    return f"{where[:-1]}[{i}]'" if where.endswith("'") else f"{where}[{i}]"


def _check_order(turns: list[Turn], where: str) -> None:
    for i, turn in enumerate(turns):
        if turn.role != ("user", "assistant")[i % 2]:
            raise UserError(f"turn {i + 1} must be the {('user', 'assistant')[i % 2]}'s", where=_place(where, i),
                            fix="turns alternate user, assistant and end with assistant")
    if len(turns) % 2:
        raise UserError("ends with a user turn", where=where, fix="the last user turn is the row's `prompt`")
