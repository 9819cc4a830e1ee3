"""A role's model: one method, ``chat``, that answers from the log or asks once and remembers.

It knows retries, concurrency, budget and usage; it does not know HTTP (see ``http.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from if_factory.chat.base import Backend, ChatRequest, Completion, RequestFailed, ServerGone, Transient
from if_factory.chat.budget import Budget, Price, Tally, Usage
from if_factory.chat.log import ResponseLog
from if_factory.chat.places import Places
from if_factory.chat.replies import without_reasoning
from if_factory.errors import UserError

_logger = logging.getLogger(__name__)
_LONGEST_WAIT = 300.0  # seconds between two tries, whatever the server asks for
_TRUSTED = 3  # times that a server asks a request to wait before it gets longer than it asked for
_PATIENCE = 900.0  # seconds a request waits in all, where the server limits the rate
_LOST_IN_A_ROW = 20  # requests lost or refused, and none answered, before the run stops
# Reasons that lie in one prompt: a file may well begin with many long ones.
_OF_THE_PROMPT = ("context_too_long", "content_filter")
# The server may be starting again.
_GATEWAY = ("http_502", "http_503", "http_504", "connection_lost", "server_gone")


@runtime_checkable
class DiscoversModel(Protocol):
    """A backend that may not know its model's name yet (``model == ""``) and can ask its server."""

    async def discover(self) -> None: ...


@runtime_checkable
class TellsIdentity(Protocol):
    """A backend whose server may say what its model is, beyond the name."""

    async def identity(self) -> dict[str, Any]: ...


class ChatClient:
    """The model that plays one role.

    Args:
        role: ``student``, ``teacher``, ``judge``...
        log: where answers are kept; ``None`` keeps nothing.
        concurrency: requests in flight at most. A request that waits for its retry is not in flight.
        seed: with ``sample`` decides the seed sent to the server.
        retries: further tries after one that failed in passing (5xx, timeout, dropped, garbage). Being told
            to wait (429) is no failure: it is waited out, for 15 minutes a request at most.
        price: USD per million tokens; ``None`` is unknown, and then a budget in USD is a ``UserError``.
        outage: seconds to wait for a server that answered before and is gone; requests that wait cost nothing.
        extra_body: more fields of every request.
    """

    defers = False  # whether requests without an answer are put off (``Deferred``) instead of asked

    def __init__(self, role: str, backend: Backend, *, log: ResponseLog | None, budget: Budget, usage: Usage,
                 concurrency: int = 64, temperature: float | None = 0.7, top_p: float | None = 1.0,
                 max_tokens: int | None = 1024, seed: int = 0, retries: int = 6, price: Price | None = None,
                 outage: float = 0, extra_body: dict[str, Any] | None = None) -> None:
        if budget.max_usd is not None and price is None:
            raise UserError(f"the budget is in USD but the price of the {role}'s model is unknown",
                            where="max_usd", fix="give the role's price per million prompt and completion "
                            "tokens (0 and 0 for a local model), or limit requests or tokens instead")
        self.role = role
        self.backend = backend
        self.log = log
        self.budget = budget
        self.usage = usage
        self.price = price
        self.seed = seed
        self.retries = retries
        self.concurrency = concurrency
        self.outage = outage
        self.extra_body = extra_body or None
        self.sampling = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        self.elsewhere = 0  # requests that workers in other processes have in flight
        self._slots = Places(concurrency)
        self._in_flight: dict[str, asyncio.Future[Completion]] = {}
        self._lost_in_a_row = 0
        self._answered = False
        self._gone_since: float | None = None
        self._identity: asyncio.Task[None] | None = None
        self._compared = asyncio.Event()

    async def chat(self, messages: Sequence[dict[str, str]], *, stage: str, sample: int = 0,
                   schema: dict[str, Any] | None = None, stop: Sequence[str] = (),
                   **sampling: Any) -> Completion:
        """The answer to ``messages``; equal requests with equal ``sample`` get equal answers.

        Args:
            sampling: overrides of the role's ``temperature``, ``top_p`` and ``max_tokens``.

        Raises:
            RequestFailed: no usable answer after all retries.
            BudgetExceeded: the request was not sent.
            UserError: no request can succeed (wrong key, no server, full disk, nothing but faults).
        """
        if not self.backend.model and isinstance(self.backend, DiscoversModel):
            await self.backend.discover()
        request = ChatRequest(model=self.backend.model, messages=tuple(messages), sample=sample, schema=schema,
                              stop=tuple(stop), seed=_sent_seed(self.seed, sample), extra_body=self.extra_body,
                              **{**self.sampling, **sampling})
        key = request.key()
        tally = self.usage.tally(stage, self.role)
        if "max_tokens" in sampling:
            self.usage.own_limits.add((stage, self.role))
        if (logged := self.replay(key, tally)) is not None:
            return logged
        while (asked := self._in_flight.get(key)) is not None:
            await asyncio.wait([asked])
            if not asked.cancelled():  # else whoever asked was cancelled, and we ask ourselves
                tally.shared += 1
                return asked.result()
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._in_flight[key] = answer
        try:
            completion = await self._ask(request, key, stage, tally)
        except Exception as e:
            answer.set_exception(e)
            answer.exception()  # marks it as seen: often nobody else waits
            raise
        else:
            answer.set_result(completion)
            return completion
        finally:
            answer.cancel()
            del self._in_flight[key]

    @property
    def in_flight(self) -> int:
        """Requests asked and not yet answered, those that wait for a place at the endpoint included."""
        return len(self._in_flight) + self.elsewhere

    async def close(self) -> None:
        if self._identity is not None:
            self._identity.cancel()
        await self.backend.close()

    def replay(self, key: str, tally: Tally) -> Completion | None:
        """The logged answer, if there is one; counted in ``tally`` as replayed, or as shared from its second use on."""
        if self.log is None or (completion := self.log.get(key)) is None:
            return None
        if self.log.first_use(key):
            usd = self.price.of(completion) if self.price else None
            tally.replayed += 1
            tally.add(completion, usd)
            self.budget.replay(completion, usd)
        else:
            tally.shared += 1
        return completion

    def count(self, completion: Completion, tally: Tally) -> None:
        """Account for an answer that a server has just given."""
        usd = self.price.of(completion) if self.price else None
        tally.requests += 1
        tally.add(completion, usd)
        self.budget.finish(completion, usd)

    async def _ask(self, request: ChatRequest, key: str, stage: str, tally: Tally) -> Completion:
        try:
            async with self._slots:
                await self.same_model()
                self.budget.start()
                began = time.monotonic()
                try:
                    completion = await self.backend.chat(request)
                    failure = None
                except Transient as e:
                    failure = e
                except ServerGone as e:
                    failure = self._wait_for_server(e, began)
            if failure is not None:
                completion = await self._ask_again(request, failure, tally)
        except RequestFailed as e:
            tally.failed += 1
            self.usage.failures[e.reason] += 1
            self.budget.fail()
            self._count_loss(e)
            raise
        self._lost_in_a_row = 0
        self._server_is_there()
        completion = without_reasoning(completion)
        self.count(completion, tally)
        # An empty answer is no answer: it is not kept, and another run asks again.
        if self.log is not None and completion.text.strip():
            # Another role with the same model may have asked the same: the first answer holds for both.
            if (first := self.log.get(key)) is not None:
                return first
            self.log.put(key, request, completion, stage)
        return completion

    async def _ask_again(self, request: ChatRequest, failure: Transient, tally: Tally) -> Completion:
        """Retry after a first failed try; the slot is free for others while this request waits."""
        # Imported and built only here: on the way of every request it would be the largest cost.
        from tenacity import AsyncRetrying, retry_if_exception_type

        seen: Transient | None = failure
        faults = 0
        met: Counter[str] = Counter()
        began = time.monotonic()

        async def attempt() -> Completion:
            nonlocal seen, faults
            try:
                if seen is not None:
                    raise seen
                async with self._slots:
                    self.budget.check_open()
                    tally.retries += 1
                    try:
                        return await self.backend.chat(request)
                    except ServerGone as e:
                        raise self._wait_for_server(e, began) from None
            except Transient as e:
                seen = None
                met[e.reason] += 1
                waits = _told_to_wait(e) or (e.reason in _GATEWAY and self._answered
                                             and time.monotonic() - began < self.outage)
                faults += not waits
                raise

        def stop(state: Any) -> bool:
            return faults > self.retries or bool(state.idle_for >= max(_PATIENCE, self.outage))

        def wait(state: Any) -> float:
            last: Transient = state.outcome.exception()
            return _wait(last, met[last.reason])

        async def sleep(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):  # a run that is stopping does not wait for it
                await asyncio.wait_for(self.budget.closed.wait(), seconds)

        retrying = AsyncRetrying(retry=retry_if_exception_type(Transient), stop=stop, sleep=sleep, reraise=True,
                                 wait=wait)
        try:
            return await retrying(attempt)
        except Transient as e:
            raise RequestFailed(e.reason) from None

    def _count_loss(self, failure: RequestFailed) -> None:
        """Raises ``UserError`` when requests are lost or refused one after the other and none is answered."""
        if failure.reason in _OF_THE_PROMPT:
            return
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _LOST_IN_A_ROW:
            raise UserError(f"the {self.role}'s server answers no request ({failure.reason})",
                            where=self.backend.model, fix="look at its message above, into its own log and at the "
                            "model's keys in the recipe, then run the same command again; answers so far are kept"
                            ) from None

    # ------------------------------------------------------------ a server that is gone, or another one

    def _wait_for_server(self, gone: ServerGone, since: float) -> Transient:
        """A reason to try again later, if the server answered before; else, and after ``outage`` s, ``gone``."""
        if not self._answered or time.monotonic() - since >= self.outage:
            raise gone
        if self._gone_since is None:
            self._gone_since = time.monotonic()
            _logger.warning("%s (%s): waiting up to %g s for it to come back (`wait_for_server`)",
                            gone.problem, gone.where, self.outage)
        return Transient("server_gone", retry_after=min(5.0, self.outage / 10))

    def _server_is_there(self) -> None:
        self._answered = True
        if self._gone_since is not None:
            _logger.warning("the %s's server is back after %.0f s", self.role, time.monotonic() - self._gone_since)
            self._gone_since = None

    async def same_model(self) -> None:
        """Before the first request: the log must not hold answers of another model under the same name.

        Raises:
            UserError: it does.
        """
        if self._identity is None:
            # Looked at once: `isinstance` with a protocol takes as long as writing the answer down.
            if self.log is None or not isinstance(self.backend, TellsIdentity):
                return
            self._identity = asyncio.create_task(self._compare(self.log, self.backend))
            self._identity.add_done_callback(lambda _: self._compared.set())
        if not self._identity.done():
            await self._compared.wait()
        self._identity.result()

    async def _compare(self, log: ResponseLog, backend: TellsIdentity) -> None:
        log.claim_model(self.backend.model, await backend.identity())


def _told_to_wait(failure: Transient) -> bool:
    return failure.reason in ("http_429", "server_restarted") or failure.retry_after is not None


def _wait(failure: Transient, times: int) -> float:
    """Seconds before the next try, after as many failures of this kind: what the server asked for, else exponential
    with jitter. One that asks for too little again and again is given more."""
    if failure.retry_after is None:
        return _own_wait(times)
    asked = min(failure.retry_after, _LONGEST_WAIT)
    return max(_own_wait(times - _TRUSTED), asked + random.uniform(0, 0.1 * asked + 0.05))


def _own_wait(times: int) -> float:
    return random.uniform(0.1, min(0.25 * 2.0 ** max(1, times), 30.0))


@lru_cache(maxsize=1024)
def _sent_seed(seed: int, sample: int) -> int:
    """31 bits: the widest seed that every server takes. Hashed, so seeds 0 and 1 share no sample."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{sample}".encode(), digest_size=4).digest()) >> 1
