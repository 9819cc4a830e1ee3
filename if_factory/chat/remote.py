"""Clients in several processes that share one log, one budget and one account.

Each worker process has a ``RemoteClient`` per role, with connections, retries and concurrency of its own. Before it
asks a server it claims the request at the ``Coordinator``, which answers from the log, lets the worker ask, or has it
wait for another worker that asks the same; the answer goes back as a line for the log. An answer that has reached the
coordinator is on disk; a request is claimed by one worker at a time. How messages travel is the business of the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NamedTuple

from if_factory.chat.base import ChatRequest, Completion, RequestFailed
from if_factory.chat.budget import Budget, BudgetExceeded, Tally, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import line_of

_KEEP_SECONDS = 10.0
_PAUSE = 0.004  # seconds for which messages gather: a call for each would cost more than the request


class Claim(NamedTuple):
    """A worker wants the answer to the request ``key``; ``number`` is its own, for the reply."""

    number: int
    key: str
    stage: str
    role: str


class Answered(NamedTuple):
    """A claimed request was answered. ``line`` is for the log, and then ``completion`` has no text; with ``None`` it
    is not logged. ``number`` is its own: the reply says that the answer is kept."""

    number: int
    key: str
    completion: Completion
    line: bytes | None


class Lost(NamedTuple):
    """A claimed request got no answer after all retries."""

    key: str
    reason: str


class Released(NamedTuple):
    """A claimed request was not sent, or given up."""

    key: str


class Broken(NamedTuple):
    """A worker's stage failed, or no request can succeed: the run is to end."""

    error: BaseException


class Stopped(NamedTuple):
    """The reply to a claim that is refused: a budget is reached, or the run is stopping."""


Message = Claim | Answered | Lost | Released | Broken
# What a claim is answered with: the answer, ``None`` to ask for it, the reason why it was lost, or nothing any more.
Reply = Completion | Lost | Stopped | None


# ---------------------------------------------------------------- in a worker's process


class Channel:
    """A worker's messages on their way out, and its claims that wait for a reply."""

    def __init__(self) -> None:
        self._out: list[Message] = []
        self._any = asyncio.Event()
        self._claims: dict[int, asyncio.Future[Reply]] = {}
        self._numbers = count()
        self._unkept: set[asyncio.Future[Reply]] = set()  # answers on their way

    def send(self, message: Message) -> None:
        self._out.append(message)
        self._any.set()

    async def take(self) -> list[Message]:
        """The messages that have gathered; waits for the first."""
        await self._any.wait()
        await asyncio.sleep(_PAUSE)
        self._any.clear()
        out, self._out = self._out, []
        return out

    async def claim(self, key: str, stage: str, role: str) -> Reply:
        """What the coordinator says; after ``None`` one of ``Answered``, ``Lost`` and ``Released`` must be sent."""
        number, reply = self._expect()
        self.send(Claim(number, key, stage, role))
        try:
            return await asyncio.shield(reply)
        except asyncio.CancelledError:
            # The reply still comes, and a request that nobody asks would keep others waiting.
            reply.add_done_callback(lambda done: self.send(Released(key)) if done.result() is None else None)
            raise

    def answered(self, key: str, completion: Completion, line: bytes | None) -> asyncio.Future[Reply]:
        """Send an answer; done when the coordinator has it."""
        number, reply = self._expect()
        self.send(Answered(number, key, completion, line))
        self._unkept.add(reply)
        reply.add_done_callback(self._unkept.discard)
        return reply

    async def kept(self) -> None:
        """Wait until the coordinator has every answer sent so far: work that is handed in must not outlive its answers.

        Gives up after ten seconds: a coordinator that failed replies no more.
        """
        if self._unkept:
            await asyncio.wait(self._unkept, timeout=_KEEP_SECONDS)

    def _expect(self) -> tuple[int, asyncio.Future[Reply]]:
        number, reply = next(self._numbers), asyncio.get_running_loop().create_future()
        self._claims[number] = reply
        return number, reply

    def deliver(self, replies: Sequence[tuple[int, Reply]]) -> None:
        for number, reply in replies:
            self._claims.pop(number).set_result(reply)


# The account of the work that asks; a worker has several pieces of work at a time. See ``RemoteClient.usage``.
current_usage: ContextVar[Usage] = ContextVar("current_usage")


class RemoteClient(ChatClient):
    """``ChatClient`` in a worker's process: the log and the budget are the coordinator's.

    Takes ``ChatClient``'s arguments; ``log`` and ``budget`` are not used.
    """

    def __init__(self, channel: Channel, role: str, backend: Any, **settings: Any) -> None:
        self.channel = channel
        # Held from the claim until the answer is kept: so much can be paid for twice if this process dies. Twice the
        # requests in flight, so that those do not wait for messages.
        self._claims = asyncio.Semaphore(2 * settings["concurrency"])
        super().__init__(role, backend, **{**settings, "log": None, "budget": Budget(), "usage": Usage()})

    @property
    def usage(self) -> Usage:
        """Of the piece of work that asks: lost requests count when it is finished, as it may be done again."""
        return current_usage.get()

    @usage.setter
    def usage(self, _: Usage) -> None:
        pass

    async def _ask(self, request: ChatRequest, key: str, stage: str, tally: Tally) -> Completion:
        await self._claims.acquire()
        kept: asyncio.Future[Reply] | None = None
        try:
            completion, kept = await self._claim_and_ask(request, key, stage, tally)
            return completion
        finally:
            if kept is None:
                self._claims.release()
            else:
                kept.add_done_callback(lambda _: self._claims.release())

    async def _claim_and_ask(self, request: ChatRequest, key: str, stage: str,
                             tally: Tally) -> tuple[Completion, asyncio.Future[Reply] | None]:
        match await self.channel.claim(key, stage, self.role):
            case Completion() as known:
                return known, None
            case Lost(_, reason):
                raise RequestFailed(reason)
            case Stopped():
                raise BudgetExceeded("requests after the stop", 0)
        try:
            completion = await super()._ask(request, key, stage, tally)
        except RequestFailed as e:
            self.channel.send(Lost(key, e.reason))
            raise
        except BaseException:
            self.channel.send(Released(key))
            raise
        # An empty answer is no answer: it is not kept, and another run asks again.
        line = line_of(key, request, completion, stage) if completion.text.strip() else None
        short = completion if line is None else replace(completion, text="")
        return completion, self.channel.answered(key, short, line)


# ---------------------------------------------------------------- in the process that has the log


@dataclass(slots=True)
class _Asking:
    """A request that ``worker`` asks, and the claims that wait for its answer."""

    worker: Hashable
    client: ChatClient
    tally: Tally
    waiting: list[tuple[Hashable, Claim]] = field(default_factory=list)


class Coordinator:
    """Decides who asks what, and keeps what was answered.

    Args:
        models: by role, with the log, budget and usage of the run.
        reply: called with worker, the claim's number and reply; sends it.
        reached: called when a budget is reached.
    """

    def __init__(self, models: Mapping[str, ChatClient], reply: Callable[[Hashable, int, Reply], None],
                 reached: Callable[[], None]) -> None:
        self._models = models
        self._reply = reply
        self._reached = reached
        self._asking: dict[str, _Asking] = {}
        self._closed = False
        self.quiet = asyncio.Event()  # nothing is being asked
        self.quiet.set()

    @property
    def in_flight(self) -> int:
        """Requests that workers were let ask and that have no answer yet."""
        return len(self._asking)

    def close(self) -> None:
        """Refuse every claim from now on, those that wait included; answers are still kept."""
        self._closed = True
        for asking in self._asking.values():
            waiting, asking.waiting = asking.waiting, []
            for worker, claim in waiting:
                self._reply(worker, claim.number, Stopped())

    async def handle(self, worker: Hashable, message: Message) -> None:
        """Raises ``UserError``: the log cannot be written, or another model has the name of one in the log; and the
        error of a worker that is ``Broken``."""
        match message:
            case Claim():
                if message.key not in self._asking and not self._closed:
                    await self._models[message.role].same_model()
                self._claim(worker, message)
            case Answered(number, key, completion, line):
                asked = self._settle(key)
                asked.client.count(completion, asked.tally)
                if line is not None and asked.client.log is not None:
                    asked.client.log.put_line(key, line)
                self._reply(worker, number, None)
                self._pass_on(asked, None if line is not None else completion)
            case Lost(key):
                asked = self._settle(key)
                asked.client.budget.fail()
                self._pass_on(asked, message)
            case Released(key):
                asked = self._settle(key)
                asked.client.budget.give_back()
                self._pass_on(asked, None)
            case Broken(error):
                raise error

    def lose(self, worker: Hashable) -> int:
        """A worker is dead. What it was asking is free for others; returns how many requests those are."""
        for asking in self._asking.values():
            asking.waiting = [(who, claim) for who, claim in asking.waiting if who != worker]
        gone = [key for key, asking in self._asking.items() if asking.worker == worker]
        for key in gone:
            asked = self._settle(key)
            asked.client.budget.fail()  # it may have been answered, and paid for
            self._pass_on(asked, None)
        return len(gone)

    def _claim(self, worker: Hashable, claim: Claim) -> None:
        client = self._models[claim.role]
        tally = client.usage.tally(claim.stage, claim.role)
        if (asking := self._asking.get(claim.key)) is not None:
            if self._closed:
                self._reply(worker, claim.number, Stopped())
            else:
                asking.waiting.append((worker, claim))
            return
        if (logged := client.replay(claim.key, tally)) is not None:
            self._reply(worker, claim.number, logged)
            return
        try:
            if self._closed:
                raise BudgetExceeded("requests after the stop", 0)
            client.budget.start()
        except BudgetExceeded:
            self._reply(worker, claim.number, Stopped())
            if not self._closed:
                self._reached()
            return
        self._asking[claim.key] = _Asking(worker, client, tally)
        client.elsewhere += 1
        self.quiet.clear()
        self._reply(worker, claim.number, None)

    def _settle(self, key: str) -> _Asking:
        asked = self._asking.pop(key)
        asked.client.elsewhere -= 1
        if not self._asking:
            self.quiet.set()
        return asked

    def _pass_on(self, asked: _Asking, reply: Reply) -> None:
        """Tell those that wait: ``reply``, or where that is ``None`` what a new claim gets."""
        for worker, claim in asked.waiting:
            if reply is None:
                self._claim(worker, claim)
            else:
                self._models[claim.role].usage.tally(claim.stage, claim.role).shared += 1
                self._reply(worker, claim.number, reply)
