"""Chat clients over scripted answers, for tests of what is made of the answers."""

from __future__ import annotations

from collections.abc import Callable

from if_factory.chat.base import Backend, ChatRequest, Completion
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.chat.scripted import ScriptedBackend

Answer = Callable[[ChatRequest], str | Completion | Exception]


def scripted_client(role: str, answer: Answer | Backend, *, usage: Usage | None = None,
                    log: ResponseLog | None = None, concurrency: int = 64) -> ChatClient:
    """A client for ``role`` that is never retried; ``answer`` is a function of the request, or a backend."""
    backend = ScriptedBackend(role, answer) if callable(answer) else answer
    return ChatClient(role, backend, log=log, budget=Budget(), usage=Usage() if usage is None else usage,
                      concurrency=concurrency, retries=0)
