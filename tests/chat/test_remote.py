"""Clients in several processes: one asks, all get the answer, and what a dead one was asking is free again.

Channels and coordinator in one process; what carries the messages between them is the test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from if_factory.chat.base import ChatRequest, Completion, RequestFailed
from if_factory.chat.budget import Budget, BudgetExceeded, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.chat.remote import Channel, Coordinator, RemoteClient, current_usage

ASK = [{"role": "user", "content": "Say something."}]


class Slow:
    """A backend that answers when ``go`` is set."""

    model = "slow"

    def __init__(self, text: str = "something", fails: bool = False) -> None:
        self.text, self.fails = text, fails
        self.go, self.asked = asyncio.Event(), 0

    async def chat(self, request: ChatRequest) -> Completion:
        self.asked += 1
        await self.go.wait()
        if self.fails:
            raise RequestFailed("refused")
        return Completion(self.text, "stop", 3, 5)

    async def close(self) -> None:
        pass


class Office:
    """A coordinator with a log, and workers."""

    def __init__(self, log: ResponseLog, **limits: int) -> None:
        self.backend = Slow()
        self.budget, self.usage = Budget(**limits), Usage()  # type: ignore[arg-type]
        self.models = {role: ChatClient(role, Slow(), log=log, budget=self.budget, usage=self.usage)
                       for role in ("student", "judge")}
        self.channels: list[Channel] = []
        self.couriers: list[asyncio.Task[None]] = []
        self.reached = False
        self.coordinator = Coordinator(self.models, lambda worker, number, reply: self.channels[worker].deliver(
            [(number, reply)]), self._reached)

    def _reached(self) -> None:
        self.reached = True
        self.coordinator.close()

    def hire(self, concurrency: int = 8) -> dict[str, RemoteClient]:
        current_usage.set(Usage())
        channel, number = Channel(), len(self.channels)
        self.channels.append(channel)

        async def carry() -> None:
            while True:
                for message in await channel.take():
                    await self.coordinator.handle(number, message)

        self.couriers.append(asyncio.create_task(carry()))
        return {role: RemoteClient(channel, role, self.backend, concurrency=concurrency) for role in self.models}


@contextlib.asynccontextmanager
async def office(path: Path, **limits: int) -> AsyncIterator[Office]:
    with contextlib.closing(ResponseLog(path / "responses.jsonl")) as log:
        made = Office(log, **limits)
        yield made
        for courier in made.couriers:
            courier.cancel()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0.01)


async def test_one_worker_asks_and_all_that_want_it_get_the_answer(tmp_path: Path) -> None:
    async with office(tmp_path) as o:
        clients = [o.hire() for _ in range(3)]
        # the judge, too: the same model under another role
        waiting = [asyncio.create_task(c.chat(ASK, stage="s")) for made in clients for c in made.values()]
        await settle()
        assert o.backend.asked == 1
        assert o.coordinator.in_flight == sum(m.in_flight for m in o.models.values()) == 1
        o.backend.go.set()
        assert {c.text for c in await asyncio.gather(*waiting)} == {"something"}
        await settle()
        assert o.backend.asked == 1
        assert o.coordinator.in_flight == 0
        total = o.usage.total()
        assert (total.requests, total.prompt_tokens, total.completion_tokens) == (1, 3, 5)
        assert (o.budget.requests, o.budget.answered) == (1, 1)
    with contextlib.closing(ResponseLog(tmp_path / "responses.jsonl")) as log:
        assert len(log) == 1


async def test_a_logged_answer_is_not_asked_for_and_counts_as_replayed(tmp_path: Path) -> None:
    async with office(tmp_path) as o:
        o.backend.go.set()
        await o.hire()["student"].chat(ASK, stage="s")
        await settle()
    async with office(tmp_path) as o:
        assert (await o.hire()["student"].chat(ASK, stage="s")).text == "something"
        assert o.backend.asked == 0
        assert o.usage.total().replayed == 1


async def test_what_a_dead_worker_was_asking_is_asked_by_one_that_waits(tmp_path: Path) -> None:
    async with office(tmp_path) as o:
        dead, alive = o.hire(concurrency=1), o.hire()
        lost = [asyncio.create_task(dead["student"].chat(ASK, stage="s", sample=i)) for i in (0, 1)]
        await settle()
        waits = asyncio.create_task(alive["student"].chat(ASK, stage="s"))
        await settle()
        assert o.backend.asked == 1
        o.couriers[0].cancel()
        assert o.coordinator.lose(0) == 2, "the one that waits for a place at the endpoint counts, too"
        await settle()
        assert o.backend.asked == 2
        o.backend.go.set()
        assert (await waits).text == "something"
        await settle()
        assert o.usage.total().requests == 1
        assert (o.budget.requests, o.budget.answered, o.budget.lost) == (3, 1, 2)
        assert sum(m.in_flight for m in o.models.values()) == 0
        for task in lost:
            task.cancel()


async def test_a_worker_holds_no_more_than_twice_its_places(tmp_path: Path) -> None:
    async with office(tmp_path) as o:
        client = o.hire(concurrency=2)["student"]
        waiting = [asyncio.create_task(client.chat(ASK, stage="s", sample=i)) for i in range(9)]
        await settle()
        assert (o.coordinator.in_flight, o.backend.asked) == (4, 2)
        o.backend.go.set()
        await asyncio.gather(*waiting)
        await settle()
        assert o.usage.total().requests == 9


async def test_work_is_handed_in_only_after_its_answers_are_kept() -> None:
    """A worker killed right after it had handed in a record took answers with it that nobody had logged or counted."""
    channel = Channel()
    await channel.kept()  # nothing is on its way
    channel.answered("k", Completion("", "stop"), b"{}\n")
    waiting = asyncio.create_task(channel.kept())
    [answer] = await channel.take()
    assert not waiting.done()
    channel.deliver([(answer.number, None)])  # type: ignore[union-attr]
    await asyncio.wait_for(waiting, 1)


async def test_the_budget_holds_over_all_workers(tmp_path: Path) -> None:
    async with office(tmp_path, max_requests=5) as o:
        o.backend.go.set()
        clients = [o.hire()["student"] for _ in range(2)]
        done = await asyncio.gather(*(c.chat(ASK, stage="s", sample=4 * n + i)
                                      for n, c in enumerate(clients) for i in range(4)), return_exceptions=True)
        assert sum(isinstance(d, BudgetExceeded) for d in done) == 3
        assert o.backend.asked == 5
        assert o.reached


async def test_a_lost_request_and_an_empty_answer_reach_those_that_wait(tmp_path: Path) -> None:
    for backend in (Slow(fails=True), Slow(text=" ")):
        async with office(tmp_path) as o:
            o.backend = backend
            clients = [o.hire()["student"] for _ in range(2)]
            waiting = [asyncio.create_task(c.chat(ASK, stage="s")) for c in clients]
            await settle()
            backend.go.set()
            done = await asyncio.gather(*waiting, return_exceptions=True)
            assert backend.asked == 1
            if backend.fails:
                assert [getattr(d, "reason", "") for d in done] == ["refused", "refused"]
                assert o.budget.lost == 1
            else:
                assert done == [Completion(" ", "stop", 3, 5)] * 2
        assert not (tmp_path / "responses.jsonl").read_bytes()


async def test_a_cancelled_claim_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with office(tmp_path) as o:
        o.backend.go.set()
        first, second = o.hire()["student"], o.hire()["student"]
        task = asyncio.create_task(first.chat(ASK, stage="s"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has claimed, and has no reply yet
        task.cancel()
        assert (await asyncio.wait_for(second.chat(ASK, stage="s"), 5)).text == "something"
        await settle()
        assert (o.coordinator.in_flight, o.budget.requests) == (0, 1)


async def test_after_the_stop_nothing_is_sent(tmp_path: Path) -> None:
    async with office(tmp_path) as o:
        clients = [o.hire()["student"] for _ in range(2)]
        asks, waits = (asyncio.create_task(c.chat(ASK, stage="s")) for c in clients)
        await settle()
        o.coordinator.close()
        with pytest.raises(BudgetExceeded):
            await waits
        o.backend.go.set()
        assert (await asks).text == "something", "what is in flight is kept"
        await asyncio.wait_for(o.coordinator.quiet.wait(), 5)
        with pytest.raises(BudgetExceeded):
            await clients[1].chat(ASK, stage="s", sample=1)
