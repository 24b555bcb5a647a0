"""Any program, whatever the backends and the operator do (G1-G10, S1-S9, O1-O8, V3, C2-C5, I1, Q4, X5, P11): see ``World`` for what must hold.

ASYNCDUP_EXAMPLES raises the number of programs, ``nox -s torture`` to 20,000.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transfer.world import Doing, Setting, live

from asyncdup.backends.bodies import BytesBody
from asyncdup.events import AttemptFinished, AttemptStarted, Event
from asyncdup.testing.clock import VirtualLoop
from asyncdup.transfer import open_engine

EXAMPLES = int(os.environ.get("ASYNCDUP_EXAMPLES", "200"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(300, EXAMPLES))]

work = "put put put_spooled put_large put_large get look delete read write"
trouble = "fail fail outage suspend cancel kill"
control = "pause unpause resume abort slots rate drain"
digit = st.integers(0, 9)
seconds = st.sampled_from([0.0, 0.0, 0.1, 1.0, 40.0, 700.0])
programs = st.lists(st.tuples(st.sampled_from(f"{work} {trouble} {control}".split()), digit, digit, seconds), min_size=5, max_size=40)
engines = st.builds(
    Setting,
    mode=st.sampled_from(["fail", "wait", "intervention"]),
    concurrency=st.sampled_from([0, 1, 2, 5]),
    serial=st.booleans(),
    max_attempts=st.sampled_from([0, 3]),
    max_elapsed=st.sampled_from([30.0, 900.0]),
    spool_bytes=st.sampled_from([None, 4000]),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(engines, programs)
def test_any_program_in_any_weather(engine: Setting, steps: list[Doing]) -> None:
    live(engine, steps, VirtualLoop)


def test_s2_what_was_let_in_does_not_start_when_the_gate_closes_before_its_turn() -> None:
    """Found by the test above: a delete failed in the same instant in which a pause ended and a put was let in."""
    steps = [("pause", 4, 5, 0.0), ("outage", 7, 2, 0.0), ("delete", 1, 0, 0.0), ("write", 1, 1, 40.0), ("unpause", 4, 9, 1.0)]
    live(Setting("intervention", concurrency=2, serial=True, max_elapsed=30.0), steps, VirtualLoop)


def test_x5_an_upload_that_a_kill_left_is_gone_on_with_whatever_comes_in_between() -> None:
    """Seldom found by chance: a part is stored, another is under way, and the same object comes again, twice."""
    steps = [("put_large", 1, 0, 1.0), ("kill", 0, 0, 0.0), ("fail", 7, 1, 0.0), ("put_large", 1, 0, 0.4), ("kill", 0, 0, 0.0)]
    for concurrency in (0, 1, 2):
        live(Setting(concurrency=concurrency), [*steps, ("put_large", 1, 0, 0.0), ("read", 1, 0, 0.0)], VirtualLoop)


async def test_g1_a_probe_that_a_suspend_ends_is_over_before_the_next_one_starts(far, log) -> None:
    """Found by the test above: the machine sleeps a second time while the probe after the first time runs."""
    beside: list[int] = []
    log.hub.on_event(lambda event: beside.append(_open(log.events)) if isinstance(event, AttemptStarted) else None)
    async with open_engine(concurrency=3, events=log.hub) as engine:
        lane = engine.lane(far(10.0))
        await engine.submit(lane, "put", "a", BytesBody(b"a"))
        for number in range(3):
            await anyio.sleep(1)
            lane.gate.suspended()
            await engine.submit(lane, "put", f"b{number}", BytesBody(b"b"))
        await anyio.sleep(8)

        assert beside == [1, 1, 1, 1]


def _open(events: Sequence[Event]) -> int:
    """Attempts that run."""
    return sum(isinstance(event, AttemptStarted) - isinstance(event, AttemptFinished) for event in events)
