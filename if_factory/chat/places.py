"""Places that requests take, one each, and wait for where there is none."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """``async with places:`` holds one. Those that wait get theirs in the order in which they came.

    An ``asyncio.Semaphore``, but a place is handed to the one that waits: where hundreds of answers arrive together,
    Python 3.11's looks at all whom it has called already each time that it calls another.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._leave()  # it was given a place and was cancelled before it could take it
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
