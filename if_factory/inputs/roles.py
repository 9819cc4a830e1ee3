"""Who speaks in a turn of a chat, by the names that files use for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Role = Literal["user", "assistant", "system"]

ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "system": "system", "assistant": "assistant", "gpt": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "bot": "assistant"}


def role_of(turn: Mapping[str, Any]) -> Role | None:
    """The role of ShareGPT's ``{"from", "value"}`` or OpenAI's ``{"role", "content"}``; ``None`` is an unknown name."""
    return ROLES.get(str(turn.get("from", turn.get("role"))))
