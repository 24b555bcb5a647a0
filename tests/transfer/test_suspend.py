"""T6: a machine that has slept. In-flight attempts end without counting as failures, one probe goes first, idle connections are not trusted."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from asyncdup.backends.base import SupportsLocalFiles
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import AttemptFinished, AttemptStarted, EpisodeOpened, GateChanged, RetryScheduled, SuspendDetected
from asyncdup.testing.faults import Raise, auth_lost
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import RetryPolicy, open_engine
from asyncdup.transfer.gate import State
from asyncdup.transfer.suspend import LEAST, slept, watch

ONCE = RetryPolicy(max_attempts=1, max_elapsed=0)  # any failure that counts ends it after one retry


class Machine:
    def __init__(self) -> None:
        self.asleep = 1000.0

    def __call__(self) -> float:
        return self.asleep


class Connected(SlowBackend):
    """Counts how often its connections were dropped."""

    dropped = 0

    def drop_connections(self) -> None:
        self.dropped += 1


async def test_t6_only_more_than_five_seconds_at_once_count() -> None:
    machine, told = Machine(), list[float]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, machine, told.append)
        for seconds in (0.0, 1.0, LEAST, LEAST + 0.5, 0.0, 3600.0):
            await anyio.sleep(10)
            machine.asleep += seconds
        await anyio.sleep(10)
        tasks.cancel_scope.cancel()

    assert told == [LEAST + 0.5, 3600.0]


def test_t6_the_kernel_tells_how_long_it_slept() -> None:
    assert slept() >= -1e-3 and abs(slept() - slept()) < LEAST


async def test_t6_what_is_in_flight_begins_anew_behind_one_probe_and_counts_as_no_failure(log) -> None:
    machine, backend = Machine(), SlowBackend(MemoryBackend(), latency=30.0)
    async with open_engine(concurrency=4, policy=ONCE, events=log.hub, asleep=machine) as engine:
        lane = engine.lane(backend)
        ops = [await engine.submit(lane, "put", f"{number}", BytesBody(b"x")) for number in range(4)]
        for _ in range(3):  # a laptop that is opened and closed: far more often than the policy has attempts
            await anyio.sleep(10)
            machine.asleep += 600
        await anyio.sleep(5)
        assert lane.gate.state is State.PROBING and lane.gate.running == 1
        for op in ops:
            await op.result()

    assert [event.seconds for event in log.of(SuspendDetected)] == [600.0] * 3
    assert log.of(RetryScheduled) == [], "no failure was counted, nothing was slept for"
    assert [event.state for event in log.of(GateChanged)] == ["PROBING", "RUNNING", "STOPPED"]
    begun = [event.t for event in log.of(AttemptStarted)]
    assert len(begun) == 4 + 1 + 1 + 1 + 3, "one probe each time, then the rest"
    assert sum(event.outcome == "error" for event in log.of(AttemptFinished)) == 4 + 1 + 1


async def test_t6_idle_connections_are_dropped_and_the_next_op_is_the_probe() -> None:
    machine, backend = Machine(), Connected(MemoryBackend(), latency=1.0)
    async with open_engine(asleep=machine) as engine:
        lane = engine.lane(backend)
        await engine.run(lane, "put", "a", BytesBody(b"x"))
        machine.asleep += 60
        await anyio.sleep(5)
        assert backend.dropped == 1 and lane.gate.state is State.PROBING
        await engine.run(lane, "put", "b", BytesBody(b"x"))
        assert lane.gate.state is State.RUNNING


async def test_t6_a_wait_for_the_operator_goes_on(log) -> None:
    """G2, G6: only a person ends it."""
    machine, backend = Machine(), FaultyBackend(SlowBackend(MemoryBackend(), latency=1.0))
    backend.script("put", Raise(auth_lost))
    async with open_engine(policy=RetryPolicy(mode="intervention"), events=log.hub, asleep=machine) as engine:
        lane = engine.lane(backend)
        op = await engine.submit(lane, "put", "a", BytesBody(b"x"))
        await anyio.sleep(10)
        machine.asleep += 60
        await anyio.sleep(10)
        assert lane.gate.state is State.WAITING
        engine.resume()
        await op.result()

    assert len(log.of(EpisodeOpened)) == 1


async def test_t6_files_of_this_machine_are_not_disturbed(far: Callable[[float], FaultyBackend], log, tmp_path) -> None:
    class Local(SlowBackend):
        def local_file(self, name: str) -> object:
            raise FileNotFoundError(name)

    backend, machine = Local(MemoryBackend(), latency=30.0), Machine()
    assert isinstance(backend, SupportsLocalFiles)
    async with open_engine(events=log.hub, asleep=machine) as engine:
        op = await engine.submit(engine.lane(backend), "put", "a", BytesBody(b"x"))
        await anyio.sleep(10)
        machine.asleep += 60
        await op.result()

    assert [event.outcome for event in log.of(AttemptFinished)] == ["ok"] and len(log.of(SuspendDetected)) == 1
