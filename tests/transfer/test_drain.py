"""A drain waits for nothing that nobody knows the end of (X3, G6): what is in flight ends, what waits is refused, and the run can be begun again."""

from __future__ import annotations

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import Drained, exit_code_of
from asyncdup.events import AttemptStarted, Blocked, EpisodeClosed, EpisodeOpened, Unblocked
from asyncdup.testing.faults import Delay, Raise, auth_lost, disk_full, lost, refused
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.transfer import Engine, Intervention, RetryPolicy, open_engine
from asyncdup.transfer.ordered import Writer

INTERVENTION = RetryPolicy(mode="intervention")


def waiting(tmp_path, log, **options) -> object:
    return open_engine(policy=INTERVENTION, intervention=Intervention(flag=tmp_path / "flag"), events=log.hub, **options)


@pytest.mark.parametrize("when", ["before", "while it waits"])
async def test_x3_a_drain_does_not_wait_for_the_operator(far, log, tmp_path, when: str) -> None:
    """The drain may come before or after the failure; what was in flight is stored, nothing starts, the flag goes."""
    backend: FaultyBackend = far(1.0)
    backend.script("put", *[Raise(auth_lost)] * 9, name="b*")
    backend.script("put", Delay(50), name="a")

    with pytest.raises(Drained) as caught, anyio.fail_after(100):
        async with waiting(tmp_path, log, concurrency=2) as engine:
            lane = engine.lane(backend)
            async with engine.writer(lane) as writer:
                for name in ("a", "b1", "b2", "b3"):
                    await writer.put(name, BytesBody(b"x"))
                if when != "before":
                    await anyio.sleep(10)
                    assert (lane.gate.state.name, (tmp_path / "flag").exists()) == ("WAITING", True)
                engine.drain()

    assert exit_code_of(caught.value) == 60
    assert "waited for the operator" in str(caught.value) and caught.value.hint == "renew the credentials"
    assert 50 < anyio.current_time() < 53, "what was in flight has ended, and nothing else was waited for"
    assert list(backend.inner.inner.store) == ["a"]
    assert [event.by for event in log.of(EpisodeClosed)] == ["drain"] and len(log.of(EpisodeOpened)) == 1
    assert {event.name for event in log.of(AttemptStarted)} == {"a", "b1"}
    assert not (tmp_path / "flag").exists()


async def test_x3_a_drain_ends_a_producer_that_the_spool_bound_holds(far, log, tmp_path, spooled) -> None:
    backend: FaultyBackend = far()
    backend.script("put", *[Raise(auth_lost)] * 9)

    async def drain(engine: Engine) -> None:
        await anyio.sleep(100)
        engine.drain()

    async def produce(writer: Writer, engine: Engine) -> None:
        for number in range(9):
            await writer.put(f"v{number}", await spooled(engine, b"x"))

    with pytest.raises(Drained):
        async with waiting(tmp_path, log, concurrency=1) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(drain, engine)
            async with engine.writer(engine.lane(backend)) as writer:
                await produce(writer, engine)

    assert anyio.current_time() < 102
    assert engine.statistics().spool_files == 0
    assert list(tmp_path.iterdir()) == []


async def test_x3_a_lane_that_works_is_drained_to_its_end_beside_one_that_waits(far, log, tmp_path) -> None:
    """G6: other lanes are not touched."""
    full, well = far(1.0), far(10.0)
    full.script("put", *[Raise(disk_full)] * 9)

    with pytest.raises(Drained):
        async with waiting(tmp_path, log, concurrency=1) as engine:
            ops = [await engine.submit(engine.lane(well), "put", name, BytesBody(b"x")) for name in "abc"]
            await engine.submit(engine.lane(full), "put", "z", BytesBody(b"x"))
            await anyio.sleep(5)
            engine.drain()
            for op in ops:
                await op.result()

    assert list(well.inner.inner.store) == ["a", "b", "c"]


async def test_x3_what_a_full_disk_lets_pass_is_finished_first(far, log, tmp_path) -> None:
    """The gate is closed for puts only: the fetch that was accepted still gets through."""
    store = MemoryBackend()
    await store.put("old", BytesBody(b"here"))
    backend = FaultyBackend(store)
    backend.script("put", *[Raise(disk_full)] * 9)
    backend.script("get", Delay(20))

    with pytest.raises(Drained):
        async with waiting(tmp_path, log) as engine:
            lane = engine.lane(backend)
            await engine.submit(lane, "put", "new", BytesBody(b"x"))
            await anyio.sleep(1)
            read = await engine.submit(lane, "get", "old")
            engine.drain()
            assert await read.result() == b"here"


async def test_x3_a_drain_is_no_hindrance_to_a_backoff(far, log) -> None:
    """Only the operator is not waited for: what passes by itself is got over, and what was accepted is stored."""
    backend: FaultyBackend = far(1.0)
    backend.script("put", *[Raise()] * 4)

    async with open_engine(concurrency=1, events=log.hub, policy=INTERVENTION) as engine:
        ops = [await engine.submit(engine.lane(backend), "put", name, BytesBody(b"x")) for name in "ab"]
        engine.drain()
        for op in ops:
            await op.result()

    assert list(backend.inner.inner.store) == ["a", "b"]


@pytest.mark.parametrize("when", ["before", "while it is paused"])
async def test_x3_a_drain_does_not_wait_for_the_end_of_a_pause(far, log, when: str) -> None:
    """Nothing starts (S2), what runs ends, and nobody has to remember the pause."""
    backend: FaultyBackend = far(10.0)

    with pytest.raises(Drained, match="told to end while it was paused") as caught:
        async with open_engine(concurrency=1, events=log.hub) as engine, engine.writer(engine.lane(backend)) as writer:
            for name in "abc":
                await writer.put(name, BytesBody(b"x"))
            await anyio.sleep(1)
            for step in (engine.drain, engine.pause) if when == "before" else (engine.pause, engine.drain):
                step()
                await anyio.sleep(1)

    assert exit_code_of(caught.value) == 60
    assert 10 <= anyio.current_time() < 11 and list(backend.inner.inner.store) == ["a"]
    assert [event.what for event in log.of(Blocked) if event.what == "gate"] == [
        event.what for event in log.of(Unblocked) if event.what == "gate"
    ]


async def test_x3_a_pause_of_an_idle_lane_ends_a_drain(far) -> None:
    """The op comes to the gate after both: it followed another lane's."""
    slow, paused = far(10.0), far()
    with pytest.raises(Drained, match="paused"):
        async with open_engine() as engine:
            first = await engine.submit(engine.lane(slow), "put", "a", BytesBody(b"x"))
            await engine.submit(lane := engine.lane(paused), "put", "b", BytesBody(b"x"), after=[first])
            engine.drain()
            lane.gate.pause()

    assert "a" in slow.inner.inner.store and paused.calls == []


@pytest.mark.parametrize("drained", [0, 10_000])
@pytest.mark.parametrize(("trouble", "patience"), [(refused, 100), (lost, 100), (auth_lost, 0)], ids=["lane", "op", "person"])
async def test_x3_g5_a_drain_ends_what_mode_wait_repeats_for_ever(far, log, trouble, patience: int, drained: int) -> None:
    """Not before another mode would have given up."""
    backend: FaultyBackend = far(1.0)
    backend.script("put", *[Raise(trouble)] * 10_000, name="b")
    policy = RetryPolicy(mode="wait", max_elapsed=100)

    with pytest.raises(Drained, match="told to end while it was tried again without end"), anyio.fail_after(20_000):
        async with open_engine(concurrency=2, events=log.hub, policy=policy) as engine, engine.writer(engine.lane(backend)) as writer:
            await writer.put("b", BytesBody(b"x"))
            await anyio.sleep(drained)
            engine.drain()

    assert max(drained, patience) <= anyio.current_time() <= max(drained + 2, 2 * patience)
    assert backend.inner.inner.store == {}


async def test_x3_in_mode_wait_a_drain_is_no_hindrance_to_what_passes_by_itself(far) -> None:
    backend: FaultyBackend = far(1.0)
    backend.script("put", *[Raise(refused)] * 4)

    async with open_engine(policy=RetryPolicy(mode="wait")) as engine:
        op = await engine.submit(engine.lane(backend), "put", "a", BytesBody(b"x"))
        engine.drain()
        await op.result()

    assert list(backend.inner.inner.store) == ["a"]
