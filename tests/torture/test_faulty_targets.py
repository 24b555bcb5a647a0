"""Whole backups and restores at a target that fails in 1 to 30 % of its calls (M2): what succeeds is right, what fails is said (P1, P3, P11).

``ASYNCDUP_SIMULATIONS`` is the number of seeds; ``ASYNCDUP_SEED=N`` runs the one seed that a failure names.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from torture.world import World, registered, weather

from asyncdup.testing.simulation import simulate

SEEDS = int(os.environ.get("ASYNCDUP_SIMULATIONS", "2000"))
PARTS = 20  # tests, so that several workers take part
ONE = os.environ.get("ASYNCDUP_SEED")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(300, SEEDS))]


async def life(world: World) -> None:
    """A full, increments, and restores of them, each begun anew until it is not refused."""
    with registered(world.backend):
        for number in range(world.rng.randint(1, 3)):
            world.backend.chances = weather(world.rng.uniform(0.01, 0.30))
            await succeeds(world, "full" if number == 0 else world.rng.choice(["incremental", "incremental", "backup"]))
            world.source.change()
        world.backend.chances = weather(world.rng.uniform(0.01, 0.10))
        time = world.rng.choice(list(world.model))
        assert await world.restored(time) in (None, world.model[time])
        world.backend.heal()
        await world.check_all()


async def succeeds(world: World, action: str) -> None:
    """P1, P11: what was refused ends right when it is run again; at the latest when the weather is fine."""
    for _ in range(3):
        if await world.backup(action) is not None:
            return
    world.backend.heal()
    assert await world.backup(action) is not None, world.refused


@pytest.mark.parametrize("part", range(1 if ONE else PARTS))
def test_what_succeeds_is_right_whatever_the_target_does(part: int, folders: Callable[[], Path]) -> None:
    for seed in [int(ONE)] if ONE else range(part, SEEDS, PARTS):
        try:
            simulate(seed, lambda rng: life(World(folders(), rng)))
        except BaseException as error:
            error.add_note(f"ASYNCDUP_SEED={seed} runs this alone")
            raise


def test_a_seed_replays_call_for_call(folders: Callable[[], Path]) -> None:
    """M2: the same calls with the same ends at the same instants."""

    def told(seed: int) -> list[object]:
        calls: list[object] = []

        async def main(rng: random.Random) -> None:
            world = World(folders(), rng)
            await life(world)
            calls.extend(
                (call.verb, call.name, type(call.step), call.began, call.ended, call.outcome, call.bytes) for call in world.backend.calls
            )

        simulate(seed, main)
        return calls

    assert told(5) == told(5)
    assert told(5) != told(6)
