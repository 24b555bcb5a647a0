"""The hub: what it stamps events with (V1), and what becomes of them where nobody reads (V2, V3)."""

from __future__ import annotations

import itertools

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import RING, AttemptFinished, AttemptStarted, Event, EventHub, Notice, Progress
from asyncdup.testing.faults import Raise
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.transfer import open_engine


def hub() -> EventHub:
    return EventHub(job="j", wall=lambda: 1.7e9 + anyio.current_time(), clock=anyio.current_time)


async def drained(subscription) -> list[Event]:
    subscription.close()
    return [event async for event in subscription]


async def test_v1_an_event_says_when_on_which_lane_of_which_op_and_attempt() -> None:
    events: list[Event] = []
    (told := hub()).on_event(events.append)
    backend = FaultyBackend(MemoryBackend(name="m"))
    backend.script("put", Raise())
    async with open_engine(events=told) as engine:
        for name in "ab":
            await engine.run(engine.lane(backend), "put", name, BytesBody(b"x"))

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(early.t <= late.t and late.wall == 1.7e9 + late.t for early, late in itertools.pairwise(events))
    assert {event.job for event in events} == {"j"}
    attempts = [event for event in events if isinstance(event, (AttemptStarted, Progress, AttemptFinished))]
    assert {(event.lane, event.op, event.attempt) for event in attempts} == {
        ("memory://m", 1, 1),
        ("memory://m", 1, 2),
        ("memory://m", 2, 1),
    }


async def test_v2_a_ring_that_nobody_reads_merges_progress_and_loses_nothing_else() -> None:
    """Two attempts at once: their Progress comes in turns, and the ring is bounded all the same."""
    told = hub()
    subscription = told.subscribe()
    for op in (1, 2):
        told.emit(AttemptStarted(lane="l", op=op, attempt=1, verb="put", name="x"))
    for number in range(3 * RING):
        told.emit(Progress(lane="l", op=1 + number % 2, attempt=1, bytes=1))
        if number % RING == 0:
            told.emit(Notice(lane="l", message="kept"))
    for op in (1, 2):
        told.emit(
            AttemptFinished(lane="l", op=op, attempt=1, verb="put", name="x", outcome="ok", bytes=3 * RING // 2, seconds=1.0, error="")
        )
    events = await drained(subscription)

    assert len(events) <= RING + 5
    assert sum(isinstance(event, Notice) for event in events) == 3
    for op in (1, 2):
        assert sum(event.bytes for event in events if isinstance(event, Progress) and event.op == op) == 3 * RING // 2
    assert subscription.dropped == 3 * RING - sum(isinstance(event, Progress) for event in events)
    assert [event.seq for event in events] == sorted({event.seq for event in events}), "a gap means merged Progress"


async def test_v2_what_was_read_is_not_merged_into() -> None:
    told = hub()
    subscription = told.subscribe()
    told.emit(Progress(lane="l", op=1, attempt=1, bytes=1))
    assert (await anext(subscription)).bytes == 1
    for _ in range(RING):
        told.emit(Notice(message="full"))
    told.emit(Progress(lane="l", op=1, attempt=1, bytes=10))
    told.emit(Progress(lane="l", op=1, attempt=1, bytes=100))

    assert [event.bytes for event in await drained(subscription) if isinstance(event, Progress)] == [110]


@pytest.mark.parametrize("number", [1, 3])
async def test_v2_an_observer_that_raises_is_dropped_and_disturbs_nobody(number: int) -> None:
    told, seen, calls = hub(), [], []

    def broken(event: Event) -> None:
        calls.append(event)
        if len(calls) == number:
            raise KeyError

    told.on_event(broken)
    told.on_event(seen.append)
    for _ in range(5):
        told.emit(Notice(message="x"))

    assert (len(calls), len(seen)) == (number, 5)
