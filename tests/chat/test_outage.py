"""What a client does when requests are refused, answers are empty, or the server goes away."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from if_factory.chat.base import ChatRequest, Completion, RequestFailed, ServerGone, Transient
from if_factory.chat.budget import Budget, BudgetExceeded, Usage, cut_notes
from if_factory.chat.client import ChatClient
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.log import ResponseLog
from if_factory.chat.scripted import ScriptedBackend
from if_factory.errors import UserError
from tests.chat.conftest import Serve, answer
from tests.support.scripted_server import ScriptedServer

GONE = ServerGone("no server answers", where="http://x/v1")


def client(script: Callable[[ChatRequest], str | Completion | Exception], **options: Any) -> ChatClient:
    return ChatClient(
        "teacher",
        ScriptedBackend("m", script),
        log=options.pop("log", None),
        budget=Budget(),
        usage=Usage(),
        **options,
    )


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def failures(model: ChatClient, n: int) -> list[str]:
    got = [
        (await asyncio.gather(model.chat(user(str(i)), stage="s"), return_exceptions=True))[0] for i in range(n)
    ]
    return [type(each).__name__ for each in got]


# ---------------------------------------------------------------- refusals, empty answers


async def test_refusals_one_after_the_other_stop_a_run() -> None:
    model = client(lambda r: RequestFailed("http_400"))
    assert await failures(model, 19) == ["RequestFailed"] * 19
    with pytest.raises(UserError, match=r"answers no request \(http_400\)"):
        await model.chat(user("the last"), stage="s")
    assert model.usage.failures == {"http_400": 20}


async def test_long_prompts_and_filtered_ones_do_not_stop_a_run() -> None:
    reasons = iter(["context_too_long", "content_filter"] * 15)
    model = client(lambda r: RequestFailed(next(reasons)))
    assert await failures(model, 30) == ["RequestFailed"] * 30


@pytest.mark.parametrize("empty", ["", " \n", "<think>hm", "<|im_end|>"])
async def test_an_empty_answer_is_counted_but_not_kept_in_the_log(tmp_path: Path, empty: str) -> None:
    log = ResponseLog(tmp_path / "responses.jsonl")
    model = client(lambda r: Completion(empty, "length", 5, 9), log=log)
    assert (await model.chat(user("q"), stage="s")).text.strip() == ""
    assert (len(log), model.usage.total().requests, model.usage.total().truncated) == (0, 1, 1)
    log.close()


def test_an_answer_logged_before_extra_fields_existed_is_found() -> None:
    """The first key is what the package computed before there was ``extra_body``."""
    request = ChatRequest("m", tuple(user("q")), 0.7, 1.0, 512, 5, 0, {"type": "object"}, ("END",))
    assert request.key() == "a618c873885cf983"
    assert (
        ChatRequest("m", tuple(user("q")), extra_body={"a": 1}).key() != ChatRequest("m", tuple(user("q"))).key()
    )
    assert ChatRequest("m", tuple(user("q")), extra_body={}).key() == ChatRequest("m", tuple(user("q"))).key()


def test_more_than_two_percent_of_cut_answers_are_said_with_what_to_set() -> None:
    usage = Usage()
    for role, cut in (("student", 3), ("teacher", 2)):
        tally = usage.tally("respond", role)
        tally.requests = 100
        for i in range(100):
            tally.add(Completion("x", "length" if i < cut else "stop"), None)
    assert cut_notes(usage, {"student": 512, "teacher": 512}) == [
        "respond: 3 of 100 answers of the student (3%) were cut by max_tokens 512, and long answers are lost: "
        "set models.student.max_tokens to 1024 or more"
    ]
    usage.tally("respond", "student").add(Completion("", "cut_in_thinking"), None)
    [note] = cut_notes(usage, {"student": None})[:1]
    assert "1 of them before the reasoning ended" in note
    assert "extra_body" in note


async def test_a_limit_that_the_method_sets_itself_is_not_to_be_raised_in_the_recipe() -> None:
    """Seen of DecIF: of lists bounded at 1,100 tokens it was said that max_tokens 350 cut them."""
    model = client(lambda r: Completion("x", "length"))
    await model.chat(user("q"), stage="scenarios", max_tokens=1100)
    await model.chat(user("q"), stage="respond")
    assert [note.partition(":")[0] for note in cut_notes(model.usage, {"teacher": 350})] == ["respond"]


# ---------------------------------------------------------------- a server that goes away


@pytest.mark.usefixtures("no_waiting")
async def test_a_server_that_was_there_is_waited_for_and_said(caplog: pytest.LogCaptureFixture) -> None:
    script = iter(["first", GONE, GONE, Transient("connection_lost"), GONE, "second"])
    model = client(lambda r: next(script), outage=60, retries=0)
    assert (await model.chat(user("a"), stage="s")).text == "first"
    assert (await model.chat(user("b"), stage="s")).text == "second"
    assert caplog.text.count("waiting up to 60 s") == 1
    assert "is back after" in caplog.text


async def test_a_server_that_never_was_there_is_an_error_at_once() -> None:
    with pytest.raises(ServerGone):
        await client(lambda r: GONE, outage=60).chat(user("a"), stage="s")


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("outage", [0, 0.05])
async def test_the_wait_for_a_server_ends(outage: float) -> None:
    script = iter(["first"])
    model = client(lambda r: next(script, GONE), outage=outage)
    await model.chat(user("a"), stage="s")
    with pytest.raises(ServerGone, match="no server answers"):
        await model.chat(user("b"), stage="s")


async def test_a_run_that_is_stopping_does_not_wait_for_its_server() -> None:
    script = iter(["first"])
    model = client(lambda r: next(script, GONE), outage=600)
    await model.chat(user("a"), stage="s")
    asked = asyncio.create_task(model.chat(user("b"), stage="s"))
    await asyncio.sleep(0.05)
    model.budget.close()
    with pytest.raises(BudgetExceeded):
        await asyncio.wait_for(asked, 10)


@pytest.mark.usefixtures("no_waiting")
async def test_a_real_server_that_is_killed_and_started_again_loses_nothing(tmp_path: Path) -> None:
    """Over real sockets: 40 requests, the server away after the first ten, then back on its port."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    asked: list[str] = []

    async def start() -> TestServer:
        async def handler(r: web.Request) -> web.Response:
            if r.method == "GET":
                return web.json_response({"data": [{"id": "m"}]})
            text = (await r.json())["messages"][0]["content"]
            asked.append(text)
            if len(asked) == 10:
                asyncio.get_running_loop().call_soon(gone.set)
            return answer(f"answer {text}")

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, port=port)
        await server.start_server()
        return server

    gone = asyncio.Event()
    server = await start()
    log = ResponseLog(tmp_path / "responses.jsonl")
    model = ChatClient(
        "teacher",
        OpenAIBackend(f"http://127.0.0.1:{port}/v1", "m"),
        log=log,
        budget=Budget(),
        usage=Usage(),
        concurrency=2,
        retries=2,
        outage=60,
    )
    work = asyncio.gather(*(model.chat(user(str(i)), stage="s") for i in range(40)))
    await gone.wait()
    await server.close()
    await asyncio.sleep(0.2)
    server = await start()
    answers = await asyncio.wait_for(work, 60)
    await model.close()
    log.close()
    await server.close()
    assert [a.text for a in answers] == [f"answer {i}" for i in range(40)]
    lines = [json.loads(line) for line in (tmp_path / "responses.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    assert len(asked) <= 40 + 2  # only what was in flight when the server went was asked again


async def test_a_closed_model_does_not_open_a_connection_again(serve: Serve) -> None:
    server = ScriptedServer([{"content": "x"}])
    model = ChatClient(
        "teacher", OpenAIBackend(await serve(server), "m"), log=None, budget=Budget(), usage=Usage()
    )
    await model.close()
    with pytest.raises(RequestFailed, match="closed"):
        await model.chat(user("a"), stage="s")
    assert server.posts == []


async def test_another_model_at_the_address_is_noticed_before_anything_is_asked(
    serve: Serve, tmp_path: Path
) -> None:
    async def ask(size: int) -> ScriptedServer:
        server = ScriptedServer([{"content": "x"}], models=[{"id": "m", "meta": {"size": size}}])
        log = ResponseLog(tmp_path / "responses.jsonl")
        model = ChatClient(
            "teacher", OpenAIBackend(await serve(server), "m"), log=log, budget=Budget(), usage=Usage()
        )
        try:
            await model.chat(user(f"question {size}"), stage="s")
        finally:
            await model.close()
            log.close()
        return server

    await ask(5)
    with pytest.raises(UserError, match="another model than before"):
        await ask(6)
