from __future__ import annotations

import asyncio

import pytest

from if_factory.chat.places import Places


async def test_no_more_are_inside_than_there_are_places_and_they_come_in_turn() -> None:
    places, inside, most, order = Places(3), 0, 0, []

    async def visit(i: int) -> None:
        nonlocal inside, most
        async with places:
            order.append(i)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001 * (i % 3))
            inside -= 1

    await asyncio.gather(*(visit(i) for i in range(30)))
    assert (most, inside, order) == (3, 0, list(range(30)))


async def test_a_place_is_free_again_after_an_error() -> None:
    places = Places(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with places:
                raise ZeroDivisionError
    async with asyncio.timeout(1), places:
        pass


async def test_one_that_gives_up_waiting_takes_no_place_even_in_the_moment_in_which_it_gets_one() -> None:
    places = Places(1)

    async def visit() -> None:
        async with places:
            await asyncio.sleep(0)

    for moment in range(6):
        async with places:
            waiting = [asyncio.create_task(visit()) for _ in range(3)]
            await asyncio.sleep(0)
            if moment % 2:
                waiting[0].cancel()
        if not moment % 2:
            waiting[0].cancel()  # it has been given the place and has not yet taken it
        await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [True, False, False]
        async with asyncio.timeout(1), places:
            pass
