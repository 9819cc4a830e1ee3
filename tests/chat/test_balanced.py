"""Several servers behind one role: shared work, one that fails, one that comes back, and two that differ."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from if_factory.api.models import open_models
from if_factory.chat import balanced
from if_factory.chat.balanced import BalancedBackend
from if_factory.chat.base import ChatRequest
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.recipe import parse
from tests.chat.conftest import Serve, answer, error
from tests.support.fake_endpoint import FakeEndpoint


async def several(n: int, **options: object) -> tuple[list[FakeEndpoint], list[str]]:
    servers = [FakeEndpoint(**options) for _ in range(n)]
    return servers, [await server.start() for server in servers]


def listed() -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})


def backend(urls: list[str], concurrency: int = 4) -> BalancedBackend:
    return BalancedBackend([OpenAIBackend(url, concurrency=concurrency, timeout=10) for url in urls], concurrency)


async def ask(urls: list[str], n: int, log: ResponseLog | None = None) -> tuple[list[str], Usage]:
    recipe = parse({"method": "complex_to_simple", "models": {"student": {"endpoint": urls, "concurrency": 4,
                                                                          "wait_for_server": 20}}})
    usage = Usage()
    async with open_models(recipe, log, usage, Budget()) as models:
        found = await asyncio.gather(*(models["student"].chat([{"role": "user", "content": f"question {i}"}], stage="s")
                                       for i in range(n)))
    return [completion.text for completion in found], usage


async def test_work_is_shared_and_the_answers_are_those_of_one_server(tmp_path: Path) -> None:
    servers, urls = await several(3, delay=0.02)
    log = ResponseLog(tmp_path / "log.jsonl")
    texts, _ = await ask(urls, 120, log)
    assert texts == (await ask(urls[:1], 120))[0]
    asked = [server.requests for server in servers]
    assert min(asked) >= 25, asked
    assert max(server.most_in_flight for server in servers) <= 4
    again, usage = await ask(urls[1:], 120, log)
    assert again == texts
    assert usage.total().requests == 0, "the log does not care which server answered"
    log.close()
    for server in servers:
        await server.stop()


async def test_a_server_that_goes_away_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    servers, urls = await several(3, delay=0.02)

    async def kill() -> None:
        await asyncio.sleep(0.1)
        await servers[1].stop()

    (texts, usage), _ = await asyncio.gather(ask(urls, 150), kill())
    assert len(texts) == 150
    assert usage.total().failed == 0
    assert "is left out for now" in caplog.text
    for server in (servers[0], servers[2]):
        await server.stop()


async def test_a_slow_server_goes_on_while_the_other_is_gone_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place at the slow one takes longer than the other is left out for: the dead one is not tried twice."""
    monkeypatch.setattr(balanced, "_FIRST_REST", 0.01)
    monkeypatch.setattr(balanced, "_LONGEST_REST", 0.02)
    (slow,), urls = await several(1, delay=2.5)
    both = backend(["http://127.0.0.1:9/v1", *urls], concurrency=1)  # nobody listens there
    await both.discover()
    first, second = (ChatRequest("m", ({"role": "user", "content": f"question {i}"},)) for i in range(2))
    has_the_only_place = asyncio.create_task(both.chat(first))
    await asyncio.sleep(0.1)
    assert (await both.chat(second)).text
    assert (await has_the_only_place).text
    await both.close()
    await slow.stop()


async def test_a_server_that_is_not_there_at_the_start_joins_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "_FIRST_REST", 0.05)
    monkeypatch.setattr(balanced, "_LONGEST_REST", 0.05)
    servers, urls = await several(2, delay=0.01)
    port = int(urls[1].split(":")[2].split("/")[0])
    await servers[1].stop()

    async def start() -> None:
        await asyncio.sleep(0.1)
        await servers[1].start(port)

    (texts, usage), _ = await asyncio.gather(ask(urls, 300), start())
    assert (len(texts), usage.total().failed) == (300, 0)
    assert servers[1].requests > 20
    for server in servers:
        await server.stop()


async def test_a_busy_server_is_left_alone_while_another_has_time(serve: Serve) -> None:
    asked: Counter[str] = Counter()

    async def busy(request: web.Request) -> web.Response:
        if request.path.endswith("/models"):
            return listed()
        asked["busy"] += 1
        return error(429, "slow down", **{"Retry-After": "30"})

    async def free(request: web.Request) -> web.Response:
        if request.path.endswith("/models"):
            return listed()
        asked["free"] += 1
        return answer("fine")

    texts, usage = await ask([await serve(busy), await serve(free)], 40)
    assert texts == ["fine"] * 40
    assert asked["busy"] <= 4, "what was in flight together, and then no more"
    assert usage.total().failed == 0


async def test_servers_of_one_role_serve_one_model() -> None:
    one, other = FakeEndpoint(model="a"), FakeEndpoint(model="b")
    urls = [await one.start(), await other.start()]
    pool = backend(urls)
    with pytest.raises(UserError, match=r"serves 'a' and .* 'b'") as e:
        await pool.discover()
    assert "one model" in str(e.value.fix)
    await pool.close()
    await one.stop()
    await other.stop()


async def test_a_server_that_joins_later_with_another_model_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "_FIRST_REST", 0.05)
    monkeypatch.setattr(balanced, "_LONGEST_REST", 0.05)
    one, other = FakeEndpoint(model="a", delay=0.01), FakeEndpoint(model="b")
    urls = [await one.start(), await other.start()]
    port = int(urls[1].split(":")[2].split("/")[0])
    await other.stop()

    async def start() -> None:
        await asyncio.sleep(0.1)
        await other.start(port)

    with pytest.raises(UserError, match=r"serves 'a' and .* 'b'"):
        await asyncio.gather(ask(urls, 300), start())
    await one.stop()
    await other.stop()


async def test_no_server_at_all_is_one_clear_error() -> None:
    servers, urls = await several(2)
    for server in servers:
        await server.stop()
    with pytest.raises(UserError, match="no server answers"):
        await ask(urls, 1)


@pytest.mark.parametrize("urls", [[], ["http://a/v1", "http://a/v1"], ["embedded", "http://a/v1"]])
def test_a_list_holds_different_urls(urls: list[str]) -> None:
    with pytest.raises(UserError, match="different URLs"):
        parse({"method": "complex_to_simple", "models": {"student": {"endpoint": urls}}})


def test_a_list_of_one_is_that_one() -> None:
    recipe = parse({"method": "complex_to_simple", "models": {"student": ["http://a/v1"]}})
    assert recipe.models["student"].endpoint == "http://a/v1"
