"""Cancelled at any turn of the loop, nothing is left: no task, file, slot, place or flag, and no attempt starts afterwards (C5, O5, G9)."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    EpisodeClosed,
    EpisodeOpened,
    EventHub,
    OpCancelled,
    OpFailed,
    OpQueued,
    OpSkipped,
)
from asyncdup.events import OpSucceeded as Succeeded
from asyncdup.testing.clock import VirtualLoop
from asyncdup.testing.faults import Cut, Flip, LostAck, Raise, auth_lost, refused
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import Engine, Intervention, ReadRequest, RetryPolicy, open_engine

DATA = bytes(range(200))
SHA1 = hashlib.sha1(DATA).hexdigest()


class CountingLoop(VirtualLoop):
    """Cancels ``scope`` at its turn ``last``."""

    def __init__(self, last: int) -> None:
        self.turns = 0
        self.last = last
        self.scope: anyio.CancelScope | None = None
        super().__init__()

    def _run_once(self) -> None:
        if self.scope is not None:
            self.turns += 1
            if self.turns == self.last:
                self.call_soon(self.scope.cancel)
        super()._run_once()


class Run:
    """A little backup and restore with one of each trouble, and what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flag = folder / "flag"
        self.backend = FaultyBackend(SlowBackend(MemoryBackend(), latency=0.5))
        self.events: list[object] = []
        self.engine: Engine | None = None
        self.cancelled_at: float | None = None

    async def backup(self) -> None:
        hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
        hub.on_event(self.events.append)
        policy = RetryPolicy(mode="intervention", max_attempts=3)
        options = {"policy": policy, "spool_dir": self.folder, "events": hub, "rng": random.Random(5)}
        async with open_engine(concurrency=2, intervention=Intervention(flag=self.flag), **options) as engine:
            self.engine = engine
            lane = engine.lane(self.backend)
            async with engine.writer(lane) as writer:
                ops = []
                for number in range(3):
                    file = await engine.spool.new(200)
                    file.path.write_bytes(DATA)
                    ops.append(await writer.put(f"v{number}", file.seal(200, {"sha1": SHA1}), on_stored=self.note))
                await writer.put("manifest", BytesBody(b"m"), after=ops)
            async with engine.read_ordered(lane, [ReadRequest(f"v{number}", 200, {"sha1": SHA1}) for number in range(3)]) as items:
                async for item in items:
                    assert item.path.read_bytes() == DATA
            await engine.list(lane)

    async def note(self, info: object) -> None:
        await anyio.sleep(0.01)

    async def operator(self) -> None:
        while True:
            await anyio.sleep(2)
            if self.flag.exists():
                self.flag.write_text("resume")

    async def main(self, loop: CountingLoop) -> None:
        self.backend.script("put", Raise(refused), LostAck(), Raise(auth_lost))
        self.backend.script("get", Cut(100), Flip(3))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.operator)
                loop.scope = scope
                await self.backup()
                loop.scope = None
                tasks.cancel_scope.cancel()
        loop.scope = None
        if scope.cancelled_caught:
            self.check_calls()
        assert len(asyncio.all_tasks()) == 1
        self.check()

    def check_calls(self) -> None:
        assert all(call.outcome != "running" for call in self.backend.calls)

    def check(self) -> None:
        assert list(self.folder.iterdir()) == []
        if self.engine is not None:
            for lane in self.engine._lanes.values():
                assert lane.gate.running == lane.gate.waiting == lane.backlog.held == 0
            statistics = self.engine.statistics()
            assert statistics.memory == statistics.spool_files == 0
        assert all(stored.data in (DATA, b"m") for stored in self.backend.inner.inner.store.values())
        for starts, ends in [
            (AttemptStarted, AttemptFinished),
            (EpisodeOpened, EpisodeClosed),
            (OpQueued, (Succeeded, OpFailed, OpSkipped, OpCancelled)),
        ]:
            begun = Counter((e.op, e.attempt) for e in self.events if isinstance(e, starts))
            assert begun == Counter((e.op, e.attempt) for e in self.events if isinstance(e, ends)), starts


def run(folder: Path, stop: int, seen: Counter[str] | None = None) -> int:
    """Run it all, cancelled at turn ``stop``; how many turns there were. ``seen`` counts the events."""
    folder.mkdir()
    case = Run(folder)
    loops: list[CountingLoop] = []

    def factory() -> CountingLoop:
        loops.append(CountingLoop(stop))
        return loops[-1]

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop()
        runner.run(case.main(loops[0]))
    if seen is not None:
        seen.update(type(event).__name__ for event in case.events)
    return loops[0].turns


@pytest.mark.slow
def test_without_a_cancel_it_meets_every_trouble_and_ends_well(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    assert run(tmp_path / "run", -1, seen) > 150
    assert seen["OpSucceeded"] == 8 and seen["EpisodeClosed"] == 1 and seen["Reconciled"] == 1 and seen["RetryScheduled"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("start", range(6))
def test_cancelled_at_any_turn_nothing_is_left(tmp_path: Path, start: int) -> None:
    stop = start + 1
    while run(tmp_path / f"run{stop}", stop) >= stop:
        stop += 6
    assert stop > 150
