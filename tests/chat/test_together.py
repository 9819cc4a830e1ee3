"""Many requests at once: their order, and the one error that is seen."""

import asyncio

import pytest

from if_factory.chat.together import together
from if_factory.errors import UserError


async def test_results_are_in_the_order_asked_for_whichever_comes_first() -> None:
    async def one(n: int) -> int:
        await asyncio.sleep(0.001 * (3 - n))
        return n

    assert await together(map(one, range(3))) == [0, 1, 2]
    assert await together([]) == []


async def test_the_first_error_is_raised_as_itself_and_ends_the_others() -> None:
    ended: list[int] = []

    async def one(n: int) -> None:
        if n == 1:
            raise UserError("no server")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(n)

    with pytest.raises(UserError, match="no server"):
        await together(map(one, range(3)))
    assert sorted(ended) == [0, 2]
