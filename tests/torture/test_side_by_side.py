"""Two writers, a writer and a reader, a writer and one who removes, in every order that the seeds give (P10): nothing wrong, nothing lost.

``ASYNCDUP_PAIRS`` is the number of seeds of each.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from torture.world import URL, World, registered, tree, weather

import asyncdup
from asyncdup.testing import SlowBackend
from asyncdup.testing.simulation import simulate

PAIRS = int(os.environ.get("ASYNCDUP_PAIRS", "20"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(300, PAIRS))]


async def writer(world: World) -> object:
    return await world.backup("backup")


async def other_writer(world: World) -> object:
    return await world.backup("full", machine="other")


async def reader(world: World) -> object:
    """The newest complete set of some moment."""
    known = list(world.model.values())
    found = await world.restored(beside=True)
    assert found in (None, *known, tree(world.source.root))
    return found


async def remover(world: World) -> object:
    try:
        return await asyncdup.remove_all_but_n_full(URL, 1, world.options(machine="other", force=True))
    except Exception as error:
        return world.refuse(error)


async def cleaner(world: World) -> object:
    try:
        return await asyncdup.cleanup(URL, world.options(machine="other", force=True))
    except Exception as error:
        return world.refuse(error)


Act = Callable[[World], Coroutine[Any, Any, object]]


async def beside(world: World, one: Act, two: Act) -> None:
    with registered(world.backend):
        for action in ("full", "incremental", "full"):
            assert await world.backup(action)
            world.source.change()
        world.backend.inner = SlowBackend(world.backend.inner, latency=0.1, jitter=1.0, rng=world.rng)
        if world.rng.random() < 0.3:
            world.backend.chances = weather(0.05)

        async def later(act: Act) -> object:
            await asyncio.sleep(world.rng.uniform(0, 5))
            return await act(world)

        ended = await asyncio.gather(later(one), later(two))
        world.learn(tree(world.source.root))
        assert any(each is not None for each in ended) or world.backend.chances  # they do not stop each other for ever
        world.backend.heal()
        await world.check_all()
        assert await world.backup() is not None, world.refused[-1]
        await world.check_all([max(world.model)])
        found = await asyncdup.check(URL, world.options(), read_data=True)
        assert not found.damage, found.damage


@pytest.mark.parametrize("two", [other_writer, reader, remover, cleaner])
def test_beside_a_writer(two: Act, folders: Callable[[], Path]) -> None:
    for seed in range(PAIRS):
        simulate(seed, lambda rng: beside(World(folders(), random.Random(rng.random())), writer, two))
