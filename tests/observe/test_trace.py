"""V4: a run as a Chrome trace, from event streams of real engine runs in bad weather on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    Blocked,
    EpisodeOpened,
    Event,
    EventHub,
    GateChanged,
    LimitChanged,
    OpSucceeded,
    Progress,
    Unblocked,
    VolumeDropped,
    VolumeMade,
    VolumeStarted,
    VolumeStored,
)
from asyncdup.observe import trace as module
from asyncdup.observe.trace import BATCH, Trace
from asyncdup.testing.clock import VirtualLoop
from tests.transfer.test_any_weather import Day

Record = dict[str, Any]


def events_of(seed: int) -> list[Event]:
    day = Day(seed)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(day.main())
    return day.events


def traced(heard: list[Event]) -> tuple[list[Record], list[str]]:
    """The records, and the texts as they were written."""
    written: list[str] = []
    trace = Trace(written.append)
    for event in heard:
        trace(event)
    trace.close()
    assert trace.failed is None
    return json.loads("".join(written)), written


def timed(*stamped: tuple[float, Event]) -> list[Event]:
    clock = [0.0]
    hub = EventHub(wall=lambda: 0.0, clock=lambda: clock[0])
    heard: list[Event] = []
    hub.on_event(heard.append)
    for clock[0], event in stamped:
        hub.emit(event)
    return heard


def tracks(records: list[Record], phase: str = "X") -> dict[str, list[Record]]:
    """Records by the name of their track."""
    names = {(r["pid"], r["tid"]): r["args"]["name"] for r in records if r["name"] == "thread_name"}
    found = defaultdict(list)
    for record in records:
        if record["ph"] == phase:
            found[names[record["pid"], record["tid"]]].append(record)
    return found


def counted(records: list[Record], name: str) -> list[tuple[float, int]]:
    return [(r["ts"] / 1e6, *r["args"].values()) for r in records if r["ph"] == "C" and r["name"] == name]


@pytest.mark.parametrize("seed", range(10))
def test_every_attempt_is_a_slice_and_slices_of_a_track_do_not_overlap(seed: int) -> None:
    heard = events_of(seed)
    records, _ = traced(heard)
    wall = (heard[-1].t - heard[0].t) * 1e6

    finished = [event for event in heard if isinstance(event, AttemptFinished)]
    slots = {name: found for name, found in tracks(records).items() if name.startswith("slot ")}
    assert sum(map(len, slots.values())) == len(finished)
    assert sum(each["args"]["bytes"] for found in slots.values() for each in found) == sum(event.bytes for event in finished)
    for found in tracks(records).values():
        found.sort(key=lambda each: (each["ts"], each["dur"]))
        assert all(before["ts"] + before["dur"] <= after["ts"] + 0.002 for before, after in pairwise(found))
        assert sum(each["dur"] for each in found) <= wall + 1


@pytest.mark.parametrize("seed", range(10))
def test_each_further_attempt_of_an_op_has_an_arrow_from_the_one_before(seed: int) -> None:
    heard = events_of(seed)
    records, _ = traced(heard)

    tried: dict[int, int] = defaultdict(int)
    for event in heard:
        tried[event.op] += isinstance(event, AttemptFinished) and event.op > 0
    starts, ends = ({r["id"]: r for r in records if r["ph"] == phase} for phase in "sf")
    assert starts.keys() == ends.keys()
    assert len(starts) == sum(count - 1 for count in tried.values() if count)
    slices = [r for r in records if r["ph"] == "X" and "op" in r["args"]]
    for number, start in starts.items():
        held, again = ({each["args"]["op"] for each in slices if _holds(each, end)} for end in (start, ends[number]))
        assert held & again  # slices of a slot touch, and some last no time: more than one may be there at that instant
        assert start["ts"] <= ends[number]["ts"]


def _holds(each: Record, end: Record) -> bool:
    same = (each["pid"], each["tid"]) == (end["pid"], end["tid"])
    return same and (each["ts"] < end["ts"] < each["ts"] + each["dur"] or each["ts"] == end["ts"])


@pytest.mark.parametrize("batch", [1, 500, BATCH])
def test_a_killed_run_leaves_an_array_that_lacks_only_its_bracket(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    whole, written = traced(events_of(3))

    for count in range(1, len(written), max(1, len(written) // 20)):
        text = "".join(written[:count])
        assert text.endswith(",\n")
        assert json.loads(text.rstrip(",\n") + "]") == whole[: text.count("\n") - 1]


def test_a_long_run_is_written_as_it_goes() -> None:
    """Memory is bounded by what is in flight: ten thousand ops leave nothing behind."""
    written: list[str] = []
    trace = Trace(written.append)
    for number in range(1, 10_001):
        t = float(number) / 1000
        trace(AttemptStarted(t=t, op=number, attempt=1, verb="put", name=f"v{number}"))
        trace(Progress(t=t, op=number, attempt=1, bytes=10))
        trace(AttemptFinished(t=t + 0.001, op=number, attempt=1, verb="put", name=f"v{number}", outcome="ok", bytes=10))
        trace(OpSucceeded(t=t + 0.001, op=number, verb="put", name=f"v{number}"))

    assert len(written) >= 9
    assert max(map(len, written)) < BATCH + 2000
    assert not trace._attempts and not trace._before


def test_the_gate_has_a_track_with_its_states_and_pauses() -> None:
    heard = timed(
        (0.0, LimitChanged(lane="l", old=0, new=4)),
        (1.0, GateChanged(lane="l", state="BACKOFF", why="reset")),
        (1.0, Blocked(lane="l", what="gate")),
        (3.0, GateChanged(lane="l", state="PROBING")),
        (4.0, GateChanged(lane="l", state="WAITING")),
        (4.0, EpisodeOpened(lane="l", episode="l#1", error="disk full")),
        (9.0, GateChanged(lane="l", state="RUNNING")),
        (9.0, Unblocked(lane="l", what="gate", seconds=8.0)),
        (10.0, Blocked(lane="l", what="gate")),
        (12.0, Unblocked(lane="l", what="gate", seconds=2.0)),
        (13.0, GateChanged(lane="l", state="STOPPED")),
    )

    records, _ = traced(heard)

    gate = [(r["name"], r["ts"] / 1e6, r["dur"] / 1e6) for r in tracks(records)["gate"]]
    assert gate == [
        ("RUNNING", 0.0, 1.0), ("BACKOFF", 1.0, 2.0), ("PROBING", 3.0, 1.0), ("WAITING", 4.0, 5.0), ("RUNNING", 9.0, 1.0),
        ("pause", 10.0, 2.0), ("RUNNING", 12.0, 1.0),
    ]  # fmt: skip
    assert [r["args"]["error"] for r in tracks(records, "i")["gate"]] == ["disk full"]
    assert counted(records, "concurrency limit") == [(0.0, 4)]


def test_production_has_a_track_and_the_spool_counters() -> None:
    heard = timed(
        (0.0, VolumeStarted(number=1)),
        (2.0, VolumeMade(number=1, name="v1", size=70)),
        (2.0, Blocked(what="spool")),
        (3.0, VolumeStored(number=1, name="v1", size=70)),
        (3.0, Unblocked(what="spool", seconds=1.0)),
        (3.0, VolumeStarted(number=2)),
        (4.0, VolumeDropped(number=2)),
    )

    found = tracks(records := traced(heard)[0])

    assert [(r["name"], r["dur"] / 1e6, r["args"]) for r in found["production"]] == [("volume 1", 2.0, {"file": "v1", "bytes": 70})]
    assert [(r["ts"] / 1e6, r["dur"] / 1e6) for r in found["spool"]] == [(2.0, 1.0)]
    assert counted(records, "spool bytes") == [(2.0, 70), (3.0, 0)]
    assert counted(records, "spool volumes") == [(2.0, 1), (3.0, 0)]


def test_the_rate_falls_to_zero_where_nothing_moves() -> None:
    heard = timed((0.0, Progress(bytes=100)), (0.1, Progress(bytes=100)), (5.0, Progress(bytes=50)))

    records, _ = traced(heard)

    assert counted(records, "bytes/s") == [(0.0, 800), (0.25, 0), (5.0, 200), (5.25, 0)]


def test_what_is_open_at_the_end_is_shown_as_unfinished() -> None:
    records, _ = traced(
        timed((0.0, AttemptStarted(op=1, attempt=1, verb="put", name="v")), (2.0, Blocked(what="spool")), (3.0, Progress(bytes=1)))
    )

    assert [(r["args"]["outcome"], r["dur"] / 1e6) for r in tracks(records)["slot 0"]] == [("unfinished", 3.0)]
    assert [r["dur"] / 1e6 for r in tracks(records)["spool"]] == [1.0]


def test_a_full_disk_ends_the_trace_and_nothing_else() -> None:
    """V2: observers never reach the transfer."""
    calls = []

    def full(text: str) -> None:
        calls.append(text)
        raise OSError(28, "no space left")

    trace = Trace(full)
    for number in range(100):
        trace(LimitChanged(t=float(number), lane="l", old=1, new=2))
    trace.close()

    assert isinstance(trace.failed, OSError)
    assert len(calls) == 1


def test_an_empty_run_is_an_array_too() -> None:
    assert [record["name"] for record in traced([])[0]] == ["process_labels"]


def test_names_that_are_no_utf8_are_ascii_in_the_file() -> None:
    heard = timed((0.0, AttemptStarted(op=1, attempt=1, verb="put", name="\udcff")))

    assert traced(heard)[1][-1].isascii()
