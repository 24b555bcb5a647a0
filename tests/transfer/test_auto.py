"""``--concurrency auto`` in a running engine, on virtual time: it finds the number, gives way, and can be switched (A1-A7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest

from asyncdup.backends.base import Backend
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import LimitChanged
from asyncdup.testing.faults import Raise, throttled
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import ReadRequest, open_engine, spool
from asyncdup.transfer.adaptive import FROM_STORE, MOST, START

MIB = 1 << 20
SECONDS = 90  # that a link is driven for
SETTLED = 40  # seconds, after which it should have found the number

LINKS = {  # latency s, bytes/s of one stream, of all
    "near, one stream is enough": (0.005, None, 4 * MIB),
    "six streams fill it": (0.1, MIB // 2, 3 * MIB),
    "20 streams fill it": (0.2, MIB // 4, 5 * MIB),
    "very far": (0.6, MIB // 4, 3 * MIB),
}


class Pieces:
    """A body of ``size`` zeros in chunks, as a file's come."""

    digests: Mapping[str, str] = {}

    def __init__(self, size: int) -> None:
        self.size = size

    @asynccontextmanager
    async def open(self, start: int = 0) -> AsyncGenerator[AsyncIterator[bytes], None]:
        yield self._chunks(self.size - start)

    async def _chunks(self, left: int) -> AsyncGenerator[bytes, None]:
        for begin in range(0, left, 1 << 17):
            yield bytes(min(1 << 17, left - begin))


async def drive(backend: SlowBackend, concurrency: int | str, log, *, size: int = MIB, down: bool = False) -> float:
    """Bytes/s after the first seconds, of transfers that never run out."""
    body = Pieces(size)
    if down:
        await backend.inner.put("x", body)
    moved: Counter[bool] = Counter()

    async with open_engine(concurrency=concurrency, events=log.hub, memory_bytes=1 << 30) as engine:  # type: ignore[arg-type]
        lane = engine.lane(backend)

        async def keep_on(number: int) -> None:
            while anyio.current_time() < SECONDS:
                await (engine.run(lane, "get", "x") if down else engine.run(lane, "put", f"{number}", body))
                moved[SETTLED < anyio.current_time() <= SECONDS] += size

        async with anyio.create_task_group() as tasks:
            for number in range(64):
                tasks.start_soon(keep_on, number)
    return moved[True] / (SECONDS - SETTLED)


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("link", LINKS)
async def test_a1_auto_moves_nine_tenths_of_what_the_best_fixed_number_does(link: str, down: bool, log) -> None:
    latency, rate, total = LINKS[link]
    goodput = await drive(SlowBackend(MemoryBackend(), latency=latency, rate=rate, total_rate=total), "auto", log, down=down)

    assert goodput >= 0.9 * total, f"{goodput / total:.2f} of the link, and no fixed number moves more than all of it"
    assert all(event.why for event in log.of(LimitChanged))


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
async def test_a2_small_objects_are_many_at_once_from_the_beginning(down: bool, log) -> None:
    """500 of 64 KiB at 100 ms: with eight at once they would take twice as long. Those to be fetched are of unknown size until some are here."""
    backend = SlowBackend(MemoryBackend(), latency=0.1)
    names = [f"{number:03}" for number in range(500)]
    for name in names if down else ():
        await backend.inner.put(name, Pieces(64 << 10))

    begin = anyio.current_time()
    async with open_engine(concurrency="auto", events=log.hub) as engine:
        lane = engine.lane(backend)
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(engine.run, lane, "get" if down else "put", name, None if down else Pieces(64 << 10))
    assert anyio.current_time() - begin < 0.1 * (500 / 32 + 6)
    assert log.of(LimitChanged)[1].why == "auto: the size of the objects"


async def test_a2_large_objects_behind_small_ones_are_few_at_once_again(log) -> None:
    """The small metadata of a long chain must not bring on that many volumes."""
    async with open_engine(concurrency="auto", events=log.hub) as engine:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=0.1))
        for size in [1000] * 10 + [MIB] * 10:
            await engine.submit(lane, "put", f"{size} {anyio.current_time()}", Pieces(size))
            await anyio.sleep(0.01)
    assert [event.new for event in log.of(LimitChanged)] == [START, MOST, START]


@pytest.mark.parametrize(
    ("backend", "start"), [(MemoryBackend(), FROM_STORE), (SlowBackend(MemoryBackend()), START)], ids=["store", "other"]
)
async def test_a2_from_an_object_store_there_are_more_at_once(backend: Backend, start: int, log) -> None:
    async with open_engine(concurrency="auto", events=log.hub) as engine:
        lane = engine.lane(backend)
        for number in range(4):
            await engine.run(lane, "put", f"{number}", Pieces(MIB))
        assert lane.concurrency == START
        async with engine.read_ordered(lane, [ReadRequest(f"{number}", MIB) for number in range(4)]) as items:
            assert [item.name async for item in items] == ["0", "1", "2", "3"]
        assert lane.concurrency == start


async def test_s4_the_spool_is_bounded_in_bytes_too_where_nobody_gave_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SHARE", 10)
    async with open_engine() as engine:
        (await engine.spool.new(6)).seal(6, {})
        with anyio.move_on_after(1) as waiting:
            await engine.spool.new(6)
        assert waiting.cancelled_caught
        engine.set_concurrency(START)
        (await engine.spool.new(6)).seal(6, {})
        engine.set_concurrency("auto")
        with anyio.move_on_after(1) as waiting:
            await engine.spool.new(6)
        assert waiting.cancelled_caught


async def test_an_idle_lane_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    sleep_until = anyio.sleep_until

    async def counted(deadline: float) -> None:
        looks.append(deadline)
        await sleep_until(deadline)

    monkeypatch.setattr(anyio, "sleep_until", counted)
    async with open_engine() as engine:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=0.5))
        await anyio.sleep(3600)
        assert not looks
        await engine.run(lane, "put", "a", BytesBody(b"x"))
        await anyio.sleep(3600)
        assert 0 < len(looks) <= 25


async def test_a6_a_slow_producer_proves_nothing(log) -> None:
    """One object a second: in flight is never half of the limit, so it stays."""
    async with open_engine(concurrency="auto", events=log.hub) as engine:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=0.05))
        for number in range(60):
            await engine.submit(lane, "put", f"{number}", Pieces(MIB))
            await anyio.sleep(1)
        assert lane.concurrency == START


async def test_a5_a_throttle_cuts_the_limit(log) -> None:
    backend = FaultyBackend(SlowBackend(MemoryBackend(), latency=0.5))
    backend.script("put", Raise(throttled), name="20")
    async with open_engine(concurrency="auto", events=log.hub) as engine:
        lane = engine.lane(backend)
        for number in range(60):
            await engine.submit(lane, "put", f"{number}", BytesBody(b"x" * 1000))
    assert any("throttled" in event.why and event.new < event.old for event in log.of(LimitChanged))


async def test_a7_set_concurrency_switches_it_off_and_auto_on_again(log) -> None:
    backend = SlowBackend(MemoryBackend(), latency=0.1, rate=MIB // 4)
    async with open_engine(concurrency="auto", events=log.hub) as engine, anyio.create_task_group() as tasks:
        lane = engine.lane(backend)

        async def keep_on(number: int) -> None:
            while True:
                await engine.run(lane, "put", f"{number}", Pieces(MIB // 4))

        for number in range(64):
            tasks.start_soon(keep_on, number)
        await anyio.sleep(20)
        assert engine.auto and lane.concurrency > 8
        engine.set_concurrency(3)
        await anyio.sleep(30)
        assert not engine.auto and lane.concurrency == 3
        engine.set_concurrency("auto")
        engine.set_concurrency(2)
        engine.set_concurrency("auto")
        await anyio.sleep(20)
        assert engine.auto and lane.concurrency > 8
        tasks.cancel_scope.cancel()


async def test_a7_no_more_than_most_and_none_beside_a_serial_backend() -> None:
    class Serial(MemoryBackend):
        def supports_concurrency(self) -> bool:
            return False

    async with open_engine(concurrency="auto", most=6) as engine:
        lane, serial = engine.lane(SlowBackend(MemoryBackend(), rate=MIB // 16)), engine.lane(Serial())
        for number in range(400):
            await engine.submit(lane, "put", f"{number}", Pieces(MIB // 16))
            assert lane.concurrency <= 6
        assert lane.concurrency == 6
        assert serial.concurrency == 1
