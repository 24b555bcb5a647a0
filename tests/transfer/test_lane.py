"""The live gate: who starts when, on a clock (G1-G7, B1, B2, B5, S2, S6, S8, K2)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise

import anyio
import pytest

from asyncdup.errors import LaneUnavailable, NotFound, OperatorError, RetryableError
from asyncdup.transfer import Gate, RetryPolicy, call_persistently, current_attempt
from asyncdup.transfer.failure import classify
from asyncdup.transfer.gate import State
from asyncdup.transfer.limits import Level, Memory, Ticket
from asyncdup.transfer.permits import Permit
from asyncdup.transfer.policy import Streak


class World:
    """A service that is down at times. ``starts``: (instant, name) of every attempt; ``most``: attempts at once."""

    def __init__(self, gate: Gate, *, seconds: float = 1.0) -> None:
        self.gate = gate
        self.seconds = seconds
        self.down: Callable[[], Exception | None] = lambda: None
        self.starts: list[tuple[float, str]] = []
        self.done: list[str] = []
        self.failed: dict[str, Exception] = {}
        self.running = self.most = 0
        self._numbers = 0

    async def attempt(self, name: str) -> None:
        self.starts.append((anyio.current_time(), name))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if error := self.down():
                raise error
            await anyio.sleep(self.seconds)
            if error := self.down():
                raise error
            current_attempt().progress(1)
        finally:
            self.running -= 1

    async def op(self, name: str, verb: str = "put", level: Level = Level.DATA, memory: int = 0) -> None:
        self._numbers += 1
        ticket = Ticket(verb, name, self._numbers, level, memory)
        try:
            await call_persistently(partial(self.attempt, name), gate=self.gate, op=ticket)
            self.done.append(name)
        except Exception as error:
            self.failed[name] = error

    async def run(self, *ops: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as tasks:
            for op in ops:
                tasks.start_soon(op)


def lane_down(*, throttle: bool = False, retry_after: float | None = None) -> RetryableError:
    error = RetryableError("down", scope="lane", throttle=throttle, retry_after=retry_after)
    error.__cause__ = ConnectionRefusedError("refused")
    return error


def outage(start: float, end: float, **options: float | None) -> Callable[[], Exception | None]:
    return lambda: lane_down(**options) if start <= anyio.current_time() < end else None


def many(world: World, count: int) -> list[Callable[[], Awaitable[None]]]:
    return [partial(world.op, f"v{number}") for number in range(count)]


async def test_g1_one_probe_at_a_time_during_an_outage() -> None:
    world = World(Gate(limit=8, rng=random.Random(7)))
    world.down = outage(2.5, 600)

    await world.run(*many(world, 40))

    probes = [at for at, _ in world.starts if 3.1 < at < 600]
    assert len(world.done) == 40
    assert 15 < len(probes) < 60 and len(set(probes)) == len(probes)


async def test_g3_slow_start_doubles_with_progress() -> None:
    world = World(Gate(limit=8, rng=random.Random(7)))
    world.down = outage(0.5, 20)

    await world.run(*many(world, 60))

    recovered = [at for at, _ in world.starts if at > 20]
    probe = recovered[0]
    waves = [sum(probe + wave <= at < probe + wave + 1 for at in recovered) for wave in range(5)]
    assert waves == [1, 1, 2, 4, 8]
    assert world.most == 8


async def test_g2_b2_retry_after_holds_the_whole_lane_even_after_a_success() -> None:
    gate = Gate(limit=2)
    world = World(gate, seconds=10)
    answers = iter([lane_down(retry_after=60)])

    async def throttled() -> None:
        await anyio.sleep(1)
        if error := next(answers, None):
            raise error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(world.op, "in flight"))
        tasks.start_soon(partial(call_persistently, throttled, gate=gate, op="put x"))
        await anyio.sleep(5)
        tasks.start_soon(partial(world.op, "late"))

    assert world.done == ["in flight", "late"]
    assert 61 <= world.starts[1][0] <= 61 + 6.5 + 11


async def test_g2_a_success_in_flight_ends_a_backoff() -> None:
    gate = Gate(RetryPolicy.fixed(5, 1000), limit=2)
    world = World(gate, seconds=10)
    errors = iter([lane_down()])

    async def fails_once() -> None:
        if error := next(errors, None):
            raise error

    await world.run(partial(world.op, "in flight"), partial(call_persistently, fails_once, gate=gate, op="put x"))

    assert anyio.current_time() == 10


async def test_g5_fail_raises_each_ops_own_cause_and_lane_unavailable_for_the_rest() -> None:
    """B5: an op that was never attempted gets LaneUnavailable from the lane's root cause."""
    world = World(Gate(RetryPolicy(max_attempts=4), limit=2, rng=random.Random(1)))
    world.down = outage(0, 10_000)

    await world.run(*many(world, 5))

    assert world.gate.state is State.STOPPED
    tried = {name for _, name in world.starts}
    assert all(isinstance(world.failed[name], ConnectionRefusedError) for name in tried)
    assert {type(world.failed[name]) for name in world.failed.keys() - tried} == {LaneUnavailable}
    assert all(isinstance(world.failed[name].__cause__, ConnectionRefusedError) for name in world.failed.keys() - tried)


async def test_b1_attempts_that_were_in_flight_together_are_one_failure_of_the_lane() -> None:
    world = World(Gate(RetryPolicy.fixed(5, 30), limit=5))
    world.down = outage(0.5, 40)

    await world.run(*many(world, 5))

    assert len(world.done) == 5 and not world.failed


async def test_b1_failures_of_a_probe_are_the_lanes_and_not_the_ops() -> None:
    """A probe may fail more often than an op may; what counts is the time without success."""
    world = World(Gate(RetryPolicy(max_attempts=0, max_elapsed=3000), limit=1))
    world.down = outage(0, 2000)

    await world.run(partial(world.op, "v1"))

    assert world.done == ["v1"]


async def test_b5_the_lanes_clock_begins_with_the_attempt_that_failed_first() -> None:
    """Not with the lane, nor with its last success long ago."""
    world = World(Gate(RetryPolicy(max_elapsed=100), limit=1))
    world.down = outage(1000, 1060)

    async def late() -> None:
        await anyio.sleep(1000)
        await world.op("v1")

    await world.run(late)
    assert world.done == ["v1"] and len(world.starts) > 2


async def test_b5_a_pause_does_not_count_as_elapsed() -> None:
    gate = Gate(RetryPolicy(max_elapsed=100), limit=1)
    world = World(gate)
    world.down = outage(0, 1050)

    async def pause() -> None:
        await anyio.sleep(20)
        gate.pause("command")
        await anyio.sleep(1000)
        gate.unpause("command")

    await world.run(pause, partial(world.op, "v1"))

    assert world.done == ["v1"]
    assert not any(20 < at < 1020 for at, _ in world.starts)


async def test_g5_wait_never_gives_up_and_probes_slowly() -> None:
    world = World(Gate(RetryPolicy(mode="wait"), limit=4, rng=random.Random(3)))
    world.down = outage(0, 100_000)

    await world.run(*many(world, 8))

    assert len(world.done) == 8
    late = [at for at, _ in world.starts if 2000 < at < 100_000]
    assert all(150 <= later - earlier <= 300 for earlier, later in pairwise(late))


async def test_g6_g7_intervention_holds_the_lane_until_resumed() -> None:
    gate = Gate(RetryPolicy(mode="intervention", max_attempts=3), limit=4, rng=random.Random(5))
    world = World(gate)
    world.down = outage(0, 5000)

    async def operator() -> None:
        while gate.state is not State.WAITING:
            await gate.wait_change()
        first, seen = gate.episode, len(world.starts)
        await anyio.sleep(1000)
        assert len(world.starts) == seen, "G6: no probes by itself"
        gate.resume()
        await anyio.sleep(1)
        assert gate.state is State.WAITING and gate.episode == first, "G4: the same episode"
        assert len(world.starts) == seen + 1, "R2: one probe"
        await anyio.sleep(5000)
        gate.resume()
        gate.resume()

    await world.run(operator, *many(world, 20))

    assert len(world.done) == 20 and gate.state is State.RUNNING and gate.episode == ""


async def test_g7_a_resume_clears_the_streaks() -> None:
    gate = Gate(RetryPolicy(mode="intervention", max_attempts=2), limit=1)
    errors = [RetryableError(f"{number}") for number in range(4)]
    waits = 0

    async def txn() -> str:
        if len(errors) == 1 and gate.state is State.RUNNING:
            raise errors.pop()
        if errors:
            raise errors.pop()
        return "done"

    async def operator() -> None:
        nonlocal waits
        while True:
            if gate.state is State.WAITING:
                waits += 1
                gate.resume()
            await gate.wait_change()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        assert await call_persistently(txn, gate=gate) == "done"
        tasks.cancel_scope.cancel()

    assert waits >= 2


async def test_k2_an_op_that_gives_up_holds_the_lane_in_mode_intervention() -> None:
    gate = Gate(RetryPolicy(mode="intervention", max_attempts=2), limit=2)
    gate_states: list[State] = []

    async def bad_object() -> None:
        if gate.resumes == 0:
            raise RetryableError("this one object", scope="op")

    async def operator() -> None:
        while gate.state is not State.WAITING:
            await gate.wait_change()
        gate_states.append(gate.state)
        gate.resume()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        await call_persistently(bad_object, gate=gate)

    assert gate_states == [State.WAITING]


async def test_space_lets_gets_and_deletes_pass() -> None:
    gate = Gate(RetryPolicy(mode="intervention"), limit=2)
    world = World(gate)
    full = [OperatorError("full", space=True)]

    async def put() -> str:
        if full:
            raise full[0]
        return "stored"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(call_persistently, put, gate=gate, op=Ticket("put", "vol")))
        await anyio.sleep(1)
        await world.run(partial(world.op, "old", "get"), partial(world.op, "older", "delete"))
        assert gate.state is State.WAITING, "G2: only a put's success ends it, and only a person WAITING"
        full.clear()
        gate.resume()

    assert gate.state is State.RUNNING and set(world.done) == {"old", "older"}


async def test_a_cancelled_probe_lets_the_next_op_probe() -> None:
    gate = Gate(limit=2)
    world = World(gate, seconds=10)
    world.down = outage(0, 1)
    scope = anyio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await world.op("first")

    async def cancel() -> None:
        while not world.running or anyio.current_time() < 1:
            await anyio.sleep(0.1)
        scope.cancel()

    await world.run(cancelled, partial(world.op, "second"), cancel)

    assert world.done == ["second"]


async def test_not_found_is_an_answer_so_a_probe_that_gets_it_opens_the_gate() -> None:
    gate = Gate(limit=1)
    errors: list[Exception] = [NotFound("gone"), lane_down()]

    async def txn() -> None:
        raise errors.pop()

    with pytest.raises(NotFound):
        await call_persistently(txn, gate=gate)

    assert gate.state is State.RUNNING


async def test_s2_backoff_gives_its_slot_back() -> None:
    gate = Gate(RetryPolicy.fixed(5, 100), limit=1)
    world = World(gate)
    errors = [RetryableError("this object only")]

    async def fails_once() -> None:
        if errors:
            raise errors.pop()

    await world.run(partial(call_persistently, fails_once, gate=gate), *many(world, 5))

    assert [at for at, _ in world.starts] == [0, 1, 2, 3, 4]


async def test_s6_control_goes_first_and_beside_the_slots() -> None:
    world = World(Gate(limit=1))

    async def late(number: int, name: str, level: Level) -> None:
        await anyio.sleep(0.5 + number / 100)
        await world.op(name, "put" if level is Level.DATA else "stat", level)

    arrivals = [("d", Level.DATA), ("m", Level.HEAD), ("c0", Level.CONTROL), ("c1", Level.CONTROL), ("c2", Level.CONTROL)]
    await world.run(partial(world.op, "v"), *(partial(late, number, *arrival) for number, arrival in enumerate(arrivals)))

    assert world.starts == [(0, "v"), (0.52, "c0"), (0.53, "c1"), (1, "m"), (1.52, "c2"), (2, "d")]
    assert world.most == 3


async def test_s8_a_serial_lane_makes_one_call_at_a_time_whatever_its_level() -> None:
    world = World(Gate(limit=9, serial=True))

    await world.run(*many(world, 4), *(partial(world.op, f"c{n}", "stat", Level.CONTROL) for n in range(4)))

    assert world.most == 1 and len(world.done) == 8


async def test_s3_memory_is_shared_by_lanes_and_one_large_item_runs_alone() -> None:
    memory = Memory(100)
    one, two = (World(Gate(limit=9, memory=memory)) for _ in range(2))
    used: list[int] = []

    async def watch() -> None:
        while memory.used or not used:
            used.append(memory.used)
            await anyio.sleep(0.5)

    small = [partial(world.op, f"v{n}", memory=40) for world in (one, two) for n in range(4)]
    await one.run(*small, partial(one.op, "large", memory=500), *(partial(two.op, f"w{n}", memory=40) for n in range(4)), watch)

    assert len(one.done) + len(two.done) == 13
    assert max(used) == 500 and {size for size in used if size < 500} <= {0, 40, 80}


async def test_s9_lowering_ends_nothing_and_raising_takes_effect_at_once() -> None:
    gate = Gate(limit=4)
    world = World(gate, seconds=10)

    async def change() -> None:
        await anyio.sleep(1)
        gate.set_limit(1)
        await anyio.sleep(10)
        gate.set_limit(3)

    await world.run(*many(world, 8), change)

    assert [at for at, _ in world.starts] == [0, 0, 0, 0, 10, 11, 11, 20]


@pytest.mark.parametrize("mode", ["wait", "intervention"])
@pytest.mark.parametrize("scope", ["op", "lane"])
async def test_space_what_passes_a_closed_gate_and_fails_does_not_run_in_circles(mode: str, scope: str) -> None:
    gate = Gate(RetryPolicy(mode=mode, max_attempts=3), limit=2, rng=random.Random(1))
    full = [OperatorError("full", space=True)]
    tries: list[float] = []

    async def put() -> None:
        if full:
            raise full[0]

    async def get() -> None:
        tries.append(anyio.current_time())
        if anyio.current_time() < 5000:
            raise RetryableError("no", scope=scope)

    async def operator() -> None:
        await anyio.sleep(10_000)
        full.clear()
        gate.resume()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(call_persistently, put, gate=gate, op=Ticket("put", "vol")))
        await anyio.sleep(1)
        tasks.start_soon(partial(call_persistently, get, gate=gate, op=Ticket("get", "old", 1)))
        tasks.start_soon(operator)

    assert len(tries) < 60 and gate.state is State.RUNNING


async def test_g1_an_earlier_probe_that_still_runs_is_no_probe_any_more() -> None:
    """A success in flight opens the gate beside the probe, then it closes again: another op probes, and what the first one does is no matter."""
    gate = Gate(RetryPolicy.fixed(9, 10), limit=4)
    down = classify(lane_down())
    assert down is not None

    async def enter(name: str) -> Permit:
        permit = await gate.enter(Ticket("put", name))
        assert permit is not None
        return permit

    one, two, three = [await enter(name) for name in ("one", "two", "three")]
    gate.failed(one, down, Streak(), gate.policy)
    gate.release(one)
    first_probe = await enter("first probe")
    gate.succeeded(two)
    gate.release(two)
    gate.failed(three, down, Streak(), gate.policy)
    gate.release(three)
    second_probe = await enter("second probe")
    assert gate.state is State.PROBING

    gate.ended(first_probe, ValueError("its own trouble"))
    gate.release(first_probe)
    with anyio.move_on_after(1000):
        await enter("a third at once")
        raise AssertionError
    gate.succeeded(second_probe)
    gate.release(second_probe)

    assert gate.state is State.RUNNING and gate.running == gate.waiting == 0


@pytest.mark.parametrize("mode", ["fail", "intervention"])
async def test_b3_an_op_that_fails_as_if_the_lane_did_is_given_up_though_others_succeed(mode: str) -> None:
    """Found by tests/torture: every put of one object was refused, and the sign of life of the lock, every 10 minutes, kept the lane young."""
    world = World(gate := Gate(RetryPolicy(mode=mode), rng=random.Random(3)))  # type: ignore[arg-type]
    attempt = world.attempt

    async def picky(name: str) -> None:
        if name == "poison":
            world.starts.append((anyio.current_time(), name))
            raise lane_down()
        await attempt(name)

    world.attempt = picky  # type: ignore[method-assign]

    async def others() -> None:
        for number in range(20):
            await anyio.sleep(600)
            await world.op(f"sign{number}")

    with anyio.move_on_after(5000):
        await world.run(partial(world.op, "poison"), others)

    last = max(instant for instant, name in world.starts if name == "poison")
    assert 900 <= last < 2500
    assert isinstance(world.failed.get("poison"), ConnectionRefusedError) if mode == "fail" else gate.state is State.WAITING
