"""A server that shows one quirk: replies in order (the last repeats), rules by a text in the request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Reply = dict[str, Any]


@dataclass
class ScriptedServer:
    """A handler for ``serve``.

    Attributes:
        replies: each ``{"status", "body"}``, or ``{"content", "finish", "message": {...}, "choice": {...}}``.
        rules: ``(text, reply)``: the reply to every request whose body holds the text; these go first.
        models: the entries of ``/models``, or their ids.
        posts: the bodies of the chat requests that came.
    """

    replies: list[Reply]
    rules: list[tuple[str, Reply]] = field(default_factory=list)
    models: list[Any] = field(default_factory=lambda: ["m"])
    models_replies: list[Reply] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.paths.append(str(request.rel_url))
        if request.method == "GET":
            if self.models_replies:
                return _sent(self.models_replies.pop(0))
            entries = [m if isinstance(m, dict) else {"id": m} for m in self.models]
            return web.json_response({"object": "list", "data": entries})
        raw = await request.text()
        self.posts.append(json.loads(raw))
        reply = next((reply for text, reply in self.rules if text in raw), None)
        return _sent(reply or self.replies[min(len(self.posts) - 1, len(self.replies) - 1)])


def error_reply(status: int, message: str, **more: Any) -> Reply:
    return {"status": status, "body": {"error": {"message": message, **more}}}


def _sent(reply: Reply) -> web.Response:
    if "status" in reply or "body" in reply:
        return web.json_response(reply.get("body", {}), status=reply.get("status", 200))
    message = {"role": "assistant", "content": reply.get("content"), **reply.get("message", {})}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": reply.get("finish", "stop"),
        **reply.get("choice", {}),
    }
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})
