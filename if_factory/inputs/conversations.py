"""Rows that hold a whole chat, as they are shared: ShareGPT's ``conversations`` and OpenAI's ``messages``.

Such files hold chats that begin with the assistant, end with the user, or have empty turns. Those are no errors of
the user's, so what cannot be used is told by reason, to be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from if_factory.errors import UserError
from if_factory.inputs.roles import role_of
from if_factory.records import Turn

COLUMNS = ("conversations", "messages")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat that begins with the user; ``turns`` alternate user and assistant, and may end with either."""

    system: str
    turns: tuple[Turn, ...]


def is_conversation(row: Mapping[str, Any]) -> bool:
    """Whether the row holds a chat and no prompt of its own."""
    return not any(isinstance(row.get(name), str) for name in ("prompt", "instruction")) and any(
        name in row for name in COLUMNS)


def read_conversation(row: Mapping[str, Any], where: str) -> Conversation | str:
    """The chat, or in one word why it cannot be used: ``no_turns``, ``empty_turn``, ``unknown_role``,
    ``begins_with_assistant``, ``roles_repeat``.

    Raises:
        UserError: the column does not hold a list of objects with role and text.
    """
    name = next(name for name in COLUMNS if name in row)
    given = row[name]
    if not isinstance(given, list):
        raise UserError(f"expected a list of turns, found {type(given).__name__}", where=f"{where}: field '{name}'",
                        fix='a turn is {"from": "human" or "gpt", "value": "..."}')
    system, turns = str(row.get("system") or ""), []
    for i, entry in enumerate(given):
        place = f"{where}: field '{name}[{i}]'"
        if not isinstance(entry, dict):
            raise UserError(f"expected an object, found {type(entry).__name__}", where=place,
                            fix='a turn is {"from": "human" or "gpt", "value": "..."}')
        role = role_of(entry)
        text = entry.get("value", entry.get("content"))
        if role is None:
            return "unknown_role"
        if not isinstance(text, str) or not text.strip():
            return "empty_turn"
        if role == "system" and i == 0:
            system = text.strip()
        elif role == "system":
            return "unknown_role"
        else:
            turns.append(Turn(role=role, content=text.strip()))
    if not turns:
        return "no_turns"
    if turns[0].role != "user":
        return "begins_with_assistant"
    if any(a.role == b.role for a, b in pairwise(turns)):
        return "roles_repeat"
    return Conversation(system, tuple(turns))


def first_question(row: Mapping[str, Any], where: str) -> Conversation | str:
    """The chat's system prompt and first turn, whatever comes later; else why not, as ``read_conversation``."""
    name = next(name for name in COLUMNS if name in row)
    given = row[name]
    if not isinstance(given, list):
        return read_conversation(row, where)
    first = given[0] if given else None
    role = role_of(first) if isinstance(first, dict) else None
    return read_conversation({**row, name: given[:2 if role == "system" else 1]}, where)
