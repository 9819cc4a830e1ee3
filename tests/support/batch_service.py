"""A fake Files and Batches API, as OpenAI's, over a scripted endpoint: for tests of batch files. No model answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.fake_endpoint import FakeEndpoint

Line = Callable[[dict[str, Any]], dict[str, Any] | None]


def answer_line(server: FakeEndpoint, request: dict[str, Any]) -> dict[str, Any]:
    """The line of results that a line of requests gets, in the form of OpenAI and vLLM."""
    assert request["method"] == "POST"
    assert request["url"] == "/v1/chat/completions"
    _, status, body, _ = server.complete(json.dumps(request["body"], separators=(",", ":")).encode())
    return {"id": f"batch_req_{request['custom_id']}", "custom_id": request["custom_id"], "error": None,
            "response": {"status_code": status, "request_id": "r", "body": json.loads(body)}}


def answer_file(server: FakeEndpoint, requests: Path, results: Path, line: Line | None = None) -> None:
    """What ``vllm run-batch -i requests -o results`` does. ``line`` may answer otherwise; ``None`` loses the line."""
    rows = (json.loads(each) for each in requests.read_bytes().splitlines())
    made = [row for row in map(line or (lambda r: answer_line(server, r)), rows) if row is not None]
    results.write_text("".join(json.dumps(row) + "\n" for row in made))


class FakeBatches:
    """``with FakeBatches(server) as service``: ``service.url`` is the base URL.

    Attributes:
        line: the answer to a line of requests; ``None`` loses it. Errors (status not 200) go into the error file.
        ends: how the next batches end; ``in_progress`` leaves them as they are.
        lose_reply: of the next creation: the batch is made, and the client hears nothing of it.
        paid: requests worked on, by ``custom_id``.
    """

    def __init__(self, server: FakeEndpoint) -> None:
        self.line: Line = lambda request: answer_line(server, request)
        self.ends = "completed"
        self.lose_reply = False
        self.paid: Counter[str] = Counter()
        self.batches: dict[str, dict[str, Any]] = {}
        self.keys: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.url = ""

    def __enter__(self) -> FakeBatches:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application(client_max_size=2**28)
        app.add_routes([web.post("/v1/files", self._upload), web.get("/v1/files/{id}/content", self._content),
                        web.post("/v1/batches", self._create), web.get("/v1/batches", self._list),
                        web.get("/v1/batches/{id}", self._retrieve)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return "http://127.0.0.1:{}/v1".format(*site._server.sockets[0].getsockname()[1:2])  # type: ignore[union-attr]

    async def _upload(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("Authorization", ""))
        form = await request.post()
        assert form["purpose"] == "batch"
        file_id = self._keep(form["file"].file.read())  # type: ignore[union-attr]
        return web.json_response({"id": file_id, "object": "file", "bytes": 1, "created_at": 0, "filename": "f",
                                  "purpose": "batch", "status": "processed"})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["endpoint"] == "/v1/chat/completions"
        batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "endpoint": asked["endpoint"],
                 "input_file_id": asked["input_file_id"], "completion_window": asked["completion_window"],
                 "created_at": 0, "status": "validating", "metadata": asked.get("metadata")}
        self.batches[batch["id"]] = batch
        if self.lose_reply:
            self.lose_reply = False
            return web.json_response({"error": {"message": "gone"}}, status=400)
        return web.json_response(batch)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(self.batches.values()), "has_more": False})

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        if batch["status"] in ("validating", "in_progress"):
            self._work(batch)
        return web.json_response(batch)

    def _work(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.ends
        if self.ends == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "token_limit", "message": "Enqueued token limit"}]}
        if self.ends in ("in_progress", "failed"):
            return
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        worked = len(rows) if self.ends == "completed" else len(rows) // 2
        made = []
        for row in rows[:worked]:
            self.paid[row["custom_id"]] += 1
            made.append(self.line(row))
        expired = {"code": "batch_expired", "message": "This request could not be executed in time."}
        made += [{"id": "x", "custom_id": row["custom_id"], "response": None, "error": expired}
                 for row in rows[worked:]]
        good = [row for row in made if row and row["response"] and row["response"]["status_code"] == 200]
        bad = [row for row in made if row and row not in good]
        batch["output_file_id"] = self._keep(_lines(good)) if good else None
        batch["error_file_id"] = self._keep(_lines(bad)) if bad else None
        batch["request_counts"] = {"total": len(rows), "completed": len(good), "failed": len(bad)}

    def _keep(self, content: bytes) -> str:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = content
        return file_id


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
