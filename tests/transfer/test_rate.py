"""S10: rate limits up, down and in requests, by constant or by timetable, changed while it runs; and T2, for what waits at them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import UsageError
from asyncdup.events import AttemptFinished, AttemptStarted, Blocked, LimitChanged, Notice, Progress, Unblocked
from asyncdup.testing.slow import SlowBackend
from asyncdup.timetable import Entry, Timetable, parse_timetable
from asyncdup.transfer import RetryPolicy, open_engine
from asyncdup.transfer.limits import Turns
from asyncdup.transfer.rate import BURST, Bucket, Limiter, Rates

KIB, MIB = 1 << 10, 1 << 20
MIDNIGHT = 1_700_006_400.0  # 2023-11-15 00:00 UTC


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# The bucket.


def drained(bucket: Bucket, *, until: float, piece: float) -> list[tuple[float, float]]:
    """(when, how much) of one who takes whenever it is let."""
    now, taken = 0.0, []
    while True:
        now += bucket.wait(now)
        if now >= until:
            return taken
        bucket.take(piece, now)
        taken.append((now, piece))


@pytest.mark.parametrize("rate", [1.5, 1000.0, 3.3e6])
@pytest.mark.parametrize("share", [0.01, 0.25, 3.0])
def test_s10_a_bucket_keeps_its_rate_and_bounds_its_burst(rate: float, share: float) -> None:
    piece = rate * share

    taken = drained(Bucket(rate), until=300.0, piece=piece)

    assert sum(amount for _, amount in taken) == pytest.approx(rate * 300, rel=0.02)
    for window in (1.0, 10.0):
        for start in range(0, 100, 7):
            moved = sum(amount for when, amount in taken if start <= when < start + window)
            assert moved <= rate * (window + BURST) + piece + 1e-3


def test_s10_a_rest_saves_up_no_more_than_a_burst() -> None:
    bucket = Bucket(1000.0)
    assert bucket.wait(3600.0) == 0

    bucket.take(BURST * 1000, 3600.0)

    assert bucket.wait(3600.0) == 0
    bucket.take(100, 3600.0)
    assert bucket.wait(3600.0) == pytest.approx(0.1)


def test_a_bucket_without_a_rate_lets_everything_pass() -> None:
    bucket = Bucket(None)
    bucket.take(1e12, 0.0)
    assert bucket.wait(0.0) == 0


@pytest.mark.parametrize(("new", "wait"), [(10_000.0, 0.05), (100.0, 1.0), (None, 0.0)])
def test_s10_a_change_of_rate_is_felt_within_a_second(new: float | None, wait: float) -> None:
    bucket = Bucket(1000.0)
    bucket.take(500, 0.0)

    bucket.set_rate(new, 0.0)

    assert bucket.wait(0.0) == pytest.approx(wait)


async def test_s10_those_who_wait_at_a_limiter_go_in_their_order_and_a_cancelled_wait_takes_nothing() -> None:
    limiter = Limiter()
    limiter.set_rate(10.0)
    order: list[int] = []

    async def take(number: int) -> None:
        await limiter.take(10)
        order.append(number)

    await limiter.take(10)
    with anyio.move_on_after(0.5):
        await limiter.take(1000)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(take, number)

    assert order == [0, 1, 2, 3, 4]
    assert anyio.current_time() == pytest.approx(5.0)


async def test_s10_a_lanes_limit_lies_within_the_engines() -> None:
    engine = Rates()
    one, other = Rates(engine), Rates(engine)
    engine.up.set_rate(1000.0)
    one.up.set_rate(100.0)

    assert one.piece("up") == 4 * KIB and one.piece("down") is None
    async with anyio.create_task_group() as tasks:
        for rates, pieces in ((one, 10), (other, 90)):
            tasks.start_soon(_move, rates, pieces)

    assert anyio.current_time() == pytest.approx(10.0, rel=0.12)


async def _move(rates: Rates, pieces: int) -> None:
    for _ in range(pieces):
        await rates.move("up", 100)


# The timetable.


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("512k", (Entry(0, 512 * KIB),)),
        ("off", (Entry(0),)),
        ("10Mbit/s", (Entry(0, 1_250_000),)),
        ("08:00,512k 12:00,pause 19:00,off", (Entry(8 * 3600, 512 * KIB), Entry(12 * 3600, pause=True), Entry(19 * 3600))),
        ("23:30,1M 7:05,off", (Entry(7 * 3600 + 300), Entry(84600, MIB))),
        ("00:00,pause", (Entry(0, pause=True),)),
    ],
)
def test_s10_timetables_are_read(text: str, entries: tuple[Entry, ...]) -> None:
    assert parse_timetable(text).entries == entries


@pytest.mark.parametrize(
    "text", ["", " ", "pause", "0", "fast", "08:00", "24:00,1M", "8:60,1M", "08:00,1M 08:00,2M", "08:00,0", "1M 2M", "08:00,1M,2M"]
)
def test_s10_what_is_no_timetable_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="rate limit") as caught:
        parse_timetable(text)
    assert "12:00,pause" in (caught.value.hint or "")


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("clock", "rate", "pause", "left"),
    [
        ("00:00", None, False, 8 * 3600),
        ("07:59", None, False, 60),
        ("08:00", 512 * KIB, False, 4 * 3600),
        ("12:00", 512 * KIB, True, 7 * 3600),
        ("18:59", 512 * KIB, True, 60),
        ("19:00", None, False, 13 * 3600),
    ],
)
def test_s10_each_entry_holds_until_the_next(clock: str, rate: float | None, pause: bool, left: float) -> None:
    table = parse_timetable("08:00,512k 12:00,pause 19:00,off")
    wall = MIDNIGHT + int(clock[:2]) * 3600 + int(clock[3:]) * 60

    assert (table.rate_at(wall), table.at(wall).pause, table.until_change(wall)) == (rate, pause, left)


def test_s10_nothing_but_a_pause_has_no_rate_and_a_constant_never_changes() -> None:
    assert parse_timetable("00:00,pause").rate_at(MIDNIGHT) is None
    assert Timetable().until_change(MIDNIGHT) == float("inf")


# The engine.


async def put_all(engine, lane, count: int, size: int) -> None:
    async with engine.writer(lane) as writer:
        for number in range(count):
            await writer.put(f"{number:03}", BytesBody(bytes(size)))


@pytest.mark.parametrize("concurrency", [0, 1, 4])
async def test_s10_uploads_keep_the_rate_and_the_burst(log, concurrency: int) -> None:
    """Within 2 % over a long transfer; no second has more than its share, a burst and a piece for each slot."""
    rate = 512 * KIB
    async with open_engine(concurrency=concurrency, upload_limit="512k", events=log.hub) as engine:
        await put_all(engine, engine.lane(MemoryBackend()), 30, MIB)

    moved = log.of(Progress)
    assert sum(event.bytes for event in moved) / anyio.current_time() == pytest.approx(rate, rel=0.02)
    for second in range(60):
        assert sum(event.bytes for event in moved if second <= event.t < second + 1) <= rate * (1 + BURST * (2 + concurrency))


async def test_s10_downloads_keep_the_rate(log) -> None:
    backend = MemoryBackend()
    async with open_engine(concurrency=3, download_limit="1M", events=log.hub) as engine:
        lane = engine.lane(backend)
        await put_all(engine, lane, 60, MIB)
        began = anyio.current_time()
        assert began < 1, "uploads are not limited"
        async with engine.read_ordered(lane, [f"{number:03}" for number in range(60)]) as items:
            async for item in items:
                assert item.size == MIB
        assert 60 * MIB / (anyio.current_time() - began) == pytest.approx(MIB, rel=0.02)
        assert len(await engine.fetch(lane, "000")) == MIB


async def test_s10_requests_are_limited(log) -> None:
    async with open_engine(concurrency=8, request_limit=5, events=log.hub) as engine:
        await put_all(engine, engine.lane(MemoryBackend()), 100, 10)

    assert len(log.of(AttemptStarted)) == 100
    assert anyio.current_time() == pytest.approx(20.0, rel=0.02)


async def test_t2_the_stall_clock_stands_still_at_a_rate_limit(log) -> None:
    """A chunk of 1 MiB at 4 KiB/s takes longer than the stall timeout, and so does a turn among four."""
    policy = RetryPolicy(stall_timeout=2.0, response_timeout=4.0, max_attempts=1)
    async with open_engine(concurrency=4, policy=policy, upload_limit="4k", download_limit="4k", events=log.hub) as engine:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=0.5))
        await put_all(engine, lane, 4, 100 * KIB)
        await engine.fetch(lane, "000")

    assert len(log.of(AttemptStarted)) == 5
    assert anyio.current_time() > 100
    begun = [(event.op, event.attempt) for event in log.of(Blocked) if event.what == "rate"]
    ended = [(event.op, event.attempt) for event in log.of(Unblocked) if event.what == "rate"]
    assert len(begun) == 5 and sorted(begun) == sorted(ended)


async def test_s10_a_change_takes_effect_within_a_second_in_the_middle_of_an_object(log) -> None:
    async with open_engine(concurrency=2, upload_limit="16k", events=log.hub) as engine, anyio.create_task_group() as tasks:
        tasks.start_soon(put_all, engine, engine.lane(MemoryBackend()), 4, 10 * MIB)
        await anyio.sleep(100)
        engine.set_rate(upload="1M")
        await anyio.sleep(20)
        engine.set_rate(upload="8k")
        await anyio.sleep(100)
        engine.set_rate(upload="off")

    def moved(begin: float, end: float) -> int:
        return sum(event.bytes for event in log.of(Progress) if begin <= event.t < end)

    assert moved(10, 100) / 90 == pytest.approx(16 * KIB, rel=0.05)
    assert moved(101, 120) / 19 == pytest.approx(MIB, rel=0.05)
    assert moved(121, 220) / 99 == pytest.approx(8 * KIB, rel=0.15)
    assert anyio.current_time() < 221


async def test_a_limit_that_cannot_be_changes_nothing() -> None:
    async with open_engine(upload_limit="1M") as engine:
        for wrong in ({"upload": "off", "download": "x"}, {"upload": "off", "requests": -1.0}):
            with pytest.raises(UsageError):
                engine.set_rate(**wrong)
        assert engine.pacing.upload.text == "1M"
    with pytest.raises(UsageError):
        async with open_engine(download_limit="soon"):
            raise AssertionError("not reached")


@pytest.mark.usefixtures("utc")
async def test_s10_in_a_pause_window_nothing_starts_and_afterwards_it_goes_on(log) -> None:
    """The wall clock is handed in; what runs when the pause begins goes on at the rate that was."""
    start = MIDNIGHT + 11 * 3600 + 59 * 60

    def now() -> float:
        return start + anyio.current_time()

    table = "08:00,128k 12:00,pause 13:00,off"
    async with open_engine(concurrency=1, upload_limit=table, events=log.hub, now=now) as engine:
        lane = engine.lane(MemoryBackend())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_all, engine, lane, 20, MIB)
            await anyio.sleep(1000)
            assert lane.gate.paused and engine.statistics().lanes[0].pauses == ("timetable",)

    starts = [event.t for event in log.of(AttemptStarted)]
    assert [t for t in starts if 61 <= t < 3660] == []
    assert sum(t < 61 for t in starts) == 8, "one MiB takes 8 s"
    assert sum(3660 <= t < 3662 for t in starts) == 12
    assert [event.message for event in log.of(Notice)] == [
        "upload: at most 128.0 KiB/s",
        "upload: pause, as the timetable says",
        "upload: no limit",
    ]


@pytest.mark.usefixtures("utc")
async def test_s10_a_lane_that_is_opened_in_a_pause_is_paused() -> None:
    async with open_engine(upload_limit="00:00,pause", now=lambda: MIDNIGHT) as engine:
        lane = engine.lane(MemoryBackend())
        assert lane.gate.paused
        engine.set_rate(upload="off")
        assert not lane.gate.paused


# S9.


async def test_s9_raising_concurrency_takes_effect_at_once_and_lowering_ends_nothing(log) -> None:
    async with open_engine(concurrency=2, events=log.hub) as engine, anyio.create_task_group() as tasks:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=10.0))
        tasks.start_soon(put_all, engine, lane, 40, 10)
        await anyio.sleep(5)
        assert lane.gate.running == 2
        engine.set_concurrency(6, "test")
        await anyio.sleep(0.1)
        assert lane.gate.running == 6
        engine.set_concurrency(1)
        assert lane.gate.running == 6
        await anyio.sleep(20)
        assert lane.gate.running == 1
        engine.set_concurrency(20)

    assert [(event.old, event.new, event.why) for event in log.of(LimitChanged) if event.old] == [
        (2, 6, "test"),
        (6, 1, "api"),
        (1, 20, "api"),
    ]


async def test_s9_an_engine_that_worked_inline_gets_slots(log) -> None:
    async with open_engine(concurrency=0, events=log.hub) as engine:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=10.0))
        engine.set_concurrency(4)
        await put_all(engine, lane, 8, 10)
        with pytest.raises(ValueError, match="least"):
            engine.set_concurrency(0)

    assert anyio.current_time() == pytest.approx(20.0, abs=0.1)


# A pause at once (X3), and turns (S7).


async def test_x3_a_pause_now_ends_what_runs_without_counting_a_failure(log) -> None:
    policy = RetryPolicy(max_attempts=1)
    backend = MemoryBackend()
    async with open_engine(concurrency=3, policy=policy, upload_limit="64k", events=log.hub) as engine, anyio.create_task_group() as tasks:
        lane = engine.lane(backend)
        tasks.start_soon(put_all, engine, lane, 6, MIB)
        await anyio.sleep(10)
        engine.pause("test", now=True)
        await anyio.sleep(1)
        assert lane.gate.running == 0 and lane.gate.waiting >= 3
        await anyio.sleep(1000)
        assert lane.gate.running == 0
        engine.unpause("test")

    assert len([event for event in log.of(AttemptFinished) if event.outcome != "ok"]) == 3
    async with backend.list() as infos:
        assert [info.size async for info in infos] == [MIB] * 6


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_s7_jobs_on_a_lane_take_turns_op_by_op(log, concurrency: int) -> None:
    """A job that comes late does not wait for the many ops that another has before the gate; one job's ops keep their order."""
    async with open_engine(concurrency=concurrency, events=log.hub) as engine:
        lane = engine.lane(SlowBackend(MemoryBackend(), latency=1.0))
        ops = [await engine.submit(lane, "put", f"first{number:02}", BytesBody(b"x"), job="first") for number in range(30)]
        await anyio.sleep(2.5)
        for number in range(10):
            ops.append(await engine.submit(lane, "put", f"second{number:02}", BytesBody(b"x"), job="second"))
        for op in ops:
            await op.result()

    names = [event.name for event in log.of(AttemptStarted)]
    late = names[names.index("second00") :][:20]
    for job in ("first", "second"):
        own = [name for name in names if name.startswith(job)]
        assert own == sorted(own)
        assert 9 <= sum(name.startswith(job) for name in late) <= 11
    assert names.index("second00") <= 4 * concurrency


async def test_s7_readers_and_writers_take_turns_too(log) -> None:
    backend = SlowBackend(MemoryBackend(), latency=1.0)
    async with open_engine(concurrency=1, spool_bytes=1 << 30, events=log.hub) as engine:
        lane = engine.lane(backend)
        await put_all(engine, lane, 8, 10)
        async with engine.read_ordered(lane, [f"{number:03}" for number in range(8)], window=8, job="reader") as items:
            async with engine.writer(lane, job="writer") as writer:
                for number in range(8):
                    await writer.put(f"new{number}", BytesBody(b"x"))
            done = [event.verb for event in log.of(AttemptStarted)][8:]
            assert [item.size async for item in items] == [10] * 8

    assert done.count("put") == 8 and 6 <= done.count("get") <= 9


def test_s7_turns() -> None:
    turns = Turns()
    assert [turns.next("a") for _ in range(3)] == [1, 2, 3]
    turns.started(2)
    assert [turns.next("b") for _ in range(3)] == [3, 4, 5]
    assert turns.next("a") == 4
    turns.started(40)
    assert turns.next("a") == turns.next("b") == 41
