"""Second attempts at late gets (H1, H2, H3)."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import NotFound, OperatorError, RetryableError
from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    GateChanged,
    HedgeDenied,
    HedgeLost,
    HedgeStarted,
    HedgeWon,
    OpSucceeded,
    Progress,
)
from asyncdup.observe.summary import Summary
from asyncdup.observe.trace import Trace
from asyncdup.transfer import Gate, ReadRequest, RetryPolicy, call_persistently, open_engine
from asyncdup.transfer.gate import State
from asyncdup.transfer.limits import Memory, Ticket
from asyncdup.transfer.patience import BURST, ENOUGH, SHARE, Patience

COUNT = 20
SIZE = 1000
USUAL = 0.2  # seconds of a get
LATE = 30.0
HEDGES = (HedgeStarted, HedgeWon, HedgeLost, HedgeDenied)

Answer = float | Exception | bytes  # seconds that a get takes, what it raises after USUAL, or what it gives instead after that


def data_of(number: int) -> bytes:
    return bytes([number % 256]) * SIZE


class Odd(MemoryBackend):
    """Each get takes its time. ``answers``: by name, to the first get, the second, ..."""

    def __init__(self, *answers: tuple[int, list[Answer]], usual: Callable[[], float] = lambda: USUAL) -> None:
        super().__init__()
        self.answers = {f"v{number}": list(each) for number, each in answers}
        self.gets: list[str] = []
        self.now_running = self.most_running = 0
        self.usual = usual

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        self.gets.append(name)
        answer = left.pop(0) if (left := self.answers.get(name)) else self.usual()
        self.now_running += 1
        self.most_running = max(self.most_running, self.now_running)
        try:
            async with super().get(name, start=start, length=length) as chunks:
                yield self._slowly(chunks, answer)
        finally:
            self.now_running -= 1

    async def _slowly(self, chunks: AsyncIterator[bytes], answer: Answer) -> AsyncGenerator[bytes, None]:
        data = b"".join([chunk async for chunk in chunks])
        seconds = answer if isinstance(answer, float) else USUAL
        await anyio.sleep(seconds / 2)
        if isinstance(answer, Exception):
            raise answer
        yield data[: SIZE // 2]
        await anyio.sleep(seconds / 2)
        yield data[SIZE // 2 :] if isinstance(answer, float) else answer


async def filled(backend, count: int = COUNT):
    for number in range(count):
        await backend.put(f"v{number}", BytesBody(data_of(number)))
    return backend


def requests(count: int = COUNT) -> list[ReadRequest]:
    return [ReadRequest(f"v{n}", SIZE, {"sha1": hashlib.sha1(data_of(n)).hexdigest()}) for n in range(count)]


async def read(backend, log, *, count: int = COUNT, concurrency: int = 4, hedge: bool = True, work: float = 0.0, **options) -> list[float]:
    """Read all; how long the consumer waited for each."""
    await filled(backend, count)
    waits = []
    async with open_engine(concurrency=concurrency, events=log.hub, **options) as engine:
        lane = engine.lane(backend)
        async with engine.read_ordered(lane, requests(count), hedge=hedge) as items:
            began = anyio.current_time()
            async for item in items:
                waits.append(anyio.current_time() - began)
                assert item.path.read_bytes() == data_of(int(item.name[1:]))
                await anyio.sleep(work)
                began = anyio.current_time()
        assert list(engine.spool.folder.iterdir()) == []
        assert lane.gate.running == lane.gate.waiting == engine.statistics().memory == engine.statistics().spool_files == 0
    assert len(waits) == count
    return waits


async def test_h1_h3_a_late_head_is_asked_for_again_and_the_sooner_answer_wins(log) -> None:
    backend = Odd((14, [LATE]))
    waits = await read(backend, log)

    assert max(waits) < 1.0 + 0.25 + USUAL + 0.01, "a second, the next look, and the get itself"
    assert backend.gets.count("v14") == 2 and len(backend.gets) == COUNT + 1
    assert [(type(event), event.name, event.attempt) for event in log.of(HEDGES)] == [(HedgeStarted, "v14", 2), (HedgeWon, "v14", 2)]


async def test_h1_off_unless_asked_for(log) -> None:
    backend = Odd((14, [LATE]))
    assert max(await read(backend, log, hedge=False)) > LATE - 2
    assert len(backend.gets) == COUNT and not log.of(HEDGES)


async def test_h1_only_the_head_is_hedged(log) -> None:
    """Behind it lies one that is as late, and that nobody waits for yet."""
    backend = Odd((14, [5.0, 5.0]), (15, [LATE]))
    await read(backend, log)
    started = {event.name: event.t for event in log.of(HedgeStarted)}
    ended = {event.name: event.t for event in log.of(OpSucceeded)}
    assert started["v15"] >= ended["v14"]


async def test_h1_not_before_a_second_nor_before_19_of_20_of_its_class_were_over(log) -> None:
    quick, slow = Odd((14, [LATE])), Odd((14, [LATE]), usual=lambda: 3.0)
    for backend, least in ((quick, 1.0), (slow, 3.0)):
        await read(backend, log)
        (event,) = (event for event in log.of(HedgeStarted) if event.lane == backend.description)
        assert least <= event.late <= 2 * least + 0.5
        log.events.clear()


async def test_h1_nothing_is_late_while_little_is_known(log) -> None:
    backend = Odd((ENOUGH - 5, [LATE]))
    assert max(await read(backend, log)) > LATE - 2 and not log.of(HEDGES)


async def test_h1_no_hedge_while_others_want_the_slots(log) -> None:
    """Four long puts: three have the other slots, and one waits."""

    class Busy(Odd):
        async def put(self, name, body):
            if name.startswith("w"):
                await anyio.sleep(LATE)
            return await super().put(name, body)

    backend = await filled(Busy((14, [8.0])))
    async with open_engine(concurrency=4, events=log.hub) as engine:
        lane = engine.lane(backend)
        async with engine.read_ordered(lane, requests(), hedge=True) as items:
            for _ in range(14):
                await anext(items)
            for number in range(4):
                await engine.submit(lane, "put", f"w{number}", BytesBody(b"x"))
            await anext(items)
    assert not log.of(HedgeStarted)


@pytest.mark.parametrize(("late", "hedged"), [(6, False), (4, True)])
async def test_h1_not_while_most_of_those_that_run_beside_it_are_as_late(log, late: int, hedged: bool) -> None:
    """Eight others are under way. Two slots are free and more: if most of the others are slow, it is the link, and no straggler."""
    backend = Odd(*((number, [8.0]) for number in range(14, 14 + late)))
    await read(backend, log, count=30, concurrency=8)
    assert bool(log.of(HedgeStarted)) is hedged


async def test_h2_two_at_once_and_a_twentieth_in_the_long_run(log) -> None:
    """Every third get is late: no more than the budget allows are asked for twice, the others are denied, and nothing fails."""
    count = 300
    backend = Odd(*((number, [4.0]) for number in range(30, count, 3)), usual=lambda: 0.05)
    await read(backend, log, count=count)
    hedges, denied = log.of(HedgeStarted), log.of(HedgeDenied)
    assert 0 < len(hedges) <= BURST + SHARE * count and denied
    assert len(backend.gets) <= count + BURST + SHARE * count
    assert len({event.op for event in denied}) == len(denied), "once for each"


def test_h2_the_budget_counts_requests_and_bytes() -> None:
    patience = Patience()
    for _ in range(1000):
        patience.note(100, 0.1)
    for _ in range(BURST):
        assert patience.affords(100)
        patience.spend(100)
    assert not patience.affords(100), "none are saved up beyond the burst"
    for _ in range(21):
        patience.note(100, 0.1)
    assert patience.affords(100)
    assert not patience.affords(20_000), "a twentieth of the bytes is 5 kB so far"


async def test_h2_none_within_30_s_of_a_throttle(log) -> None:
    backend = Odd((14, [60.0]), (16, [RetryableError("SlowDown", throttle=True)]))
    await read(backend, log)
    (failed,) = (event.t for event in log.of(AttemptFinished) if event.outcome == "error")
    (hedge,) = log.of(HedgeStarted)
    assert failed + 30 <= hedge.t <= failed + 31


async def test_h2_none_while_the_gate_is_not_running(log) -> None:
    backend = Odd((14, [20.0]), (16, [RetryableError("503", scope="lane")] * 3))
    await read(backend, log, policy=RetryPolicy(base=10.0, cap=10.0), rng=random.Random(4))
    states = [(event.t, event.state) for event in log.of(GateChanged) if event.state != "STOPPED"]
    assert states[-1][0] > 3
    for event in log.of(HedgeStarted):
        assert event.t >= states[-1][0], "the gate is open again"


async def test_h2_none_while_paused(log) -> None:
    backend = await filled(Odd((14, [8.0])))
    async with (
        open_engine(concurrency=4, events=log.hub) as engine,
        engine.read_ordered(engine.lane(backend), requests(), hedge=True) as items,
    ):
        for _ in range(14):
            await anext(items)
        engine.pause()
        await anext(items)
        engine.unpause()
    assert not log.of(HedgeStarted)


@pytest.mark.parametrize("how", ["serial", "inline", "opaque", "unknown size"])
async def test_h2_never_where_it_cannot_help(log, how: str) -> None:
    """S8; S1; T5: a call in a thread goes on; and what a hedge of unknown size costs, nobody knows."""
    backend = await filled(Odd((14, [8.0])))
    if how == "serial":
        backend.supports_concurrency = lambda: False  # type: ignore[method-assign]
    if how == "opaque":
        backend.wait_idle = lambda: anyio.sleep(0)  # type: ignore[attr-defined]
    wanted = [f"v{n}" for n in range(COUNT)] if how == "unknown size" else requests()
    async with (
        open_engine(concurrency=0 if how == "inline" else 4, events=log.hub) as engine,
        engine.read_ordered(engine.lane(backend), wanted, hedge=True) as items,
    ):
        assert [item.name async for item in items] == [f"v{n}" for n in range(COUNT)]
    assert len(backend.gets) == COUNT and not log.of(HEDGES)


@pytest.mark.parametrize("second", [NotFound("gone"), RetryableError("reset"), RetryableError("503", scope="lane"), b"wrong"])
async def test_h3_a_hedge_that_fails_is_not_heard_of(log, second: Answer) -> None:
    """The object comes by the first attempt; the lane stays open, and there is no third."""
    backend = Odd((14, [LATE, second]))
    await read(backend, log, policy=RetryPolicy(max_attempts=1))
    assert backend.gets.count("v14") == 2
    assert [type(event) for event in log.of(HEDGES)] == [HedgeStarted, HedgeLost]
    assert len(log.of(OpSucceeded)) == COUNT


async def test_h3_the_loser_is_ended_and_its_bytes_are_waste(log) -> None:
    """Half of the object had come by the first attempt, or by the hedge."""
    for answers, end in (([2.6, 2.0], HedgeLost), ([4.0, 1.0], HedgeWon)):
        backend = Odd((14, list(answers)))
        log.events.clear()
        await read(backend, log)
        (event,) = log.of(end)
        ends = {each.attempt: each for each in log.of(AttemptFinished) if each.name == "v14"}
        loser = ends[2 if end is HedgeLost else 1]
        assert loser.outcome == "cancelled" and event.wasted == loser.bytes == SIZE // 2
        assert sum(each.bytes for each in log.of(Progress)) == COUNT * SIZE + event.wasted
        assert backend.now_running == 0


async def test_h3_a_hedge_takes_one_file_of_the_spool_and_no_more(log) -> None:
    """S4: though the spool is full of what lies behind the late one."""
    backend, most = await filled(Odd((14, [LATE]))), 0
    async with open_engine(concurrency=4, events=log.hub, spool_bytes=3 * SIZE) as engine:

        def look(event: object) -> None:
            nonlocal most
            most = max(most, engine.statistics().spool_files)

        log.hub.on_event(look)
        async with engine.read_ordered(engine.lane(backend), requests(), hedge=True) as items:
            assert len([item async for item in items]) == COUNT
    assert log.of(HedgeWon) and most <= 4


async def test_h3_trace_and_summary_tell_of_it(log) -> None:
    """V4."""
    written: list[str] = []
    trace, summary = Trace(written.append), Summary()
    log.hub.on_event(trace)
    log.hub.on_event(summary)
    await read(Odd((14, [2.6, 2.0])), log)
    trace.close()
    slices = [record for record in json.loads("".join(written)) if record.get("args", {}).get("hedge")]
    assert [record["name"] for record in slices] == ["get v14"]
    assert list(summary.lines())[-1] == "asked twice for 1 late object, 500 B in vain"


async def test_h3_every_hedge_ends_once_though_everything_is_cancelled(log) -> None:
    """O5: wherever in it the reader leaves, no slot, file or byte is left."""
    for tenths in range(0, 36, 3):
        backend = Odd((14, [2.0, 1.0]))
        log.events.clear()
        with anyio.move_on_after(0.8 + tenths / 10):
            await read(backend, log)
        assert backend.now_running == 0
        assert len(log.of(HedgeStarted)) == len(log.of((HedgeWon, HedgeLost)))
        assert len(log.of(AttemptStarted)) == len(log.of(AttemptFinished))


async def test_h1_no_hedge_before_one_that_waits_for_memory() -> None:
    """A slot is free, and there is memory for a small one: who waits needs it first."""
    gate = Gate(limit=3, memory=Memory(100))
    first = await gate.enter(Ticket(name="a", memory=60))
    assert first is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.enter, Ticket(name="b", memory=60))
        await anyio.sleep(1)
        assert gate.enter_at_once(Ticket(name="c", memory=10)) is None
        gate.release(first)
    assert gate.enter_at_once(Ticket(name="c", memory=10)) is not None
    assert gate.enter_at_once(Ticket(name="d", memory=60)) is None


async def test_h2_none_while_the_target_has_no_room() -> None:
    """Gets pass a gate that is closed for that reason, but those that nobody needs do not."""
    gate = Gate(RetryPolicy(mode="wait"), limit=3)

    attempts = 0

    async def full() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 2:  # the probe: while it runs nobody waits
            await anyio.sleep(1000)
        raise OperatorError("disk full", space=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(call_persistently, full, gate=gate, op=Ticket(verb="put", name="a")))
        while gate.state is not State.PROBING:
            await anyio.sleep(0.1)
        assert gate.waiting == 0
        assert gate.enter_at_once(Ticket(verb="get", name="b")) is None
        assert await gate.enter(Ticket(verb="get", name="b")) is not None
        tasks.cancel_scope.cancel()
