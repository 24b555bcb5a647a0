"""Any order of edits, backups, kills, damage, removals and lost caches (M4): the model is a list of trees (P1-P4, P11, P18, P19).

``ASYNCDUP_EXAMPLES`` is the number of histories.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torture.world import URL, World, registered, tree, weather

import asyncdup
from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.memory import StoredObject
from asyncdup.testing.simulation import simulate

EXAMPLES = int(os.environ.get("ASYNCDUP_EXAMPLES", "200"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(600, 2 * EXAMPLES))]

Doing = tuple[str, int, int]
STEPS = "edit edit edit full incremental incremental backup kill kill restore verify check damage lose prune thin cleanup lose_cache weather two_writers"
histories = st.lists(st.tuples(st.sampled_from(STEPS.split()), st.integers(0, 40), st.integers(0, 1 << 16)), min_size=3, max_size=14)


class History:
    """One step after the other. After each, what must hold of the target holds."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def live(self, steps: list[Doing]) -> None:
        with registered(self.world.backend):
            for name, number, more in steps:
                await getattr(self, name)(number, more)
            self.world.backend.heal()
            assert await self.world.backup() is not None, self.world.refused[-1]
            await self.world.check_all()
            found = await asyncdup.check(URL, self.world.options(), read_data=True)
            assert not found.damage, found.damage
            assert not [name for name in self.world.store if "lock" in name]

    async def edit(self, *_: int) -> None:
        self.world.source.change()

    async def full(self, *_: int) -> None:
        await self.world.backup("full")

    async def incremental(self, *_: int) -> None:
        before = set(self.world.model)
        if await self.world.backup("incremental") is None:
            assert not before or self.world.backend.chances, self.world.refused[-1]

    async def backup(self, *_: int) -> None:
        assert await self.world.backup() is not None or self.world.backend.chances, self.world.refused[-1]

    async def kill(self, number: int, more: int) -> None:
        """P1: what was complete restores, on a new machine."""
        await self.world.killed_backup(number, bool(more % 2), ("backup", "full")[more % 3 == 0])

    async def restore(self, number: int, _: int) -> None:
        times = sorted(self.world.model)
        if times:
            time = times[number % len(times)]
            assert await self.world.restored(time) in (
                (None, self.world.model[time]) if self.world.backend.chances else (self.world.model[time],)
            )

    async def verify(self, *_: int) -> None:
        if self.world.model and not self.world.backend.chances:
            result = await asyncdup.verify(URL, self.world.source.root, self.world.options())
            newest = self.world.model[max(self.world.model)]
            assert bool(result.differences) >= (newest != tree(self.world.source.root))

    async def check(self, *_: int) -> None:
        if self.world.model and not self.world.backend.chances:
            assert not (await asyncdup.check(URL, self.world.options(), read_data=True)).damage

    async def damage(self, number: int, more: int) -> None:
        """P3, P4: a flipped bit; nobody restores anything wrong, and nothing is built upon it. Then the operator puts the object back."""
        await self._without(number, lambda data: data[: (at := more % len(data))] + bytes([data[at] ^ 1 << more % 8]) + data[at + 1 :])

    async def lose(self, number: int, more: int) -> None:
        """A part of an object is gone."""
        await self._without(number, lambda data: data[: more % len(data)])

    async def _without(self, number: int, spoil: Callable[[bytes], bytes]) -> None:
        names = sorted(name for name in self.world.store if "lock" not in name)
        if not names:
            return
        name = names[number % len(names)]
        kept = self.world.store[name]
        data = spoil(kept.data)
        self.world.store[name] = StoredObject(ObjectInfo(name, len(data), kept.info.mtime, {}), data)
        for time in sorted(self.world.model)[-2:]:
            assert await self.world.restored(time) in (None, self.world.model[time]), name
        self.world.store[name] = kept

    async def prune(self, *_: int) -> None:
        await self._removed(asyncdup.remove_all_but_n_full, 1)

    async def thin(self, *_: int) -> None:
        await self._removed(asyncdup.remove_all_inc_of_but_n_full, 1)

    async def _removed(self, command: Callable[..., object], *how: int) -> None:
        newest = max(self.world.model, default=None)
        try:
            await command(URL, *how, self.world.options(force=True))  # type: ignore[misc]
        except Exception as error:
            self.world.refuse(error)
            assert self.world.backend.chances or not self.world.model, error
        self.world.learn({})
        assert newest is None or newest in self.world.model

    async def cleanup(self, *_: int) -> None:
        before = dict(self.world.model)
        await self._removed(asyncdup.cleanup)
        assert self.world.model == before

    async def lose_cache(self, *_: int) -> None:
        shutil.rmtree(self.world.folder / "home" / "c", ignore_errors=True)

    async def weather(self, number: int, _: int) -> None:
        self.world.backend.chances = weather(number / 200) if number % 3 else ()

    async def two_writers(self, *_: int) -> None:
        """P10: another machine begins at the same time with the same source."""
        await asyncio.gather(self.world.backup(), self.world.backup("full", machine="other"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 200)
@given(st.integers(0, 1 << 32), histories)
def test_any_history_ends_right(folders: Callable[[], Path], seed: int, steps: list[Doing]) -> None:
    simulate(seed, lambda rng: History(World(folders(), random.Random(rng.random()))).live(steps))
