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
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

WORDS = ["river", "stone", "lamp", "orange", "quiet", "seven", "paper", "window", "green", "bridge",
         "morning", "salt", "north", "garden", "cloud", "wheel", "letter", "copper", "field", "answer"]


@dataclass
class FakeEndpoint:
    """Delays in seconds, shares from 0 to 1."""

    delay: float = 0.05
    tail_share: float = 0.0
    tail: float = 5.0
    share_429: float = 0.0
    share_500: float = 0.0
    retry_after: float = 1.0
    words: int = 20
    model: str = "fake"
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    _runner: web.ServerRunner | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Listen; returns the base URL (``http://.../v1``)."""
        # The low-level server: no router and no middleware, which would cost more than the answer.
        self._runner = web.ServerRunner(web.Server(self.handle, access_log=None), shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=4096).start()
        return "http://{}:{}/v1".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.path.endswith("/chat/completions") and request.method == "POST":
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                return await self.complete(await request.read())
            finally:
                self.in_flight -= 1
        if request.path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})
        if request.path == "/stats":
            return web.json_response(self.stats())
        return web.json_response({"error": {"message": f"no {request.path} here"}}, status=404)

    async def complete(self, body: bytes) -> web.Response:
        digest = hashlib.blake2b(body, digest_size=16).digest()
        key = digest.hex()
        self.requests += 1
        self.asked[key] += 1
        fault = _share(digest, b"fault%d" % self.asked[key])
        if fault < self.share_429:
            return web.Response(status=429, body=b'{"error":{"message":"slow down"}}',
                                headers={"Retry-After": f"{self.retry_after:g}"}, content_type="application/json")
        slow = self.tail_share and _share(digest, b"tail") < self.tail_share
        await asyncio.sleep(self.tail if slow else self.delay)
        if fault < self.share_429 + self.share_500:
            return web.Response(status=500, body=b'{"error":{"message":"fake failure"}}',
                                content_type="application/json")
        self.answered[key] += 1
        text = " ".join(WORDS[digest[i % 16] % len(WORDS)] for i in range(self.words))
        return web.Response(body=(
            b'{"id":"chatcmpl-%s","object":"chat.completion","created":1700000000,"model":"%s","choices":'
            b'[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
            % (key.encode(), self.model.encode(), text.encode(), len(body) // 4, self.words,
               len(body) // 4 + self.words)), content_type="application/json")

    def stats(self) -> dict[str, object]:
        return {"requests": self.requests, "distinct": len(self.asked),
                "answered": self.answered.total(), "answered_distinct": len(self.answered),
                "answered_twice": sum(n > 1 for n in self.answered.values()),
                "most_in_flight": self.most_in_flight, "asked": dict(self.asked)}


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
