"""Large objects of an ordered read, in ranges side by side (O7, S2, S3, B4)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.base import Capabilities
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.local import LocalBackend
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import BadRequest, IntegrityError, NotFound, RetryableError
from asyncdup.events import AttemptFinished, AttemptStarted, Notice, Progress
from asyncdup.testing.faults import Cut, Flip, Raise, lost
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import ReadRequest, open_engine, ranges
from asyncdup.transfer.parts import PART
from asyncdup.transfer.ranges import Range, ranges_of

KIB, MIB = 1 << 10, 1 << 20
DATA = random.Random(5).randbytes(20 * 64 * KIB)
REQUEST = ReadRequest("a", len(DATA), {"sha1": hashlib.sha1(DATA).hexdigest()})
PIECES = 20  # of DATA, with five slots
RATE = 64 * KIB  # bytes/s of one connection


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PART", 32 * KIB)


class Ranged(MemoryBackend):
    """Notes what is asked for."""

    def __init__(self, **able: bool) -> None:
        super().__init__()
        self.asked: list[Range] = []
        self.able = able
        self.now_running = self.most_running = 0

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), **self.able)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        self.asked.append(Range(start, -1 if length is None else length))
        self.now_running += 1
        self.most_running = max(self.most_running, self.now_running)
        try:
            async with super().get(name, start=start, length=length) as chunks:
                yield chunks
        finally:
            self.now_running -= 1


class Seen(FaultyBackend):
    """Whose bytes are seen to move, though what it wraps could be anything."""

    wait_idle = None  # type: ignore[assignment]


async def shop(data: bytes = DATA, *, names: str = "a", rate: float | None = None, **able: bool) -> tuple[Ranged, FaultyBackend]:
    store = Ranged(**able)
    for name in names:
        await store.put(name, BytesBody(data))
    return store, Seen(SlowBackend(store, rate=rate))


async def read(backend, *requests: ReadRequest, slots: int = 5, **options) -> float:
    """Seconds until all of ``requests``, or the usual one, were read and were right."""
    async with open_engine(concurrency=slots, rng=random.Random(1), **options) as engine:
        lane = engine.lane(backend)
        began = anyio.current_time()
        async with engine.read_ordered(lane, requests or [REQUEST]) as items:
            async for item in items:
                assert item.path.read_bytes() == DATA and item.size == len(DATA)
        took = anyio.current_time() - began
        assert list(engine.spool.folder.iterdir()) == []
        assert lane.gate.running == lane.gate.waiting == engine.statistics().memory == 0
    return took


def test_ranges_cover_the_object_and_none_is_small() -> None:
    """A range is 8 MiB or more, and each slot has four."""
    for size, slots, number in [(16 * MIB, 5, 0), (200 * MIB, 5, 20), (200 * MIB + 1, 5, 20), (40 * MIB, 64, 0), (4096 * MIB, 2, 8)]:
        found = ranges_of(size, slots)
        assert number in (0, len(found))
        assert [piece.start for piece in found] == [sum(each.size for each in found[:at]) for at in range(len(found))]
        assert sum(piece.size for piece in found) == size


async def test_one_large_object_comes_as_fast_as_the_slots_allow() -> None:
    """A connection carries so much and no more; with five there are five times as many."""
    _, backend = await shop(rate=RATE)
    alone, side_by_side = await read(backend, slots=1), await read(backend, slots=5)
    assert alone == pytest.approx(len(DATA) / RATE, rel=0.05)
    assert alone / side_by_side > 4


async def test_the_ranges_take_the_slots_of_the_gate_and_no_more(log) -> None:
    """S2, V3: each an attempt, every byte counted once."""
    store, backend = await shop(rate=RATE)
    await read(backend, events=log.hub)
    assert store.most_running == 5 and len(store.asked) == PIECES
    assert {event.op for event in log.of(AttemptStarted)} == {1} and {event.verb for event in log.of(AttemptStarted)} == {"range"}
    assert sorted(event.attempt for event in log.of(AttemptFinished)) == list(range(1, PIECES + 1))
    assert sum(event.bytes for event in log.of(Progress)) == len(DATA)


async def test_the_memory_in_flight_bounds_them() -> None:
    """S3."""
    store, backend = await shop(rate=RATE)
    await read(backend, memory_bytes=3 * 64 * KIB)
    assert store.most_running == 3


async def test_only_what_a_range_lacks_is_asked_for_again(log) -> None:
    """B4: it was cut off in the middle of the third one."""
    store, backend = await shop()
    backend.script("get", Cut(64 * KIB, lost), Cut(64 * KIB, lost), Cut(40 * KIB, lost))
    await read(backend, events=log.hub)
    assert sum(event.bytes for event in log.of(Progress)) == len(DATA)
    assert len(store.asked) == PIECES + 1
    assert Range(2 * 64 * KIB + 40 * KIB, 24 * KIB) in store.asked


async def test_a_wrong_byte_makes_the_whole_come_again(log) -> None:
    """O7: nobody knows in which range it was."""
    store, backend = await shop()
    backend.script("get", Flip(50))
    await read(backend, events=log.hub)
    assert store.asked[PIECES:] == [Range(0, -1)]
    assert "fetching a whole" in log.of(Notice)[0].message


async def test_three_mismatches_more_are_an_integrity_error() -> None:
    """O7."""
    _, backend = await shop(DATA[:-1] + b"?")
    with pytest.raises(IntegrityError, match="a has the sha1 digest"):
        await read(backend)


async def test_an_object_that_is_shorter_than_it_should_be_is_an_integrity_error() -> None:
    _, backend = await shop(DATA[:-100])
    with pytest.raises(IntegrityError, match="but 1310720 were expected"):
        await read(backend)


async def test_a_server_that_refuses_ranges_is_asked_for_the_whole(log) -> None:
    """Q2."""
    store, backend = await shop()
    backend.script("get", Raise(lambda: BadRequest("416")))
    await read(backend, events=log.hub)
    assert store.asked[-1] == Range(0, -1)


async def test_a_server_that_turns_out_to_ignore_ranges_is_asked_for_the_whole() -> None:
    """Q2: no more of them are begun."""
    store, backend = await shop(rate=RATE)

    async def seen() -> None:
        await anyio.sleep(0.5)
        store.able["ranged_get"] = False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen)
        await read(backend)
    assert len(store.asked) == 5 + 1 and store.asked[-1] == Range(0, -1)


async def test_a_failure_for_good_is_raised_as_it_is() -> None:
    """C4: in no group, and once."""
    _, backend = await shop(rate=RATE)
    cause = NotFound("gone")
    backend.script("get", *[Cut(0, lambda: cause)] * 9)
    with pytest.raises(NotFound) as caught:
        await read(backend)
    assert caught.value is cause


@pytest.mark.parametrize("after", [0.0, 0.5, 1.7, 3.9])
async def test_cancelled_in_the_middle_nothing_is_left(tmp_path: Path, after: float) -> None:
    """O5."""
    store, backend = await shop(rate=RATE)
    async with open_engine(concurrency=5, spool_dir=tmp_path) as engine:
        lane = engine.lane(backend)
        with anyio.move_on_after(after):
            async with engine.read_ordered(lane, [REQUEST]) as items:
                await anext(items)
        assert list(engine.spool.folder.iterdir()) == [] and store.now_running == 0
        assert lane.gate.running == lane.gate.waiting == engine.statistics().memory == engine.statistics().spool_files == 0


@pytest.mark.parametrize("why", ["no ranges", "it stripes", "serial", "inline", "one slot", "no digest", "no size", "local", "small"])
async def test_whole_where_ranges_cannot_be_or_gain_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log, why: str) -> None:
    store = Ranged(**{"no ranges": {"ranged_get": False}, "it stripes": {"stripes": True}}.get(why, {}))
    backend = LocalBackend(tmp_path) if why == "local" else store
    await backend.put("a", BytesBody(DATA))
    if why == "serial":
        store.supports_concurrency = lambda: False  # type: ignore[method-assign]
    if why == "small":
        monkeypatch.setattr(ranges, "PART", PART)
    request = replace(REQUEST, size=None) if why == "no size" else replace(REQUEST, digests={}) if why == "no digest" else REQUEST
    await read(backend, request, slots={"inline": 0, "one slot": 1}.get(why, 5), events=log.hub)
    assert [event.verb for event in log.of(AttemptStarted)] == ["get"]


async def test_while_others_want_the_slots_objects_come_whole(log) -> None:
    """Only the tail, for which slots are left, comes in ranges."""
    _, backend = await shop(names="abcdefghijkl", rate=RATE)
    await read(backend, *(replace(REQUEST, name=name) for name in "abcdefghijkl"), slots=3, events=log.hub)
    whole = [event.name for event in log.of(AttemptStarted) if event.verb == "get"]
    assert whole[:9] == list("abcdefghi")
    assert len({event.name for event in log.of(AttemptStarted)}) == 12


@pytest.mark.parametrize("seed", range(10))
async def test_in_any_weather_the_object_is_right(seed: int) -> None:
    rng = random.Random(seed)
    _, backend = await shop(rate=RATE)
    faults = [Cut(rng.randrange(64 * KIB), lost), Raise(lambda: RetryableError("503", scope="lane")), Raise(lost), Flip(rng.randrange(KIB))]
    backend.script("get", *rng.choices(faults[:3], k=8), faults[3])
    await read(backend, slots=rng.randint(2, 6))
