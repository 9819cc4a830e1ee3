"""Several servers of one model behind one role: the least busy answers, and one that fails is left out for a while.

The client above it, and its log, do not know which server answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from if_factory.chat.base import ChatRequest, Completion, ServerGone, Transient
from if_factory.chat.http import OpenAIBackend
from if_factory.errors import UserError

_logger = logging.getLogger(__name__)
_FIRST_REST, _LONGEST_REST = 1.0, 30.0  # seconds that a server is left out; doubled while it goes on failing
# What says something about the server and not about the request.
_OF_THE_SERVER = ("http_429", "http_502", "http_503", "http_504", "connection_lost", "server_restarted", "timeout")


class _Server:
    """One of the servers: its requests in flight, and until when it is left out (``time.monotonic`` seconds)."""

    def __init__(self, backend: OpenAIBackend) -> None:
        self.backend = backend
        self.busy = 0
        self.rest = 0.0
        self.out_until = 0.0
        self.known = False  # what it serves has been compared with the others

    @property
    def usable(self) -> bool:
        return time.monotonic() >= self.out_until

    def leave_out(self, why: str, seconds: float | None = None) -> None:
        if not self.usable:
            return  # requests that were in flight together fail together
        if not self.rest:
            _logger.warning("%s is left out for now (%s); the other servers go on", self.backend.base_url, why)
        self.rest = min(_LONGEST_REST, 2 * self.rest or _FIRST_REST)
        self.out_until = time.monotonic() + (self.rest if seconds is None else min(seconds, _LONGEST_REST))

    def is_back(self) -> None:
        if self.rest:
            _logger.warning("%s answers again", self.backend.base_url)
        self.rest = 0.0


class BalancedBackend:
    """One backend made of several, which must serve the same model.

    Args:
        backends: at least one.
        concurrency: requests in flight at each of them at most.
    """

    def __init__(self, backends: Sequence[OpenAIBackend], concurrency: int) -> None:
        self._servers = [_Server(backend) for backend in backends]
        self._concurrency = concurrency
        self._freed = asyncio.Condition()
        self._identity: dict[str, Any] = {}
        self._first = self._servers[0]
        self.model = backends[0].model
        self.base_url = ", ".join(backend.base_url for backend in backends)

    async def discover(self) -> None:
        """Ask every server for its model; one that is not there is left out and asked again later.

        Raises:
            ServerGone: none of them answers.
            UserError: two of them serve different models.
        """
        found = await asyncio.gather(*(self._look_at(server) for server in self._servers))
        there = [(s, says) for s, says in zip(self._servers, found, strict=True) if says is not None]
        if not there:
            raise ServerGone("no server answers", where=self.base_url, fix="start them, or correct their addresses")
        self._first, said = there[0]
        self.model, self._identity = said
        for server, says in there:
            self._compare(server, says)

    async def chat(self, request: ChatRequest) -> Completion:
        """The answer of the least busy server; of the next where one is gone.

        Raises:
            ServerGone: every server is gone or left out.
            Transient, RequestFailed, UserError: as the server that was asked says.
        """
        gone: list[_Server] = []  # in this request: not asked again, however long a place at another takes
        for _ in self._servers:
            server = await self._take(gone)
            if server is None:
                break
            try:
                if not server.known and (says := await self._look_at(server)) is not None:
                    self._compare(server, says)
                if not server.known:
                    gone.append(server)  # not there yet
                    continue
                completion = await server.backend.chat(request)
            except ServerGone as e:
                server.leave_out(e.problem)
                gone.append(server)
                continue
            except Transient as e:
                if e.reason in _OF_THE_SERVER:
                    server.leave_out(e.reason, e.retry_after)
                if e.reason == "http_429" and any(other.usable for other in self._servers):
                    raise Transient(e.reason, retry_after=0.0) from None  # another one has time at once
                raise
            finally:
                await self._give_back(server)
            server.is_back()
            return completion
        raise ServerGone("no server answers", where=self.base_url, fix="start them again, then run the same command")

    async def identity(self) -> dict[str, Any]:
        """What the servers say their model is; see ``OpenAIBackend.identity``."""
        return self._identity

    async def close(self) -> None:
        for server in self._servers:
            await server.backend.close()

    async def _look_at(self, server: _Server) -> tuple[str, dict[str, Any]] | None:
        try:
            if not server.backend.model:
                await server.backend.discover()
            elif not await server.backend.served_models():
                return server.backend.model, {}  # it has no such list; its name is the recipe's
            return server.backend.model, await server.backend.identity()
        except ServerGone as e:
            server.leave_out(e.problem)
            return None

    def _compare(self, server: _Server, says: tuple[str, dict[str, Any]]) -> None:
        said = (self.model, self._identity)
        if says != said:
            raise UserError(f"{self._first.backend.base_url} serves {_named(said)} and {server.backend.base_url} "
                            f"{_named(says)}", where="endpoint",
                            fix="servers of one role serve one model; give the others roles of their own")
        server.known = True

    async def _take(self, gone: Sequence[_Server] = ()) -> _Server | None:
        """A place at the least busy server but those ``gone``, waited for if all places are taken; ``None`` if all
        are left out."""
        async with self._freed:
            while usable := [server for server in self._servers if server.usable and server not in gone]:
                server = min(usable, key=lambda s: s.busy)
                if server.busy < self._concurrency:
                    server.busy += 1
                    return server
                await self._freed.wait()
        return None

    async def _give_back(self, server: _Server) -> None:
        async with self._freed:
            server.busy -= 1
            self._freed.notify()


def _named(said: tuple[str, dict[str, Any]]) -> str:
    model, more = said
    return f"'{model}'" + (f" ({', '.join(f'{k} {v}' for k, v in more.items())})" if more else "")
