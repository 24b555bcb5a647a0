"""The unplug test on virtual time: the link is away for ten minutes in the middle of an upload (P11, G1-G4, B4).

Beside it stands ``benchmarks/unplug``, with real servers on an emulated link.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import AttemptFinished, AttemptStarted, GateChanged, Progress, RetryScheduled
from asyncdup.testing.faults import Chance, Step, lost, refused
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import RetryPolicy, open_engine

RTT, RATE = 0.1, 2.5e6  # seconds, bytes/s
VOLUME, VOLUMES = 1 << 18, 240  # bytes; 25 s of work
SLOTS = 16
CUT, AWAY = 10.0, 600.0  # seconds


@dataclass
class Cable:
    """Of the far end. ``silent``: what is in flight when it is pulled never hears again; else it is reset. ``notice``: seconds until a new
    connection is given up; 0: no route, which is known at once."""

    silent: bool
    notice: float
    pulled: int = 0  # times
    away: bool = False
    back: float = math.inf

    async def pull(self, seconds: float) -> None:
        self.away, self.pulled = True, self.pulled + 1
        await anyio.sleep(seconds)
        self.away, self.back = False, anyio.current_time()


@dataclass(frozen=True)
class Plugged(Step):
    """One call over the cable."""

    cable: Cable
    pulled: int = field(default=0)

    async def begin(self) -> None:
        if self.cable.away:
            await anyio.sleep(self.cable.notice)
            raise refused()

    async def end(self) -> None:
        await self._still_there()

    async def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            await self._still_there()
            yield chunk

    async def _still_there(self) -> None:
        if self.cable.pulled != self.pulled:
            if self.cable.silent:
                await anyio.sleep_forever()
            raise lost()


@pytest.mark.parametrize(
    ("silent", "notice"),
    [(True, 0.0), (True, 20.0), (False, 0.0), (False, 20.0)],
    ids=["silence, no route", "silence, time-out", "reset, no route", "reset, time-out"],
)
async def test_an_upload_goes_on_by_itself_when_the_link_was_away_for_ten_minutes(log, silent: bool, notice: float) -> None:
    cable = Cable(silent, notice)
    calls = frozenset({"put", "stat"})
    store = MemoryBackend()
    far = FaultyBackend(store, chances=[Chance(1.0, lambda _: Plugged(cable, cable.pulled), calls)])
    backend = SlowBackend(far, latency=RTT, total_rate=RATE)
    bodies = [BytesBody(random.Random(number).randbytes(1024) * (VOLUME // 1024)) for number in range(8)]

    async with open_engine(concurrency=SLOTS, events=log.hub, rng=random.Random(7), memory_bytes=64 << 20) as engine:
        lane = engine.lane(backend)
        async with anyio.create_task_group() as tasks, engine.writer(lane) as writer:
            tasks.start_soon(unplug, cable)
            for number in range(VOLUMES):
                await writer.put(f"v{number:03}", bodies[number % 8], absent=True)

    assert {name: stored.data for name, stored in store.store.items()} == {f"v{n:03}": bodies[n % 8].data for n in range(VOLUMES)}
    twice = sum(call.bytes for call in far.calls if call.verb == "put") - VOLUMES * VOLUME
    assert 0 <= twice <= SLOTS * VOLUME, "no more than the volumes in flight"
    tried = [event for event in log.of(AttemptStarted) if CUT < event.t < cable.back]
    probes = [event for event in log.of(GateChanged) if event.state == "PROBING" and CUT < event.t < cable.back]
    assert 10 < len(probes) <= 60
    assert len(tried) <= len(probes) + SLOTS, "besides what was in flight"
    probe = next(event for event in log.of(AttemptFinished) if event.t > cable.back and event.outcome == "ok")
    assert probe.t - cable.back < 30 + notice + 1
    assert rate(log, probe.t + 3, probe.t + 5) >= 0.9 * rate(log, CUT - 5, CUT), "90 % of the rate within 5 s"


async def test_a_silent_lane_closes_after_its_first_stall_though_every_time_out_is_short(log) -> None:
    """T1, G1: with ``--timeout 15`` a cut of minutes is several stalls long. What was in flight is not begun again one by one."""
    cable = Cable(silent=True, notice=60.0)
    far = FaultyBackend(MemoryBackend(), chances=[Chance(1.0, lambda _: Plugged(cable, cable.pulled), frozenset({"put", "stat"}))])
    body = BytesBody(bytes(VOLUME))
    policy = RetryPolicy(stall_timeout=15.0, response_timeout=30.0)

    async with open_engine(concurrency=SLOTS, events=log.hub, policy=policy, rng=random.Random(7), memory_bytes=64 << 20) as engine:
        lane = engine.lane(SlowBackend(far, latency=RTT, total_rate=RATE))
        async with anyio.create_task_group() as tasks, engine.writer(lane) as writer:
            tasks.start_soon(unplug, cable, 120.0)
            for number in range(VOLUMES):
                await writer.put(f"v{number:03}", body, absent=True)

    tried = [event for event in log.of(AttemptStarted) if CUT < event.t < cable.back]
    assert len(tried) <= 5, "besides what was in flight"
    stalls = [event for event in log.of(RetryScheduled) if CUT < event.t < cable.back]
    assert len(stalls) >= SLOTS, "all of them hung"
    assert stalls[0].t == next(event for event in log.of(GateChanged) if event.state == "BACKOFF").t


async def unplug(cable: Cable, seconds: float = AWAY) -> None:
    await anyio.sleep(CUT)
    await cable.pull(seconds)


def rate(log, start: float, end: float) -> float:
    """Bytes/s that moved between two moments."""
    return sum(event.bytes for event in log.of(Progress) if start < event.t <= end) / (end - start)
