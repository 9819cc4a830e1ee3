from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from if_factory.chat.base import Completion, Transient
from if_factory.chat.http import OpenAIBackend
from tests.chat.conftest import request
from tests.support.fake_endpoint import FakeEndpoint


async def outcomes(n: int, tries: int, **options: float) -> list[list[object]]:
    """For each of ``n`` bodies what each of ``tries`` tries got, asked in an order of its own."""
    endpoint = FakeEndpoint(delay=0, **options)
    backend = OpenAIBackend(await endpoint.start(), "fake")

    async def ask(i: int) -> list[object]:
        got: list[object] = []
        for _ in range(tries):
            try:
                got.append(await backend.chat(request(str(i))))
            except Transient as e:
                got.append((e.reason, e.retry_after))
        return got

    result = await asyncio.gather(*(ask(i) for i in range(n)))
    await backend.close()
    await endpoint.stop()
    assert set(endpoint.asked.values()) == {tries}
    return result


async def test_a_request_and_its_try_decide_the_reply_and_the_shares_are_kept() -> None:
    first = await outcomes(300, 2, share_429=0.2, share_500=0.1, retry_after=3)
    assert first == await outcomes(300, 2, share_429=0.2, share_500=0.1, retry_after=3)
    flat = [o for tries in first for o in tries]
    assert 0.15 < flat.count(("http_429", 3.0)) / 600 < 0.25
    assert 0.06 < flat.count(("http_500", None)) / 600 < 0.14
    assert any(isinstance(a, Completion) != isinstance(b, Completion) for a, b in first)
    texts = {o.text for o in flat if isinstance(o, Completion)}
    assert len(texts) > 250


async def test_the_slow_share_is_slow() -> None:
    endpoint = FakeEndpoint(delay=0.05, tail=5, tail_share=0.1)
    delays = [endpoint.complete(str(i).encode())[0] for i in range(1000)]
    assert set(delays) == {0.05, 5}
    assert 60 < delays.count(5) < 140


def test_as_a_script_it_prints_its_url_and_tells_what_was_asked() -> None:
    script = Path(__file__).with_name("fake_endpoint.py")
    server = subprocess.Popen([sys.executable, script, "--delay", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        post = urllib.request.Request(url + "/chat/completions", data=b'{"messages": []}')
        with urllib.request.urlopen(post) as reply:
            assert json.load(reply)["choices"][0]["message"]["content"]
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
            stats = json.load(reply)
        assert (stats["requests"], stats["answered"], list(stats["asked"].values())) == (1, 1, [1])
    finally:
        server.kill()
        server.communicate()
