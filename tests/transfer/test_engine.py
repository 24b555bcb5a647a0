"""The engine: overlap, bounds, barriers, ends and events (S1-S6, S8, X3, V3)."""

from __future__ import annotations

import gc
import math
import weakref
from collections import Counter
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import DependencyFailed, Drained, LaneUnavailable, OperationCancelled, PermanentError, RetryableError
from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    Blocked,
    OpCancelled,
    OpFailed,
    OpQueued,
    OpSkipped,
    OpStarted,
    OpSucceeded,
    Progress,
    Unblocked,
)
from asyncdup.testing.faults import Cut, Raise, lost, usual_chances
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.transfer import ReadRequest, RetryPolicy, open_engine


async def back_up(far, spooled, *, volumes: int, produce: float, send: float, concurrency: int) -> float:
    """Seconds that ``volumes`` take, ``produce`` s each to make and ``send`` s to store."""
    backend = far(send)
    async with open_engine(concurrency=concurrency) as engine, engine.writer(engine.lane(backend)) as writer:
        for number in range(volumes):
            body = await spooled(engine, b"x" * 100)
            await anyio.sleep(produce)
            await writer.put(f"v{number}", body)
    assert len(backend.inner.inner.store) == volumes
    return anyio.current_time()


@pytest.mark.parametrize("concurrency", [1, 2, 5])
@pytest.mark.parametrize(("produce", "send"), [(1, 1), (1, 4), (3, 1), (0.2, 5), (5, 0.2), (0, 1)])
async def test_s1_production_overlaps_sending(far, spooled, concurrency: int, produce: float, send: float) -> None:
    volumes = 12
    took = await back_up(far, spooled, volumes=volumes, produce=produce, send=send, concurrency=concurrency)

    floor = max(volumes * produce + send, produce + math.ceil(volumes / concurrency) * send)
    assert floor - 1e-6 <= took <= floor + max(produce, send) + 1e-6


async def test_s1_concurrency_0_sends_inline(far, spooled) -> None:
    assert await back_up(far, spooled, volumes=5, produce=1, send=2, concurrency=0) == pytest.approx(15)


async def test_s1_inline_ops_are_done_when_submit_returns(far) -> None:
    async with open_engine(concurrency=0) as engine:
        op = await engine.submit(engine.lane(far()), "put", "a", BytesBody(b"1"))
        assert op.done and op.succeeded


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_s1_never_more_attempts_at_once_than_concurrency(far, concurrency: int) -> None:
    backend = far(1.0)
    async with open_engine(concurrency=concurrency) as engine:
        lane = engine.lane(backend)
        for number in range(10):
            await engine.submit(lane, "put", f"{number}", BytesBody(b"x"))

    assert backend.most_at_once == concurrency


async def test_s2_a_retry_holds_no_slot(far) -> None:
    """S2: 1 op in backoff for a long time, and 9 others pass through the only slot."""
    backend = far(1.0)
    backend.script("put", Raise(lambda: RetryableError("this one")), name="0")
    async with open_engine(concurrency=1, policy=RetryPolicy.fixed(5, 100)) as engine:
        lane = engine.lane(backend)
        ops = [await engine.submit(lane, "put", f"{number}", BytesBody(b"x")) for number in range(10)]
        for op in ops[1:]:
            await op.wait()
        assert anyio.current_time() <= 10


async def test_s4_the_producer_waits_at_the_spool_bound(far, spooled, log) -> None:
    made: list[float] = []
    backend = far(10.0)
    async with open_engine(concurrency=2, events=log.hub) as engine, engine.writer(engine.lane(backend)) as writer:
        for number in range(6):
            body = await spooled(engine, b"x")
            made.append(anyio.current_time())
            await writer.put(f"v{number}", body)
        assert engine.statistics().spool_files <= 4

    assert made == [0, 0, 0, 0, 10, 10]
    assert {event.what for event in log.of(Blocked)} == {"spool"} and log.of(Unblocked)[0].seconds == 10


async def test_s4_a_volume_leaves_the_spool_when_stored_not_at_its_turn(far, spooled) -> None:
    """The head fails for a long time; the others pass it and leave their room."""
    backend = far(1.0)
    backend.script("put", *(Raise(lambda: RetryableError("the head")) for _ in range(3)), name="v0")
    async with open_engine(concurrency=2, policy=RetryPolicy.fixed(9, 1000)) as engine, engine.writer(engine.lane(backend)) as writer:
        for number in range(30):
            await writer.put(f"v{number}", await spooled(engine, b"x"))

        assert anyio.current_time() < 31


async def test_s4_the_bound_in_bytes_lets_one_larger_item_through_alone(far, spooled) -> None:
    backend = far(1.0)
    seen: list[int] = []
    async with open_engine(concurrency=3, spool_bytes=250) as engine, engine.writer(engine.lane(backend)) as writer:
        for size in (100, 100, 1000, 100, 100, 100):
            await writer.put(f"v{len(seen)}", await spooled(engine, b"x" * size))
            seen.append(engine.statistics().spool_bytes)

    assert seen[:4] == [100, 200, 1000, 100] and max(seen[4:]) <= 200


async def test_s4_the_spool_bound_gives_way_where_waiting_could_not_help(far, spooled) -> None:
    """A file that is still being made keeps its room; its maker may need another one to go on."""
    async with open_engine(concurrency=1, spool_bytes=100) as engine:
        signatures = await engine.spool.new(500)
        volume = await spooled(engine, b"x" * 90)
        await engine.run(engine.lane(far()), "put", "v1", volume)
        await signatures.discard()


async def test_s4_spool_files_are_private_and_gone_at_the_end(far, spooled, tmp_path: Path) -> None:
    async with open_engine(spool_dir=tmp_path) as engine:
        folder = engine.spool.folder
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        await spooled(engine, b"left behind")

    assert list(tmp_path.iterdir()) == []


async def test_s5_a_manifest_waits_for_all_volumes(far) -> None:
    backend = far(5.0)
    async with open_engine(concurrency=4) as engine:
        lane = engine.lane(backend)
        volumes = [await engine.submit(lane, "put", f"v{number}", BytesBody(b"x")) for number in range(6)]
        await engine.run(lane, "put", "manifest", BytesBody(b"m"), after=volumes, metadata=True)

    assert backend.names("put")[-1] == "manifest"
    assert backend.calls[-1].began == 10


@pytest.mark.parametrize("how", ["fails", "is cancelled", "is skipped"])
async def test_s5_nothing_is_sent_when_a_dependency_did_not_succeed(far, log, how: str) -> None:
    backend = far(1.0)
    backend.script("put", Raise(lambda: PermanentError("no")), name="bad")
    async with open_engine(events=log.hub) as engine:
        lane = engine.lane(backend)
        bad = await engine.submit(lane, "put", "bad", BytesBody(b"x"))
        if how == "is cancelled":
            bad.cancel()
        if how == "is skipped":
            bad = await engine.submit(lane, "put", "second", BytesBody(b"x"), after=[bad])
        last = await engine.submit(lane, "put", "manifest", BytesBody(b"x"), after=[bad])
        with pytest.raises(DependencyFailed) as caught:
            await last.result()
        with pytest.raises((PermanentError, OperationCancelled, DependencyFailed)):
            await bad.result()
        for op in (bad, last):
            op.observed = True
        engine._runner._failed.clear()

    assert caught.value.__cause__ is bad.error
    assert "manifest" not in backend.names("put") and "second" not in backend.names("put")
    assert log.of(OpSkipped)[-1].name == "manifest"


async def test_s6_metadata_overtakes_queued_volumes(far) -> None:
    backend = far(1.0)
    async with open_engine(concurrency=1) as engine:
        lane = engine.lane(backend)
        for number in range(4):
            await engine.submit(lane, "put", f"v{number}", BytesBody(b"x"))
        await anyio.sleep(0.5)
        await engine.submit(lane, "put", "manifest", BytesBody(b"x"), metadata=True)

    assert backend.names("put") == ["v0", "manifest", "v1", "v2", "v3"]


async def test_s8_a_serial_backend_gets_one_call_at_a_time(far) -> None:
    backend = far(1.0)
    backend.supports_concurrency = lambda: False
    async with open_engine(concurrency=9) as engine:
        lane = engine.lane(backend)
        assert lane.concurrency == 1
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                await engine.submit(lane, "put", f"{number}", BytesBody(b"x"))
                tasks.start_soon(engine.list, lane)

    assert backend.most_at_once == 1


async def test_a_backend_has_one_lane_and_its_capability_limits_it() -> None:
    backend = MemoryBackend()
    async with open_engine(concurrency=9) as engine:
        assert engine.lane(backend) is engine.lane(backend)
        assert engine.lane(MemoryBackend(), concurrency=2).concurrency == 2


async def test_list_stat_fetch_delete(far) -> None:
    async with open_engine() as engine:
        lane = engine.lane(far())
        await engine.run(lane, "put", "a", BytesBody(b"one"))
        await engine.run(lane, "put_if_absent", "b", BytesBody(b"two"))
        assert [info.name for info in await engine.list(lane)] == ["a", "b"]
        assert (await engine.run(lane, "stat", "b")).size == 3
        assert await engine.fetch(lane, "a") == b"one"
        await engine.run(lane, "delete", "a")
        await engine.run(lane, "delete", "a")
        assert [info.name for info in await engine.list(lane, "a")] == []
        with pytest.raises(PermanentError, match="larger than 2 bytes"):
            await engine.fetch(lane, "b", max_size=2)


async def test_on_stored_is_awaited_inside_the_op(far) -> None:
    noted: list[str] = []

    async def note(info) -> None:
        await anyio.sleep(7)
        noted.append(info.name)

    async with open_engine(concurrency=1) as engine:
        op = await engine.submit(engine.lane(far()), "put", "a", BytesBody(b"1"), on_stored=note)
        assert noted == []
        await op.wait()
        assert noted == ["a"] and anyio.current_time() == 7


async def test_the_end_of_the_block_waits_for_all_ops(far) -> None:
    backend = far(5.0)
    async with open_engine(concurrency=2) as engine:
        for number in range(4):
            await engine.submit(engine.lane(backend), "put", f"{number}", BytesBody(b"x"))

    assert len(backend.inner.inner.store) == 4 and anyio.current_time() == 10


async def test_a_failure_nobody_asked_about_is_raised_at_the_end_as_it_is(far) -> None:
    backend = far()
    error = PermanentError("no")
    backend.script("put", Raise(lambda: error), name="bad")

    with pytest.raises(PermanentError) as caught:
        async with open_engine() as engine:
            await engine.submit(engine.lane(backend), "put", "bad", BytesBody(b"x"))

    assert caught.value is error


async def test_leaving_by_an_exception_cancels_and_raises_it_as_it_is(far, log) -> None:
    backend = far(100.0)
    error = ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        async with open_engine(concurrency=1, events=log.hub) as engine:
            await engine.submit(engine.lane(backend), "put", "a", BytesBody(b"x"))
            await anyio.sleep(1)
            raise error

    assert caught.value is error and anyio.current_time() == 1
    assert backend.calls[0].outcome == "cancelled" and len(log.of(OpCancelled)) == 1


async def test_a_lane_that_gave_up_refuses_what_comes(far) -> None:
    backend = far()
    backend.script("put", Raise(), Raise(), Raise())
    async with open_engine(policy=RetryPolicy(max_attempts=2)) as engine:
        lane = engine.lane(backend)
        with pytest.raises(ConnectionRefusedError):
            await engine.run(lane, "put", "a", BytesBody(b"x"))
        with pytest.raises(LaneUnavailable):
            await engine.fetch(lane, "b")


async def test_x3_drain_takes_nothing_new_and_finishes_what_it_has(far, spooled) -> None:
    backend = far(10.0)

    with pytest.raises(Drained):
        async with open_engine(concurrency=1) as engine, engine.writer(engine.lane(backend)) as writer, anyio.create_task_group() as tasks:

            async def interrupt() -> None:
                await anyio.sleep(1)
                engine.drain()
                engine.drain()

            tasks.start_soon(interrupt)
            try:
                for number in range(10):
                    await writer.put(f"v{number}", await spooled(engine, b"x"))
            except Drained:
                assert anyio.current_time() == 1
                raise

    assert list(backend.inner.inner.store) == ["v0", "v1", "v2"]


async def test_x3_after_drain_submit_refuses(far) -> None:
    async with open_engine() as engine:
        lane = engine.lane(far())
        engine.drain()
        with pytest.raises(Drained):
            await engine.submit(lane, "put", "a", BytesBody(b""))
        with pytest.raises(Drained):
            await engine.spool.new(1)


@pytest.mark.slow
async def test_memory_stays_flat_for_many_ops(far, spooled) -> None:
    """S4: what is queued is bounded, and a finished op lets go of all but its record."""

    class Watched(BytesBody):
        pass

    bodies: list[weakref.ref[Watched]] = []
    backend = far(0.01)
    most = 0
    async with open_engine(concurrency=4) as engine, engine.writer(engine.lane(backend)) as writer:
        for number in range(1000):
            body = Watched(b"x")
            bodies.append(weakref.ref(body))
            await writer.put(f"{number}", body)
            most = max(most, len(engine._runner._unfinished))
        del body

    gc.collect()
    assert most <= 256 and not any(ref() for ref in bodies)


@pytest.mark.slow
async def test_v3_every_start_has_one_end_and_progress_sums_up(log) -> None:
    backend = FaultyBackend(MemoryBackend(), chances=usual_chances(0.3, size=3 << 20))
    async with open_engine(concurrency=4, events=log.hub) as engine:
        lane = engine.lane(backend)
        async with engine.writer(lane) as writer:
            for number in range(40):
                await writer.put(f"v{number:02}", BytesBody(bytes([number]) * (3 << 20)))
        async with engine.read_ordered(lane, [ReadRequest(f"v{number:02}", 3 << 20) for number in range(40)]) as items:
            async for _ in items:
                pass

    starts, ends = log.of(AttemptStarted), log.of(AttemptFinished)
    assert len(starts) > 90 and Counter((e.op, e.attempt) for e in starts) == Counter((e.op, e.attempt) for e in ends)
    moved: Counter[tuple[int, int]] = Counter()
    for event in log.of(Progress):
        moved[event.op, event.attempt] += event.bytes
    assert all(moved[event.op, event.attempt] == event.bytes for event in ends)
    queued = [event.op for event in log.of(OpQueued)]
    finished = [event.op for kind in (OpSucceeded, OpFailed, OpSkipped, OpCancelled) for event in log.of(kind)]
    assert sorted(queued) == sorted(finished) and {e.op for e in log.of(OpStarted)} == set(queued)


async def test_t2_a_slow_body_is_not_the_transports_fault(far) -> None:
    class Slow(BytesBody):
        def open(self, start: int = 0):
            return slow_chunks()

    backend = far()
    async with open_engine(concurrency=1) as engine:
        await engine.run(engine.lane(backend), "put", "a", Slow(b"xy"))

    assert backend.names("put") == ["a"] and anyio.current_time() == 2000


async def test_t1_a_body_that_stops_moving_ends_the_attempt(far) -> None:
    from asyncdup.testing.faults import Stall

    backend = far()
    backend.script("put", Stall(1 << 20))
    async with open_engine() as engine:
        await engine.run(engine.lane(backend), "put", "a", BytesBody(bytes(3 << 20)))

    assert len(backend.names("put")) == 2 and 60 <= anyio.current_time() <= 61


async def test_the_same_body_opens_again_for_each_attempt(far) -> None:
    backend = far()
    backend.script("put", Cut(100), Cut(2 << 20), Raise(lost))
    data = bytes(range(256)) * (1 << 13)
    async with open_engine() as engine:
        await engine.run(engine.lane(backend), "put", "a", BytesBody(data))

    assert backend.inner.inner.store["a"].data == data


def slow_chunks():
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened():
        async def chunks():
            for byte in (b"x", b"y"):
                await anyio.sleep(1000)
                yield byte

        iterator = chunks()
        try:
            yield iterator
        finally:
            await iterator.aclose()

    return opened()
