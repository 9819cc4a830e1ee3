"""A backend without a model: a Python function answers. For tests and dry runs; it is never a default."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from if_factory.chat.base import ChatRequest, Completion


class ScriptedBackend:
    """Answers with ``answer(request)``: a text, a ``Completion``, or an exception, which is raised.

    Every request is kept in ``requests``. A text's token counts are its words.
    """

    def __init__(self, model: str, answer: Callable[[ChatRequest], str | Completion | Exception]) -> None:
        self.model = model
        self.answer = answer
        self.requests: list[ChatRequest] = []
        self.closed = False

    async def chat(self, request: ChatRequest) -> Completion:
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self.answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        return Completion(answer, prompt_tokens=sum(len(m["content"].split()) for m in request.messages),
                          completion_tokens=len(answer.split()))

    async def close(self) -> None:
        self.closed = True
