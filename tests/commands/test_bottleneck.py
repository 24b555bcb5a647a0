"""V4: runs that are held up on purpose, on virtual time; the closing summary names what did it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import pytest

from asyncdup import Control, Event, RetryPolicy, events
from asyncdup.backends.bodies import BytesBody
from asyncdup.observe.summary import WORDS, Summary
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise, auth_lost, lost, refused, throttled
from asyncdup.transfer import Engine, Lane, open_engine
from tests.commands.conftest import Stage
from tests.commands.test_overlap import SlowCodec
from tests.commands.test_overlap import codec as codec  # noqa: PLC0414 - a fixture

VOLUMES = 8
Far = tuple[Stage, FaultyBackend]


def summary_of(heard: list[Event], cpu: Callable[[], float] | None = None) -> Summary:
    summary = Summary(cpu=cpu)
    for event in heard:
        summary(event)
    return summary


async def backed_up(far: Far, *, latency: float, **options: object) -> Summary:
    stage, backend = far
    stage.fill(VOLUMES)
    backend.inner.latency = latency
    await stage.backup("full", **options)
    return summary_of(stage.heard)


async def test_a_slow_producer_is_named(far: Far, codec: SlowCodec) -> None:
    codec.seconds = 7.0

    summary = await backed_up(far, latency=1.0, concurrency=5)

    assert summary.bottleneck() == "producer"
    assert summary.seconds["producing"] == pytest.approx(7.0 * VOLUMES, rel=0.1)
    assert summary.seconds["sending"] < 0.25 * summary.wall


@pytest.mark.parametrize(("busy", "named"), [(0.9, "producer CPU"), (0.2, "source disk")])
async def test_a_producer_is_held_up_by_the_cpu_or_else_by_the_disk(far: Far, codec: SlowCodec, busy: float, named: str) -> None:
    codec.seconds = 7.0
    await backed_up(far, latency=1.0)
    heard: list[Event] = []

    summary = Summary(cpu=lambda: busy * heard[-1].t)
    for event in far[0].heard:
        heard.append(event)
        summary(event)

    assert summary.bottleneck() == named


async def test_a_slow_link_is_named(far: Far) -> None:
    far[1].inner.total_rate = 10_000.0

    summary = await backed_up(far, latency=0.05, concurrency=2)

    assert summary.bottleneck() == "link"
    assert summary.seconds["sending"] > 0.9 * summary.wall


async def test_round_trips_with_too_few_slots_are_named(far: Far) -> None:
    summary = await backed_up(far, latency=7.0, concurrency=2)

    assert summary.bottleneck() == "round trips"


@pytest.mark.parametrize(("error", "named"), [(refused, "errors"), (lost, "errors"), (partial(throttled, 30.0), "throttle")])
async def test_retries_are_named_by_their_reason(far: Far, error: Callable[[], Exception], named: str) -> None:
    far[1].script("put", *[Raise(error)] * 12)

    summary = await backed_up(far, latency=0.05, concurrency=1)

    assert summary.bottleneck() == named
    assert summary.seconds["backoff"] > 0.5 * summary.wall


async def test_the_wait_for_the_operator_is_named(far: Far) -> None:
    far[1].script("put", Raise(auth_lost))
    control = Control()
    summary: list[Summary] = []

    async def run() -> None:
        summary.append(await backed_up(far, latency=1.0, control=control, retry=RetryPolicy(mode="intervention")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.sleep(500)
        control.resume()

    assert summary[0].bottleneck() == "operator"
    assert summary[0].seconds["waiting"] > 400


async def test_a_spool_too_small_for_its_slots_is_named(far: Far) -> None:
    summary = await backed_up(far, latency=7.0, concurrency=5, spool=1)

    assert summary.bottleneck() == "spool"
    assert summary.seconds["spool full"] > 0.5 * summary.wall


@pytest.mark.parametrize(
    ("latency", "unpacking", "named"), [(1.0, 7.0, "consumer"), (7.0, 0.5, "round trips")], ids=["slow here", "slow there"]
)
async def test_a_restore_waits_for_one_side_or_the_other(far: Far, codec: SlowCodec, latency: float, unpacking: float, named: str) -> None:
    stage, backend = far
    await backed_up(far, latency=0.0)
    backend.inner.latency, codec.seconds = latency, unpacking

    await stage.restore(concurrency=2)
    summary = summary_of(stage.heard)

    assert summary.bottleneck() == named
    assert any("fetching" in line for line in summary.lines())


async def sent(use: Callable[[Engine, Lane], None], backend: FaultyBackend, **options: object) -> Summary:
    hub = events.EventHub(wall=lambda: 0.0, clock=anyio.current_time)
    summary = Summary()
    hub.on_event(summary)
    async with open_engine(events=hub, concurrency=2, **options) as engine:  # type: ignore[arg-type]
        lane = engine.lane(backend)
        use(engine, lane)
        async with engine.writer(lane) as writer:
            for number in range(10):
                await writer.put(f"v{number}", BytesBody(bytes(10_000)))
    return summary


async def test_a_rate_limit_is_named(far: Far) -> None:
    summary = await sent(lambda engine, lane: None, far[1], upload_limit="1k")

    assert summary.bottleneck() == "rate limit"


async def test_a_pause_is_named(far: Far) -> None:
    async with anyio.create_task_group() as tasks:

        def pause(engine: Engine, lane: Lane) -> None:
            lane.gate.pause("test")

            async def unpause() -> None:
                await anyio.sleep(100)
                lane.gate.unpause("test")

            tasks.start_soon(unpause)

        summary = await sent(pause, far[1])

    assert summary.bottleneck() == "pause"
    assert summary.seconds["pause"] == pytest.approx(100)


async def test_a_target_on_a_local_disk_has_no_link(stage: Stage) -> None:
    stage.fill(2)
    await stage.backup("full")

    summary = summary_of(stage.heard)

    assert summary.bottleneck() in (("disk", "producer", "other") if stage.url.startswith("file") else ("link", "producer", "other"))


async def test_each_second_has_one_cause_and_no_share_is_above_all(far: Far) -> None:
    """V4: shares are of wall time, which is that from JobStarted to JobFinished."""
    summary = await backed_up(far, latency=1.0, concurrency=3)
    finished, started = far[0].of(events.JobFinished)[0], far[0].of(events.JobStarted)[0]

    assert summary.wall == pytest.approx(finished.t - started.t)
    assert sum(summary.causes.values()) == pytest.approx(summary.wall)
    assert all(0 <= seconds <= summary.wall + 1e-9 for seconds in summary.seconds.values())


async def test_a_person_reads_two_short_lines(far: Far) -> None:
    summary = await backed_up(far, latency=7.0, concurrency=2)

    lines = list(summary.lines())

    assert len(lines) == 2
    assert max(map(len, lines)) < 100
    assert lines[0].startswith(f"time: {summary.wall:.1f} s: ")
    assert lines[1] == f"held up most by {WORDS['round trips']}"


def test_a_person_reads_what_was_waited_for_and_no_jargon() -> None:
    """The manifest waited 2 of 4 seconds for its volumes, the producer 1 for room."""
    summary = Summary()
    waits = (events.Blocked(what="barrier", t=1.0), events.Unblocked(what="barrier", t=3.0), events.Blocked(what="spool", t=3.0))
    for event in (events.JobStarted(action="full", t=0.0), *waits, events.JobFinished(action="full", t=4.0)):
        summary(event)

    assert next(summary.lines()) == "time: 4.0 s: 25% waiting for room in the spool, 50% waiting for earlier transfers"


def test_a_run_that_was_over_in_no_time_is_not_explained() -> None:
    assert list(Summary().lines()) == []
