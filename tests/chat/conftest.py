"""Fake servers that misbehave in the way a test says."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from if_factory.chat.base import ChatRequest

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


def answer(text: object, *, finish: str | None = "stop", prompt_tokens: int = 3, completion_tokens: int = 2,
           ) -> web.Response:
    return web.json_response({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}})


def error(status: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


def request(text: str = "hello", **fields: object) -> ChatRequest:
    return ChatRequest(model="fake", messages=({"role": "user", "content": text},), **fields)  # type: ignore[arg-type]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(handler)`` starts a fake server that answers everything with ``handler``; its base URL."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler if inspect.isroutine(handler) else handler.__call__)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/v1"))

    yield start
    for server in servers:
        await server.close()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and reconnections follow at once."""
    monkeypatch.setattr("if_factory.chat.client._wait", lambda *_: 0.0)
    monkeypatch.setattr("if_factory.chat.http._CONNECT_WAITS", (0.0, 0.0))
