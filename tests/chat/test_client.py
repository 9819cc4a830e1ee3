from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from if_factory.chat.base import ChatRequest, Completion, RequestFailed, Transient
from if_factory.chat.budget import Budget, BudgetExceeded, Price, Tally, Usage
from if_factory.chat.client import ChatClient, _sent_seed, _wait
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.log import ResponseLog
from if_factory.chat.scripted import ScriptedBackend
from if_factory.errors import UserError
from tests.chat.conftest import Serve, answer, error
from tests.support.fake_endpoint import FakeEndpoint

Answer = Callable[[ChatRequest], str | Completion | Exception]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def scripted(answer: Answer | str = "fine", *, log: ResponseLog | None = None, budget: Budget | None = None,
             role: str = "teacher", **options: Any) -> tuple[ChatClient, ScriptedBackend]:
    backend = ScriptedBackend("scripted", answer if callable(answer) else lambda request: answer)
    return ChatClient(role, backend, log=log, budget=budget or Budget(), usage=Usage(), **options), backend


async def test_the_request_has_the_roles_sampling_and_the_calls_overrides() -> None:
    model, backend = scripted(temperature=0.2, top_p=0.8, max_tokens=50, seed=3)
    await model.chat(user("hi"), stage="s", sample=2, stop=["x"], schema={"a": 1}, max_tokens=9)
    assert backend.requests == [ChatRequest("scripted", tuple(user("hi")), 0.2, 0.8, 9, _sent_seed(3, 2), 2,
                                            {"a": 1}, ("x",))]
    await model.close()
    assert backend.closed


async def test_seeds_differ_by_run_and_sample_and_fit_every_server() -> None:
    seeds = {_sent_seed(seed, sample) for seed in range(20) for sample in range(50)}
    assert len(seeds) == 1000
    assert 0 <= min(seeds) <= max(seeds) < 2**31


async def test_a_replayed_request_costs_nothing_and_counts_the_same(tmp_path: Path) -> None:
    def run() -> tuple[ChatClient, ScriptedBackend, ResponseLog]:
        log = ResponseLog(tmp_path / "log.jsonl")
        return (*scripted(lambda r: Completion("x", "length", 10, 5), log=log, price=Price(1, 2),
                          budget=Budget(max_requests=3)), log)

    async def work(model: ChatClient) -> list[Completion]:
        return [await model.chat(user(text), stage="s") for text in ("a", "b", "a", "c")]

    model, backend, log = run()
    first = await work(model)
    log.close()
    assert len(backend.requests) == 3
    assert model.usage.total() == Tally(3, 0, 1, 0, 0, 30, 15, 3, 0, pytest.approx(60e-6))
    model, backend, log = run()
    assert await work(model) == first
    log.close()
    assert backend.requests == []
    assert model.usage.total() == Tally(0, 3, 1, 0, 0, 30, 15, 3, 0, pytest.approx(60e-6))
    assert (model.budget.requests, model.budget.tokens) == (3, 45)


@pytest.mark.parametrize("logged", [True, False])
async def test_equal_requests_in_flight_are_asked_once(tmp_path: Path, logged: bool) -> None:
    log = ResponseLog(tmp_path / "log.jsonl") if logged else None
    model, backend = scripted(log=log)
    answers = await asyncio.gather(*(model.chat(user("same"), stage="s") for _ in range(20)),
                                   model.chat(user("same"), stage="s", sample=1))
    assert len(set(answers)) == 1
    assert len(backend.requests) == 2
    assert (model.usage.total().requests, model.usage.total().shared) == (2, 19)


async def test_when_the_asker_is_cancelled_the_next_in_line_asks() -> None:
    model, backend = scripted()
    first = asyncio.create_task(model.chat(user("same"), stage="s"))
    second = asyncio.create_task(model.chat(user("same"), stage="s"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).text == "fine"
    assert len(backend.requests) == 2
    assert first.cancelled()


async def test_when_a_waiter_is_cancelled_the_asker_goes_on() -> None:
    model, _ = scripted()
    first = asyncio.create_task(model.chat(user("same"), stage="s"))
    second = asyncio.create_task(model.chat(user("same"), stage="s"))
    await asyncio.sleep(0)
    second.cancel()
    assert (await first).text == "fine"


async def test_a_failure_is_everyones_and_is_asked_anew_later() -> None:
    answers = iter([RequestFailed("http_400"), "fine"])
    model, _ = scripted(lambda r: next(answers))
    got = await asyncio.gather(*(model.chat(user("same"), stage="s") for _ in range(3)), return_exceptions=True)
    assert [type(g) for g in got] == [RequestFailed] * 3
    assert (await model.chat(user("same"), stage="s")).text == "fine"
    assert model.usage.total().failed == 1


async def test_two_roles_that_ask_one_model_the_same_get_the_logged_answer(tmp_path: Path) -> None:
    log = ResponseLog(tmp_path / "log.jsonl")
    count = iter(range(10))
    answer: Answer = lambda r: f"answer {next(count)}"  # noqa: E731
    one, _ = scripted(answer, log=log, role="student")
    two, _ = scripted(answer, log=log, role="teacher")
    got = await asyncio.gather(one.chat(user("same"), stage="s"), two.chat(user("same"), stage="s"))
    log.close()
    assert {g.text for g in got} == {"answer 0"}


@pytest.mark.parametrize(("text", "kept"), [
    ("<think>hm</think>\n\nyes", "yes"), ("hm</think>yes", "yes"), ("<think>hm and hm", ""),
    ("no tags", "no tags")])
async def test_reasoning_is_cut_before_it_is_logged(tmp_path: Path, text: str, kept: str) -> None:
    log = ResponseLog(tmp_path / "log.jsonl")
    model, _ = scripted(text, log=log)
    assert (await model.chat(user("q"), stage="s")).text == kept
    log.close()
    assert "hm" not in (tmp_path / "log.jsonl").read_text()


# ---------------------------------------------------------------- retries


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("retries", [0, 1, 6])
async def test_a_transient_failure_is_tried_again_a_bounded_number_of_times(retries: int) -> None:
    model, backend = scripted(lambda r: Transient("http_500"), retries=retries)
    with pytest.raises(RequestFailed, match="http_500"):
        await model.chat(user("q"), stage="s")
    assert len(backend.requests) == retries + 1
    total = model.usage.total()
    assert (total.failed, total.retries, total.requests) == (1, retries, 0)


@pytest.mark.usefixtures("no_waiting")
async def test_what_retrying_cannot_mend_is_not_retried() -> None:
    for failure in (RequestFailed("context_too_long"), UserError("wrong key")):
        answers = iter([Transient("http_429"), failure])
        model, backend = scripted(lambda r, a=answers: next(a))  # type: ignore[misc]
        with pytest.raises(type(failure)):
            await model.chat(user("q"), stage="s")
        assert len(backend.requests) == 2


@pytest.mark.usefixtures("no_waiting")
async def test_a_rate_limit_is_waited_out_and_uses_up_no_retries() -> None:
    answers = iter([*[Transient("http_429")] * 30, Transient("http_503", retry_after=1), Transient("timeout"),
                    "ok"])
    model, _ = scripted(lambda r: next(answers), retries=1)
    assert (await model.chat(user("q"), stage="s")).text == "ok"
    assert model.usage.total().retries == 32


async def test_patience_with_a_rate_limit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.chat.client._wait", lambda *_: 0.02)
    monkeypatch.setattr("if_factory.chat.client._PATIENCE", 0.1)
    model, backend = scripted(lambda r: Transient("http_429"))
    with pytest.raises(RequestFailed, match="http_429"):
        await model.chat(user("q"), stage="s")
    assert 5 <= len(backend.requests) <= 7


@pytest.mark.usefixtures("no_waiting")
async def test_a_server_that_only_fails_stops_the_run_instead_of_losing_every_row() -> None:
    broken = True
    model, _ = scripted(lambda r: Transient("http_502") if broken else "fine", retries=1)

    async def failures(n: int, start: int) -> Counter[str]:
        got = [await asyncio.gather(model.chat(user(str(start + i)), stage="s"), return_exceptions=True)
               for i in range(n)]
        return Counter(type(g[0]).__name__ for g in got)

    assert await failures(19, 0) == {"RequestFailed": 19}
    broken = False
    await model.chat(user("between"), stage="s")
    broken = True
    assert await failures(19, 100) == {"RequestFailed": 19}
    with pytest.raises(UserError, match="http_502"):
        await model.chat(user("the last"), stage="s")


def test_the_wait_is_the_servers_own_or_grows_with_jitter() -> None:
    asked = [_wait(Transient("http_429", retry_after=4), 1) for _ in range(200)]
    assert 4 <= min(asked) < max(asked) <= 4.5
    assert _wait(Transient("http_429", retry_after=10**6), 1) < 400
    assert max(_wait(Transient("http_429", retry_after=1), 12) for _ in range(200)) > 10
    for times, longest in ((1, 0.5), (2, 1), (3, 2), (9, 30)):
        own = [_wait(Transient("http_500"), times) for _ in range(200)]
        assert 0.1 <= min(own) < max(own) <= longest
        assert max(own) > longest / 2


def test_a_server_that_says_how_long_is_not_kept_waiting_longer() -> None:
    assert max(_wait(Transient("http_429", retry_after=1), times) for times in (1, 2, 3) for _ in range(200)) <= 1.15


async def test_the_wait_grows_with_how_often_this_failure_was_met(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[str, int]] = []

    def wait(failure: Transient, times: int) -> float:
        met.append((failure.reason, times))
        return 0.0

    monkeypatch.setattr("if_factory.chat.client._wait", wait)
    failures = [Transient("http_429", retry_after=1), Transient("http_500"), Transient("http_429", retry_after=1)]

    def answer(_: ChatRequest) -> str | Exception:
        return failures.pop(0) if failures else "yes"

    model, _ = scripted(answer)
    assert (await model.chat(user("hi"), stage="s")).text == "yes"
    assert met == [("http_429", 1), ("http_500", 1), ("http_429", 2)]


async def test_a_request_that_waits_for_its_retry_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.chat.client._wait", lambda *_: 0.3)
    done: list[str] = []
    failing = {"first"}

    def answer(request: ChatRequest) -> str | Exception:
        text = request.messages[0]["content"]
        if text in failing:
            failing.discard(text)
            return Transient("http_429")
        done.append(text)
        return text

    model, _ = scripted(answer, concurrency=1)
    await asyncio.gather(*(model.chat(user(t), stage="s") for t in ("first", "a", "b", "c")))
    assert done == ["a", "b", "c", "first"]


@pytest.mark.usefixtures("no_waiting")
async def test_over_http_every_kind_of_passing_fault_is_survived_and_the_key_stays_out_of_the_log(
        serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-in-env")
    faults = iter(["429", "500", "drop", "garbage", "timeout", "200"])

    async def handler(r: web.BaseRequest) -> web.Response:
        assert r.headers["Authorization"] == "Bearer sk-secret-in-env"
        if r.method == "GET":  # what the server says of its model
            return error(404, "no list")
        fault = next(faults)
        if fault == "drop":
            assert r.transport is not None
            r.transport.abort()
        if fault == "timeout":
            await asyncio.sleep(30)
        if fault == "garbage":
            return web.Response(body=b"<html>")
        return answer("at last") if fault == "200" else error(int(fault) if fault.isdigit() else 500, "later")

    log = ResponseLog(tmp_path / "log.jsonl")
    model = ChatClient("teacher", OpenAIBackend(await serve(handler), "fake", timeout=1), log=log, budget=Budget(),
                  usage=Usage())
    assert (await model.chat(user("q"), stage="s")).text == "at last"
    assert (await model.chat(user("q"), stage="s")).text == "at last"
    await model.close()
    log.close()
    assert model.usage.total().retries == 5
    assert "sk-secret" not in (tmp_path / "log.jsonl").read_text()


async def test_the_server_names_the_model_when_the_recipe_does_not(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        if r.path == "/v1/models":
            return web.json_response({"data": [{"id": "served"}]})
        return answer((await r.json())["model"])

    model = ChatClient("teacher", OpenAIBackend(await serve(handler)), log=None, budget=Budget(), usage=Usage())
    assert (await model.chat(user("q"), stage="s")).text == "served"
    await model.close()


# ---------------------------------------------------------------- load


async def test_the_concurrency_limit_is_reached_and_never_passed() -> None:
    endpoint = FakeEndpoint(delay=0.05)
    backend = OpenAIBackend(await endpoint.start(), "fake", concurrency=100)
    model = ChatClient("teacher", backend, log=None, budget=Budget(), usage=Usage(), concurrency=7)
    await asyncio.gather(*(model.chat(user(str(i)), stage="s") for i in range(40)))
    await model.close()
    await endpoint.stop()
    assert endpoint.most_in_flight == 7


async def test_under_faults_every_request_is_answered_and_none_is_paid_twice(tmp_path: Path) -> None:
    endpoint = FakeEndpoint(delay=0.001, share_429=0.1, share_500=0.05, retry_after=0.01)
    log = ResponseLog(tmp_path / "log.jsonl")
    backend = OpenAIBackend(await endpoint.start(), "fake")
    model = ChatClient("teacher", backend, log=log, budget=Budget(), usage=Usage())
    got = await asyncio.gather(*(model.chat(user(str(i)), stage="s") for i in range(300)))
    await model.close()
    await endpoint.stop()
    log.close()
    assert all(c.text for c in got)
    total = model.usage.total()
    assert (total.requests, total.failed) == (300, 0)
    assert endpoint.requests == 300 + total.retries > 300
    assert set(endpoint.answered.values()) == {1}


# ---------------------------------------------------------------- budget


async def run_until_refused(model: ChatClient, n: int) -> Counter[str]:
    got = await asyncio.gather(*(model.chat(user(str(i)), stage="s") for i in range(n)), return_exceptions=True)
    return Counter(type(g).__name__ for g in got)


async def test_a_request_budget_stops_exactly_and_a_larger_one_goes_on_from_there(tmp_path: Path) -> None:
    seen = []
    for limit in (10, 10, 25):
        log = ResponseLog(tmp_path / "log.jsonl")
        model, backend = scripted(log=log, budget=Budget(max_requests=limit), concurrency=8)
        seen.append((len(backend.requests), await run_until_refused(model, 50), len(backend.requests)))
        log.close()
    assert [(got["Completion"], asked) for _, got, asked in seen] == [(10, 10), (10, 0), (25, 15)]
    assert all(got["Completion"] + got["BudgetExceeded"] == 50 for _, got, _ in seen)


async def test_a_token_budget_stops_a_sequence_exactly_and_a_crowd_within_the_first_wave() -> None:
    def say(request: ChatRequest) -> Completion:
        return Completion("x", "stop", 60, 40)

    model, backend = scripted(say, budget=Budget(max_tokens=1000), concurrency=1)
    assert (await run_until_refused(model, 50))["Completion"] == 10
    model, backend = scripted(say, budget=Budget(max_tokens=1000), concurrency=8)
    await run_until_refused(model, 50)
    assert 10 <= len(backend.requests) <= 10 + 8


async def test_a_money_budget_stops_when_the_money_is_spent_and_needs_a_price() -> None:
    def say(request: ChatRequest) -> Completion:
        return Completion("x", "stop", 100_000, 50_000)

    model, _ = scripted(say, budget=Budget(max_usd=1.0), price=Price(1, 2), concurrency=1)
    assert (await run_until_refused(model, 20))["Completion"] == 5
    assert model.usage.total().cost == pytest.approx(1.0)
    with pytest.raises(BudgetExceeded, match="max_usd = 1"):
        await model.chat(user("more"), stage="s")
    with pytest.raises(UserError, match="price"):
        scripted(budget=Budget(max_usd=1.0))


async def test_a_replay_is_never_refused(tmp_path: Path) -> None:
    log = ResponseLog(tmp_path / "log.jsonl")
    model, _ = scripted(log=log)
    await run_until_refused(model, 5)
    log.close()
    log = ResponseLog(tmp_path / "log.jsonl")
    model, _ = scripted(log=log, budget=Budget(max_requests=1))
    assert (await run_until_refused(model, 5))["Completion"] == 5
    log.close()
