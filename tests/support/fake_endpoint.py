"""A fake OpenAI-compatible server for tests and benchmarks. No model: the text is made from a hash.

    python tests/support/fake_endpoint.py --delay 0.05 --tail-share 0.01 --tail 5 \
        --share-429 0.1 --share-500 0.05 --retry-after 1

prints its base URL and serves until killed. What a request gets depends on nothing but its body and on how
often that body came before: each try draws its own faults, the tail belongs to the body. `GET /stats` says
how often every body was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

WORDS = ["river", "stone", "lamp", "orange", "quiet", "seven", "paper", "window", "green", "bridge",
         "morning", "salt", "north", "garden", "cloud", "wheel", "letter", "copper", "field", "answer"]


@dataclass
class FakeEndpoint:
    """Delays in seconds, shares from 0 to 1. ``most_in_flight`` counts completions being worked on."""

    delay: float = 0.05
    tail_share: float = 0.0
    tail: float = 5.0
    share_429: float = 0.0
    share_500: float = 0.0
    retry_after: float = 1.0
    words: int = 20
    model: str = "fake"
    script: Callable[[dict[str, Any]], str] | None = None  # request body -> text; None makes it from a hash
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.Transport] = field(default_factory=set)

    @property
    def requests(self) -> int:
        return self.asked.total()

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Listen; returns the base URL (``http://.../v1``)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=4096)
        return "http://{}:{}/v1".format(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for transport in list(self._open):
                transport.abort()
            await asyncio.sleep(0)

    def complete(self, body: bytes) -> tuple[float, int, bytes, str]:
        """What one request gets: seconds until then, status, JSON body, extra header line."""
        digest = hashlib.blake2b(body, digest_size=16).digest()
        key = digest.hex()
        self.asked[key] += 1
        fault = _share(digest, b"fault%d" % self.asked[key])
        if fault < self.share_429:
            return 0, 429, b'{"error":{"message":"slow down"}}', f"Retry-After: {self.retry_after:g}\r\n"
        seconds = self.tail if _share(digest, b"tail") < self.tail_share else self.delay
        if fault < self.share_429 + self.share_500:
            return seconds, 500, b'{"error":{"message":"fake failure"}}', ""
        self.answered[key] += 1
        if self.script is None:
            text = " ".join(WORDS[(digest[i % 16] + i // 16) % len(WORDS)] for i in range(self.words))
        else:
            text = json.dumps(self.script(json.loads(body)))[1:-1]
        prompt = len(body) // 4
        return seconds, 200, (
            f'{{"id":"chatcmpl-{key}","object":"chat.completion","created":1700000000,"model":"{self.model}",'
            f'"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"logprobs":null,'
            f'"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{self.words},'
            f'"total_tokens":{prompt + self.words}}}}}').encode(), ""

    def stats(self) -> dict[str, object]:
        return {"requests": self.requests, "distinct": len(self.asked),
                "answered": self.answered.total(), "answered_distinct": len(self.answered),
                "answered_twice": sum(n > 1 for n in self.answered.values()),
                "most_in_flight": self.most_in_flight, "asked": dict(self.asked)}


class _Connection(asyncio.Protocol):
    """Just enough HTTP/1.1, without a task per request: a web framework would take more of the machine than
    the client that is measured."""

    def __init__(self, endpoint: FakeEndpoint) -> None:
        self.endpoint = endpoint
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.endpoint._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.endpoint._open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17:].partition(b"\r\n")[0]) if at >= 0 else 0
            if b"\r\ntransfer-encoding:" in head:
                self.reply(411, b'{"error":{"message":"send a Content-Length"}}', "", last=True)
                return
            if len(self.data) < end + 4 + length:
                return
            body, self.data = self.data[end + 4:end + 4 + length], self.data[end + 4 + length:]
            self.respond(head.partition(b"\r\n")[0], body, last=b"\r\nconnection: close" in head)

    def respond(self, line: bytes, body: bytes, last: bool) -> None:
        endpoint = self.endpoint
        path = line.split(b" ")[1]
        if line.startswith(b"post ") and path.endswith(b"/chat/completions"):
            seconds, status, answer, header = endpoint.complete(body)
            endpoint.in_flight += 1
            endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.in_flight)
            asyncio.get_running_loop().call_later(seconds, self.finish, status, answer, header, last)
        elif path.endswith(b"/models"):
            models = {"object": "list", "data": [{"id": endpoint.model, "object": "model"}]}
            self.reply(200, json.dumps(models).encode(), "", last)
        elif path == b"/stats":
            self.reply(200, json.dumps(endpoint.stats()).encode(), "", last)
        else:
            self.reply(404, b'{"error":{"message":"nothing here"}}', "", last)

    def finish(self, status: int, body: bytes, header: str, last: bool) -> None:
        self.endpoint.in_flight -= 1
        self.reply(status, body, header, last)

    def reply(self, status: int, body: bytes, header: str, last: bool) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(f"HTTP/1.1 {status} Fake\r\nContent-Type: application/json\r\n{header}"
                             f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if last:
            self.transport.close()


def _share(digest: bytes, what: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(what, key=digest, digest_size=4).digest()) / 2**32


async def _main(args: argparse.Namespace) -> None:
    endpoint = FakeEndpoint(args.delay, args.tail_share, args.tail, args.share_429, args.share_500,
                            args.retry_after, args.words)
    print(await endpoint.start(args.port), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a fake OpenAI-compatible server")
    for name, default in (("delay", 0.05), ("tail-share", 0.0), ("tail", 5.0), ("share-429", 0.0),
                          ("share-500", 0.0), ("retry-after", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--words", type=int, default=20, help="words in an answer")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
