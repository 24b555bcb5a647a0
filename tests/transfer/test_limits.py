"""Bounds in themselves: all or nothing, first come first served, and nothing left by a cancelled wait (S2-S4)."""

from __future__ import annotations

import random

import anyio
import pytest

from asyncdup.errors import Drained
from asyncdup.transfer.limits import Memory, Place, Room


def room(**options: int) -> Room:
    return Room("spool", emit=lambda event: None, **options)


async def test_first_come_first_served_even_if_a_later_one_would_fit() -> None:
    bound = room(size=10)
    order: list[str] = []
    first = await bound.take(8)

    async def take(name: str, size: int, delay: float) -> None:
        await anyio.sleep(delay)
        place = await bound.take(size)
        order.append(name)
        await anyio.sleep(1)
        bound.give(place)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, "large", 9, 0.1)
        tasks.start_soon(take, "small", 1, 0.2)
        await anyio.sleep(5)
        assert order == []
        bound.give(first)
        bound.give(first)

    assert order == ["large", "small"] and bound.used == 0


async def test_a_cancelled_wait_leaves_its_turn_to_the_next() -> None:
    bound = room(items=1)
    first = await bound.take(1)
    got: list[Place] = []

    async def patient() -> None:
        got.append(await bound.take(1))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(1):
            await bound.take(100)
        tasks.start_soon(patient)
        await anyio.sleep(1)
        bound.give(first)

    assert got and bound.held == 1


async def test_a_place_given_in_the_turn_of_the_cancel_is_given_back() -> None:
    bound = room(items=1)
    first = await bound.take(1)

    async with anyio.create_task_group() as tasks:

        async def waits() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await bound.take(1)

        scopes: list[anyio.CancelScope] = []
        tasks.start_soon(waits)
        await anyio.sleep(1)
        bound.give(first)
        scopes[0].cancel()

    assert bound.held == 0


async def test_closing_refuses_those_who_wait_and_those_who_come() -> None:
    bound = room(items=1)
    await bound.take(1)
    refused: list[str] = []

    async def take() -> None:
        with pytest.raises(Drained):
            await bound.take(1)
        refused.append("x")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.sleep(1)
        bound.close(Drained())
        tasks.start_soon(take)

    assert len(refused) == 2


async def test_the_true_size_counts_once_it_is_known() -> None:
    bound = room(size=100)
    place = await bound.take(90)
    bound.resize(place, 10)
    await bound.take(90)

    assert bound.used == 100


def test_s3_what_does_not_fit_is_not_overtaken_by_other_lanes() -> None:
    memory = Memory(100)
    reviews: list[str] = []
    memory.on_room("a", lambda: reviews.append("a"))
    assert memory.take(60, "a") and not memory.take(60, "b")
    assert not memory.take(10, "a"), "b comes first"
    assert memory.take(10, "b") and memory.take(10, "a")
    memory.give(60)
    assert memory.used == 20 and reviews == ["a"]


def test_s3_a_lane_that_no_longer_wants_bytes_holds_nobody_up() -> None:
    memory = Memory(100)
    assert memory.take(60, "a") and not memory.take(60, "b")
    memory.withdraw("b")
    assert memory.take(40, "a") and memory.take(0, "b")


@pytest.mark.parametrize("seed", range(5))
async def test_bounds_hold_for_any_crowd(seed: int) -> None:
    rng = random.Random(seed)
    bound = room(items=4, size=100)
    most = [0, 0]

    async def visitor() -> None:
        await anyio.sleep(rng.uniform(0, 20))
        with anyio.move_on_after(rng.choice([1, 5, 1000])):
            place = await bound.take(rng.randrange(60))
            try:
                most[0], most[1] = max(most[0], bound.held), max(most[1], bound.used)
                await anyio.sleep(rng.uniform(0, 3))
            finally:
                bound.give(place)

    async with anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(visitor)

    assert most[0] == 4 and most[1] <= 100 and bound.held == 0
