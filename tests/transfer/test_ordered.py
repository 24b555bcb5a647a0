"""Ordered reads and writes (O1-O8, H-less)."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import IntegrityError, NotFound, OperationCancelled, PermanentError, RetryableError
from asyncdup.events import AttemptFinished, AttemptStarted, Progress
from asyncdup.testing.faults import Cut, Extend, Flip, Raise, Truncate, lost
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import ReadRequest, RetryPolicy, open_engine


def data_of(number: int, size: int = 100) -> bytes:
    return bytes([number % 256]) * size


async def shop(count: int, *, size: int = 100, latency: float = 0.0, jitter: float = 0.0) -> FaultyBackend:
    """A backend that holds ``count`` objects."""
    store = MemoryBackend()
    for number in range(count):
        await store.put(f"v{number}", BytesBody(data_of(number, size)))
    return FaultyBackend(SlowBackend(store, latency=latency, jitter=jitter, rng=random.Random(7)))


def requests(count: int, *, size: int = 100) -> list[ReadRequest]:
    return [ReadRequest(f"v{n}", size, {"sha1": hashlib.sha1(data_of(n, size)).hexdigest()}) for n in range(count)]


async def test_o1_items_come_in_order_as_fast_as_the_slots_allow() -> None:
    backend = await shop(40, latency=0.05, jitter=0.1)
    seen: list[str] = []
    async with open_engine(concurrency=8) as engine, engine.read_ordered(engine.lane(backend), requests(40), window=64) as items:
        async for item in items:
            assert item.path.read_bytes() == data_of(len(seen))
            seen.append(item.name)

    assert seen == [f"v{number}" for number in range(40)]
    assert backend.most_at_once == 8 and anyio.current_time() < 40 * 0.1 / 8 + 0.3


async def test_o1_o6_a_slow_consumer_stops_starts_at_the_window() -> None:
    backend = await shop(20)
    async with open_engine(concurrency=3) as engine, engine.read_ordered(engine.lane(backend), requests(20)) as items:
        for taken in range(1, 6):
            await anext(items)
            await anyio.sleep(100)
            assert len(backend.calls) == taken + 3
            assert engine.statistics().spool_files == 4


async def test_o1_ten_thousand_names_are_not_ten_thousand_tasks() -> None:
    backend = await shop(3)
    pulled = 0

    def names():
        nonlocal pulled
        for number in range(10_000):
            pulled += 1
            yield f"v{number % 3}"

    async with open_engine(concurrency=4) as engine, engine.read_ordered(engine.lane(backend), names()) as items:
        await anext(items)
        await anyio.sleep(1)
        assert pulled == 5


async def test_s1_concurrency_0_reads_one_after_the_other_when_asked() -> None:
    backend = await shop(5, latency=1.0)
    async with open_engine(concurrency=0) as engine, engine.read_ordered(engine.lane(backend), requests(5)) as items:
        await anyio.sleep(50)
        assert not backend.calls
        async for _ in items:
            await anyio.sleep(10)

    assert [call.began for call in backend.calls] == [50, 61, 72, 83, 94]


async def test_o2_the_head_goes_first() -> None:
    """The slot is taken by another op; of what waits, the head is started first although it is not the oldest."""
    backend = await shop(3, latency=1.0)
    async with open_engine(concurrency=1) as engine:
        lane = engine.lane(backend)
        await engine.submit(lane, "put", "busy", BytesBody(b"x"))
        others = [await engine.submit(lane, "put", f"w{number}", BytesBody(b"x")) for number in range(3)]
        async with engine.read_ordered(lane, requests(3)) as items:
            await anext(items)
            assert anyio.current_time() == 2
        assert not any(op.done for op in others)


async def test_o3_an_error_is_raised_at_its_position() -> None:
    backend = await shop(10, latency=1.0)
    error = PermanentError("no")
    backend.script("get", Raise(lambda: error), name="v3")
    seen: list[str] = []
    async with open_engine(concurrency=4) as engine, engine.read_ordered(engine.lane(backend), requests(10)) as items:
        with pytest.raises(PermanentError) as caught:
            async for item in items:
                await anyio.sleep(20)
                seen.append(item.name)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert engine.statistics().spool_files == 0

    assert caught.value is error and seen == ["v0", "v1", "v2"]
    assert set(backend.names("get")) <= {f"v{number}" for number in range(5)}, "O3: nothing new behind an item that failed for good"


async def test_o3_with_errors_yield_every_position_gives_a_result() -> None:
    backend = await shop(5)
    async with open_engine(concurrency=2) as engine:
        wanted = [*requests(3), ReadRequest("missing"), ReadRequest("v4")]
        async with engine.read_ordered(engine.lane(backend), wanted, errors="yield") as results:
            found = [(result.name, type(result.error), result.item and result.item.size) async for result in results]

    ok = type(None)
    assert found == [("v0", ok, 100), ("v1", ok, 100), ("v2", ok, 100), ("missing", NotFound, None), ("v4", ok, 100)]


async def test_o4_the_end_is_the_end() -> None:
    async with open_engine() as engine, engine.read_ordered(engine.lane(await shop(1)), requests(1)) as items:
        assert [item.name async for item in items] == ["v0"]
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(items)


@pytest.mark.parametrize("how", ["break", "exception", "cancel"])
async def test_o5_leaving_early_leaves_nothing_behind(tmp_path: Path, how: str) -> None:
    backend = await shop(50, latency=1.0, jitter=3.0)
    async with open_engine(concurrency=5, spool_dir=tmp_path) as engine:
        lane = engine.lane(backend)
        with anyio.move_on_after(6 if how == "cancel" else None):
            try:
                async with engine.read_ordered(lane, requests(50)) as items:
                    async for item in items:
                        if item.name == "v3" and how == "break":
                            break
                        if item.name == "v3" and how == "exception":
                            raise KeyError
                        await anyio.sleep(0.1)
            except KeyError:
                pass
        assert list(engine.spool.folder.iterdir()) == []
        assert lane.gate.running == lane.gate.waiting == engine.statistics().memory == engine.statistics().spool_files == 0


async def test_o5_an_iterator_without_a_block_is_closed_by_the_engine_with_a_warning() -> None:
    backend = await shop(5)
    with pytest.warns(ResourceWarning, match="async with"):
        async with open_engine(concurrency=2) as engine:
            await anext(engine.read_ordered(engine.lane(backend), requests(5)))


async def test_o6_the_file_is_the_consumers_until_the_next_item(tmp_path: Path) -> None:
    async with open_engine(spool_dir=tmp_path) as engine, engine.read_ordered(engine.lane(await shop(3)), requests(3)) as items:
        first = await anext(items)
        await anyio.sleep(1)
        assert first.path.exists() and first.path.stat().st_mode & 0o777 == 0o600
        await anext(items)
        assert not first.path.exists()


async def test_o6_a_kept_file_outlives_the_engine(tmp_path: Path) -> None:
    async with open_engine(spool_dir=tmp_path) as engine, engine.read_ordered(engine.lane(await shop(3)), requests(3)) as items:
        kept = (await anext(items)).keep()
        await anext(items)
        assert engine.statistics().spool_files == 2

    assert kept.read_bytes() == data_of(0)
    os.unlink(kept)


@pytest.mark.parametrize("fault", [Flip(50), Truncate(60), Extend(b"more")])
async def test_o7_v1_a_mismatch_is_fetched_again_and_each_attempt_has_a_number_of_its_own(fault, log) -> None:
    backend = await shop(3)
    backend.script("get", fault, Raise(lost), fault, name="v1")
    async with open_engine(events=log.hub) as engine, engine.read_ordered(engine.lane(backend), requests(3)) as items:
        assert [item.path.read_bytes() async for item in items] == [data_of(number) for number in range(3)]

    assert [event.attempt for event in log.of(AttemptStarted) if event.name == "v1"] == [1, 2, 3, 4]
    assert [event.attempt for event in log.of(AttemptFinished) if event.name == "v1"] == [1, 2, 3, 4]


async def test_o7_three_mismatches_are_an_integrity_error() -> None:
    backend = await shop(3)
    backend.script("get", *(Flip(number) for number in range(5)), name="v1")
    async with open_engine() as engine, engine.read_ordered(engine.lane(backend), requests(3)) as items:
        await anext(items)
        with pytest.raises(IntegrityError, match="v1 has the sha1 digest"):
            await anext(items)

    assert backend.names("get").count("v1") == 3


async def test_o7_unknown_size_and_digest_are_not_checked() -> None:
    async with open_engine() as engine, engine.read_ordered(engine.lane(await shop(2)), ["v0", "v1"]) as items:
        assert [item.size async for item in items] == [100, 100]


async def test_b4_a_fetch_goes_on_where_it_ended_and_that_is_progress(log) -> None:
    size = 4 << 20
    backend = await shop(1, size=size)
    backend.script("get", *(Cut(1 << 20, lost) for _ in range(3)))
    policy = RetryPolicy(max_attempts=2)
    async with (
        open_engine(events=log.hub, policy=policy) as engine,
        engine.read_ordered(engine.lane(backend), requests(1, size=size)) as items,
    ):
        assert (await anext(items)).path.read_bytes() == data_of(0, size)

    assert sum(event.bytes for event in log.of(Progress)) == size


async def test_a_fetch_without_a_digest_starts_over(log) -> None:
    size = 4 << 20
    backend = await shop(1, size=size)
    backend.script("get", Cut(2 << 20, lost))
    async with open_engine(events=log.hub) as engine, engine.read_ordered(engine.lane(backend), [ReadRequest("v0", size)]) as items:
        assert (await anext(items)).path.read_bytes() == data_of(0, size)

    assert sum(event.bytes for event in log.of(Progress)) == size + (2 << 20)


async def test_two_readers_do_not_wait_for_each_other_for_ever() -> None:
    """S4: the spool is full of what one reader holds ahead; the head of the other is let in all the same."""
    backend = await shop(20)
    async with open_engine(concurrency=2, spool_bytes=250) as engine:
        lane = engine.lane(backend)
        async with engine.read_ordered(lane, requests(10)) as one, engine.read_ordered(lane, requests(10)) as two:
            await anyio.sleep(1)
            for _ in range(10):
                assert (await anext(two)).name == (await anext(one)).name


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 6), st.floats(0, 0.4))
def test_o1_order_holds_whatever_fails_and_however_long_it_takes(seed: int, concurrency: int, window: int, rate: float) -> None:
    import asyncio

    from asyncdup.testing.clock import VirtualLoop
    from asyncdup.testing.faults import usual_chances

    async def main() -> None:
        store = (await shop(12)).inner.inner
        rng = random.Random(seed)
        backend = FaultyBackend(SlowBackend(store, jitter=2.0, rng=rng), chances=usual_chances(rate, size=100), rng=rng)
        async with open_engine(concurrency=concurrency, rng=rng, policy=RetryPolicy(max_elapsed=10_000)) as engine:
            lane = engine.lane(backend)
            async with engine.read_ordered(lane, requests(12), window=window) as items:
                assert [item.path.read_bytes() async for item in items] == [data_of(number) for number in range(12)]
        assert backend.most_at_once <= concurrency

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


async def test_o8_put_returns_when_accepted_and_aclose_when_durable(far) -> None:
    backend = far(5.0)
    async with open_engine(concurrency=2) as engine:
        writer = engine.writer(engine.lane(backend))
        ops = [await writer.put(f"{number}", BytesBody(b"x")) for number in range(4)]
        assert anyio.current_time() == 0
        await writer.aclose()
        assert anyio.current_time() == 10 and all(op.succeeded for op in ops)


async def test_o8_the_first_failure_in_order_is_raised_with_later_ones_as_notes(far) -> None:
    backend = far(1.0)
    first, second = PermanentError("first"), PermanentError("second")
    backend.script("put", Raise(lambda: RetryableError("late")), Raise(lambda: first), name="1")
    backend.script("put", Raise(lambda: second), name="3")
    async with open_engine(concurrency=9) as engine:
        writer = engine.writer(engine.lane(backend))
        for number in range(5):
            await writer.put(f"{number}", BytesBody(b"x"))
        with pytest.raises(PermanentError) as caught:
            await writer.aclose()

    assert caught.value is first
    assert first.__notes__[-1] == "put 3 failed, too: second"


async def test_o8_a_failure_stops_the_producer_at_its_next_put(far) -> None:
    backend = far(1.0)
    backend.script("put", Raise(lambda: PermanentError("no")), name="0")
    async with open_engine() as engine:
        with pytest.raises(PermanentError):
            async with engine.writer(engine.lane(backend)) as writer:
                for number in range(100):
                    await writer.put(f"{number}", BytesBody(b"x"))
                    await anyio.sleep(0.25)

    assert anyio.current_time() < 2


async def test_o8_leaving_on_an_exception_cancels(far) -> None:
    backend = far(100.0)
    async with open_engine(concurrency=1) as engine:
        with pytest.raises(KeyError):
            async with engine.writer(engine.lane(backend)) as writer:
                ops = [await writer.put(f"{number}", BytesBody(b"x")) for number in range(3)]
                await anyio.sleep(1)
                raise KeyError
        assert all(isinstance(op.error, OperationCancelled) for op in ops) and anyio.current_time() == 1
