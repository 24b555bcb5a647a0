"""Whatever the backend does, seeded: every op ends once, what is stored is right, nothing is held at the end, no bound is passed (P11)."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import BackendError, IntegrityError
from asyncdup.events import AttemptFinished, AttemptStarted, Event, EventHub, OpCancelled, OpFailed, OpQueued, OpSkipped, OpSucceeded
from asyncdup.testing.clock import VirtualLoop
from asyncdup.testing.faults import Chance, Flip, Hang, Raise, Stall, Twice, auth_lost, disk_full, usual_chances
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import Engine, ReadRequest, RetryPolicy, open_engine

ALL = frozenset({"put", "get", "delete", "list", "stat"})
SIZE = 3000


def data_of(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def weather(rng: random.Random) -> tuple[Chance, ...]:
    rate = rng.choice([0.01, 0.1, 0.3])
    return (
        *usual_chances(rate, size=SIZE),
        Chance(rate / 8, lambda _: Hang(), ALL),
        Chance(rate / 8, lambda _: Stall(SIZE // 2), frozenset({"put", "get"})),
        Chance(rate / 8, lambda _: Twice(), frozenset({"put", "delete"})),
        Chance(rate / 20, lambda _: Flip(7), frozenset({"get"})),
        Chance(rate / 20, lambda _: Raise(auth_lost), ALL),
        Chance(rate / 20, lambda _: Raise(disk_full), frozenset({"put"})),
    )


class Day:
    """One backup, restore and clean-up in the weather of ``seed``."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.mode = self.rng.choice(["fail", "wait", "intervention"])
        self.concurrency = self.rng.choice([0, 1, 2, 7])
        self.store = MemoryBackend()
        slow = SlowBackend(self.store, latency=0.1, jitter=1.0, rng=self.rng)
        self.backend = FaultyBackend(slow, chances=weather(self.rng), rng=self.rng)
        self.serial = self.rng.random() < 0.2
        self.backend.supports_concurrency = lambda: not self.serial
        self.events: list[Event] = []
        self.engine: Engine | None = None

    async def main(self) -> None:
        hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
        hub.on_event(self.events.append)
        policy = RetryPolicy(mode=self.mode, max_attempts=self.rng.choice([0, 4]), max_elapsed=self.rng.choice([300, 3000]))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.operator)
                async with open_engine(concurrency=self.concurrency, policy=policy, rng=self.rng, events=hub) as engine:
                    self.engine = engine
                    await self.work(engine)
                tasks.cancel_scope.cancel()
        except* (BackendError, OSError):
            assert self.mode == "fail"
        self.check()

    async def operator(self) -> None:
        while True:
            await anyio.sleep(self.rng.uniform(1, 500))
            if self.engine is not None:
                self.engine.resume()

    async def work(self, engine: Engine) -> None:
        lane = engine.lane(self.backend)
        async with engine.writer(lane) as writer:
            volumes = [await writer.put(f"v{number}", BytesBody(data_of(number))) for number in range(15)]
            await writer.put("manifest", BytesBody(b"m"), after=volumes, metadata=True)
        assert len(await engine.list(lane)) == 16
        requests = [ReadRequest(f"v{n}", SIZE, {"sha1": hashlib.sha1(data_of(n)).hexdigest()}) for n in range(15)]
        try:
            async with engine.read_ordered(lane, requests) as items:
                assert [item.path.read_bytes() async for item in items] == [data_of(number) for number in range(15)]
        except IntegrityError:
            assert self.rng  # three flipped fetches in a row: rare, and rightly an error
        for number in range(15):
            await engine.submit(lane, "delete", f"v{number}")

    def check(self) -> None:
        assert self.engine is not None
        lane = self.engine.lane(self.backend)
        statistics = self.engine.statistics()
        assert lane.gate.running == lane.gate.waiting == lane.backlog.held == statistics.memory == statistics.spool_files == 0
        assert self.backend.most_at_once <= (1 if self.serial else max(1, self.concurrency))
        assert all(stored.data == (b"m" if name == "manifest" else data_of(int(name[1:]))) for name, stored in self.store.store.items())
        for starts, ends in [(AttemptStarted, AttemptFinished), (OpQueued, (OpSucceeded, OpFailed, OpSkipped, OpCancelled))]:
            begun = Counter((e.op, e.attempt) for e in self.events if isinstance(e, starts))
            assert begun == Counter((e.op, e.attempt) for e in self.events if isinstance(e, ends))
        manifest = [call for call in self.backend.calls if call.name == "manifest"]
        if manifest:
            assert all(call.ended <= manifest[0].began for call in self.backend.calls if call.verb == "put" and call.name != "manifest")


@pytest.mark.parametrize("seed", range(25))
def test_a_day_in_any_weather_ends_right(seed: int) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(Day(seed).main())
