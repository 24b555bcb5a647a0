"""Every object fails in turn, without a crash (issue 7): what is put, the manifest included, and what is read. P1, P3, P6, P11."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torture.world import World, registered, tree

import asyncdup
from asyncdup.errors import PermanentError, RetryableError
from asyncdup.testing.faults import Cut, Flip, LostAck, Raise, Step, Truncate, auth_lost, disk_full, refused
from asyncdup.testing.simulation import simulate

PUTS = {
    "no connection": Raise(refused),
    "no rights": Raise(auth_lost),
    "no room": Raise(disk_full),
    "refused for good": Raise(lambda: PermanentError("the server says no")),
    "every answer is lost": LostAck(),
    "lost in the middle": Cut(300),
    "stored with another byte": Flip(40),
}
GETS = {
    "no connection": Raise(refused),
    "gone": Raise(lambda: asyncdup.NotFound("it is not there")),
    "lost in the middle": Cut(100),
    "cut": Truncate(100),
    "with another byte": Flip(40),
    "garbled answers": Raise(lambda: RetryableError("no answer that makes sense")),
}
OBJECTS = ("vol1.difftar", "vol2.difftar", "vol3.difftar", "vol4.difftar", "vol5.difftar", "sigtar", "manifest")

pytestmark = pytest.mark.slow


@contextmanager
def broken(world: World, verb: str, part: str, step: Step) -> Iterator[None]:
    """Each call of ``verb`` for the object fails in this way, however often it is made."""

    class Backend(type(world.backend)):  # type: ignore[misc]
        def _next_step(self, called: str, name: str) -> Step:
            return step if called == verb and part in name and "lock" not in name else super()._next_step(called, name)

    usual = world.backend.__class__
    world.backend.__class__ = Backend
    try:
        yield
    finally:
        world.backend.__class__ = usual


def five_volumes(world: World) -> None:
    for number in range(5):
        path = world.source.root / f"file{number}"
        path.write_bytes(random.Random(number).randbytes(120_000))


async def a_put_fails(world: World, action: str, part: str, step: Step) -> bool:
    """Whether the fault was met."""
    five_volumes(world)
    with registered(world.backend):
        if action == "incremental":
            assert await world.backup("full")
            for path in world.source.root.glob("file*"):
                path.write_bytes(random.Random(path.name).randbytes(121_000))
        older = dict(world.model)
        calls = len(world.backend.calls)
        with broken(world, "put", part, step):
            done = await world.backup(action)
        met = any(call.step is step for call in world.backend.calls[calls:])
        if done is None and world.model == older:  # loud, and the older chain is as it was
            await world.check_all(older)
            assert await world.restored() == (older[max(older)] if older else None)
        again = await world.backup(action)  # resumable
        assert again is not None, world.refused[-1]
        assert world.model[again.set_id.end] == tree(world.source.root)
        await world.check_all()
    if met and not isinstance(step, LostAck):  # a lost answer that reconciliation finds is no loss
        assert done is None, part
    return met


@pytest.mark.parametrize("action", ["full", "incremental"])
@pytest.mark.parametrize("way", PUTS)
def test_no_object_that_cannot_be_stored_costs_more_than_the_run(way: str, action: str, folders: Callable[[], Path]) -> None:
    """Loud, the older chain restores at once on a new machine, and the same command ends right afterwards."""
    for part in OBJECTS:
        met = simulate(7, lambda rng, part=part: a_put_fails(World(folders(), rng), action, part, PUTS[way]))
        assert met, part


async def a_get_fails(world: World, part: str, step: Step) -> bool:
    five_volumes(world)
    with registered(world.backend):
        assert await world.backup("full")
        (world.source.root / "file1").write_bytes(b"changed")
        assert await world.backup("incremental")
        calls = len(world.backend.calls)
        with broken(world, "get", part, step):
            found = await world.restored(max(world.model))
            met = any(call.step is step for call in world.backend.calls[calls:])
            assert found in (None, world.model[max(world.model)])
            assert found is None or not met or part == "manifest" or isinstance(step, Cut)  # which goes on behind what has come
            await lost_cache(world)
            before = dict(world.store)
            if await world.backup("incremental") is None:
                assert "vol" not in part and dict(world.store) == before  # nothing was written on what could not be read
            met = met or any(call.step is step for call in world.backend.calls[calls:])
        await world.check_all()
    return met


async def lost_cache(world: World) -> None:
    for path in (world.folder / "home" / "c").iterdir():
        path.unlink()


@pytest.mark.parametrize("way", GETS)
def test_no_object_that_cannot_be_read_is_passed_over(way: str, folders: Callable[[], Path]) -> None:
    """P3: the restore is refused and all that it wrote is right; an increment that needs it writes nothing."""
    for part in OBJECTS:
        met = simulate(7, lambda rng, part=part: a_get_fails(World(folders(), rng), part, GETS[way]))
        assert met, part
