"""Events as a Chrome trace, which opens in Perfetto and chrome://tracing (engine rule V4, ``--trace``).

One process a lane: a track a slot with a slice an attempt, a track for the gate, counters. The job is a process of its own: production,
waits at the spool, counters. Source of the form: "Trace Event Format", JSON array.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    Blocked,
    EpisodeClosed,
    EpisodeOpened,
    Event,
    GateChanged,
    HedgeStarted,
    JobFinished,
    JobStarted,
    LimitChanged,
    OpCancelled,
    OpFailed,
    OpSkipped,
    OpSucceeded,
    Progress,
    Reconciled,
    Scanned,
    Unblocked,
    VolumeDropped,
    VolumeMade,
    VolumeStarted,
    VolumeStored,
)

BUCKET = 0.25  # seconds that one value of the rate stands for: a GiB/s link and an hour's run both stay readable
BATCH = 1 << 16  # characters held back before they are written
LATEST = 1.0  # seconds of the events' clock that a record is held back at most, as long as there are events

_JOB = 1  # the process of the job; lanes follow
_GATE, _PRODUCTION, _SPOOL, _CONSUMER, _FIRST_SLOT = 1, 1, 2, 3, 10  # tracks
_OP_ENDS = (OpSucceeded, OpFailed, OpSkipped, OpCancelled)


@dataclass(slots=True)
class _Open:
    """A slice that is not finished: its track and what is known of it."""

    pid: int
    tid: int
    name: str
    since: float
    args: dict[str, Any]


class Trace:
    """A subscriber for ``EventHub.on_event``; call ``close`` at the end.

    ``write`` gets whole records only, some KiB at a time, so the file is a JSON array that lacks nothing but its closing bracket when the
    process is killed; viewers take that. Held in memory: what is in flight, one record an op that is tried again, and the volumes in the
    spool. When ``write`` raises, nothing more is written; ``failed`` is then the error, and no transfer is disturbed (V2).
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.failed: Exception | None = None
        self._closed = False
        self._write = write
        self._batch: list[str] = ["["]
        self._held = 0  # characters in the batch
        self._flushed = 0.0
        self._began: float | None = None
        self._now = 0.0
        self._pids: dict[str, int] = {}
        self._tracks: set[tuple[int, int]] = set()
        self._attempts: dict[tuple[str, int, int], _Open] = {}
        self._gates: dict[str, _Open] = {}
        self._states: dict[str, str] = {}
        self._waits: dict[str, list[float]] = {}  # what -> instants since when somebody waits for it, here: spool and consumer
        self._volume: _Open | None = None
        self._before: dict[tuple[str, int], _Open] = {}  # the last attempt of an op that is not done; ``since`` is its middle
        self._hedges: set[tuple[str, int, int]] = set()  # second attempts that begin or run
        self._flows = 0
        self._running: dict[str, int] = {}
        self._spooled: dict[str, int] = {}
        self._bucket: tuple[float, int] | None = None  # start, bytes

    def __call__(self, event: Event) -> None:
        """Take one event into account. Never raises."""
        if self.failed is not None or self._closed:
            return
        try:
            self._take(event)
        except (OSError, ValueError) as error:
            self.failed = error

    def close(self) -> None:
        """Write what is open as slices that end now, and the end of the array. Never raises; idempotent."""
        if self.failed is not None or self._closed:
            return
        self._closed = True
        try:
            self._finish()
        except (OSError, ValueError) as error:
            self.failed = error

    def _take(self, event: Event) -> None:
        if self._began is None:
            self._began = self._flushed = event.t
            self._process(_JOB, "asyncdup")
        self._now = event.t
        self._roll(event.t)
        self._record(event)
        if self._held >= BATCH or event.t - self._flushed >= LATEST:
            self._flush()

    def _record(self, event: Event) -> None:
        match event:
            case Progress():
                self._progress(event)
            case AttemptStarted():
                self._attempt_started(event)
            case AttemptFinished():
                self._attempt_finished(event)
            case GateChanged():
                self._gate(event, event.state)
            case Blocked() | Unblocked():
                self._wait(event)
            case HedgeStarted():
                self._hedges.add((event.lane, event.op, event.attempt))
            case LimitChanged():
                self._counter(self._pid(event.lane), "concurrency limit", {"slots": event.new})
            case _ if isinstance(event, _OP_ENDS):
                self._before.pop((event.lane, event.op), None)
            case _:
                self._record_job(event)

    def _record_job(self, event: Event) -> None:
        match event:
            case JobStarted():
                self._emit({"ph": "M", "pid": _JOB, "name": "process_name", "args": {"name": f"asyncdup {event.action}"}})
            case JobFinished():
                self._instant(_JOB, _PRODUCTION, f"{event.action}: {event.error or 'done'}", {"exit code": event.exit_code})
            case EpisodeOpened():
                self._instant(self._pid(event.lane), _GATE, "waiting for the operator", {"error": event.error, "hint": event.hint})
            case EpisodeClosed():
                self._instant(self._pid(event.lane), _GATE, f"no longer waiting: {event.by}", {"seconds": event.waited})
            case Reconciled():
                known = self._attempts.get((event.lane, event.op, event.attempt))
                if known is not None:
                    known.args["had taken effect"] = event.done
            case _:
                self._record_volume(event)

    def _record_volume(self, event: Event) -> None:
        match event:
            case VolumeStarted():
                self._track(_JOB, _PRODUCTION, "production")
                self._volume = _Open(_JOB, _PRODUCTION, f"volume {event.number}", event.t, {})
            case VolumeDropped():
                self._volume = None
            case VolumeMade():
                self._made(event)
            case VolumeStored():
                if self._spooled.pop(event.name, None) is not None:
                    self._count_spool()
            case Scanned():
                self._counter(_JOB, "files", {"files": event.files})

    # Attempts.

    def _attempt_started(self, event: AttemptStarted) -> None:
        pid, tid = self._pid(event.lane), _FIRST_SLOT + event.slot
        self._track(pid, tid, f"slot {event.slot}")
        args = {"op": event.op, "attempt": event.attempt}
        self._attempts[event.lane, event.op, event.attempt] = _Open(pid, tid, f"{event.verb} {event.name}", event.t, args)
        self._count_running(event.lane, 1)

    def _attempt_finished(self, event: AttemptFinished) -> None:
        attempt = self._attempts.pop((event.lane, event.op, event.attempt), None)
        if attempt is None:
            return
        attempt.args.update(bytes=event.bytes, outcome=event.outcome)
        if event.error:
            attempt.args["error"] = event.error
        hedge = (event.lane, event.op, event.attempt) in self._hedges
        if hedge:
            self._hedges.discard((event.lane, event.op, event.attempt))
            attempt.args["hedge"] = True
        self._slice(attempt, event.verb)
        self._count_running(event.lane, -1)
        if event.op and not hedge:  # a hedge follows no failure; calls without an op cannot be told apart
            self._link(event, attempt)

    def _link(self, event: AttemptFinished, attempt: _Open) -> None:
        """An arrow from the attempt before. Written after both slices: a reader looks for the slice that is there at that instant."""
        before = self._before.get((event.lane, event.op))
        if before is not None:
            self._flows += 1
            flow = {"cat": "retry", "name": "again", "id": self._flows}
            self._emit({"ph": "s", **flow, "pid": before.pid, "tid": before.tid, "ts": self._us(before.since)})
            self._emit({"ph": "f", "bp": "e", **flow, "pid": attempt.pid, "tid": attempt.tid, "ts": self._us(attempt.since)})
        attempt.since += (event.t - attempt.since) / 2
        self._before[event.lane, event.op] = attempt

    def _count_running(self, lane: str, change: int) -> None:
        self._running[lane] = self._running.get(lane, 0) + change
        self._counter(self._pid(lane), "attempts running", {"attempts": self._running[lane]})

    # Gate and waits.

    def _gate(self, event: Event, state: str) -> None:
        """A new slice, from now on. What lasted no time is not shown: steps that belong together come one after the other."""
        self._end_gate(event.lane)
        pid = self._pid(event.lane)
        args = {"why": event.why} if isinstance(event, GateChanged) and event.why else {}
        self._gates[event.lane] = _Open(pid, _GATE, state, event.t, args)
        if isinstance(event, GateChanged):
            self._states[event.lane] = state

    def _end_gate(self, lane: str) -> None:
        last = self._gates.pop(lane, None)
        if last is not None and last.since < self._now:
            self._slice(last, "gate")

    def _wait(self, event: Blocked | Unblocked) -> None:
        if event.what == "gate":
            if self._states.get(event.lane, "RUNNING") == "RUNNING":  # closed all the same: a pause lies over it
                self._gate(event, "pause" if isinstance(event, Blocked) else "RUNNING")
        elif event.what in ("spool", "consumer"):
            self._wait_in_line(event)

    def _wait_in_line(self, event: Blocked | Unblocked) -> None:
        """One slice from the first who waits to the last: several may wait at once, and slices of a track must not overlap."""
        waiting = self._waits.setdefault(event.what, [])
        if isinstance(event, Blocked):
            waiting.append(event.t if not waiting else waiting[0])
        elif waiting:
            since = waiting.pop()
            if not waiting:
                self._line(event.what, since)

    def _line(self, what: str, since: float) -> None:
        tid, name = (_SPOOL, "waits for room") if what == "spool" else (_CONSUMER, "works on an object")
        self._track(_JOB, tid, what)
        self._slice(_Open(_JOB, tid, name, since, {}), what)

    # Volumes and rates.

    def _made(self, event: VolumeMade) -> None:
        volume, self._volume = self._volume, None
        if volume is not None:
            volume.args.update(file=event.name, bytes=event.size)
            self._slice(volume, "volume")
        self._spooled[event.name] = event.size
        self._count_spool()

    def _count_spool(self) -> None:
        self._counter(_JOB, "spool volumes", {"volumes": len(self._spooled)})
        self._counter(_JOB, "spool bytes", {"bytes": sum(self._spooled.values())})

    def _progress(self, event: Progress) -> None:
        start, moved = self._bucket or (event.t, 0)
        self._bucket = start, moved + event.bytes

    def _roll(self, now: float) -> None:
        """The rate of the bucket that has ended; zero behind it, if nothing moved since."""
        if self._bucket is None or now < self._bucket[0] + BUCKET:
            return
        (start, moved), self._bucket = self._bucket, None
        self._counter(_JOB, "bytes/s", {"bytes/s": round(moved / BUCKET)}, start)
        self._counter(_JOB, "bytes/s", {"bytes/s": 0}, start + BUCKET)

    # Records.

    def _pid(self, lane: str) -> int:
        pid = self._pids.get(lane)
        if pid is None:
            pid = self._pids[lane] = _JOB + 1 + len(self._pids)
            self._process(pid, lane or "lane")
            self._track(pid, _GATE, "gate")
            self._gates[lane] = _Open(pid, _GATE, "RUNNING", self._now, {})
        return pid

    def _process(self, pid: int, name: str) -> None:
        self._emit({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}})
        self._emit({"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}})

    def _track(self, pid: int, tid: int, name: str) -> None:
        if (pid, tid) not in self._tracks:
            self._tracks.add((pid, tid))
            self._emit({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}})
            self._emit({"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}})

    def _slice(self, each: _Open, cat: str) -> None:
        start = self._us(each.since)
        length = round(self._us(self._now) - start, 3)
        self._emit(
            {"ph": "X", "pid": each.pid, "tid": each.tid, "name": each.name, "cat": cat, "ts": start, "dur": length, "args": each.args}
        )

    def _instant(self, pid: int, tid: int, name: str, args: dict[str, Any]) -> None:
        self._emit({"ph": "i", "s": "p", "pid": pid, "tid": tid, "name": name, "ts": self._us(self._now), "args": args})

    def _counter(self, pid: int, name: str, values: dict[str, int], t: float | None = None) -> None:
        self._emit({"ph": "C", "pid": pid, "name": name, "ts": self._us(self._now if t is None else t), "args": values})

    def _us(self, t: float) -> float:
        """Microseconds since the first event, to the nanosecond."""
        return round((t - (self._began or 0.0)) * 1e6, 3)

    def _emit(self, record: dict[str, Any]) -> None:
        line = _encode(record)
        self._batch.append(line + ",")
        self._held += len(line) + 2

    def _flush(self) -> None:
        self._batch.append("")
        text = "\n".join(self._batch)
        self._batch, self._held, self._flushed = [], 0, self._now
        self._write(text)

    def _finish(self) -> None:
        self._roll(self._now + BUCKET)
        for attempt in self._attempts.values():
            attempt.args["outcome"] = "unfinished"
            self._slice(attempt, "unfinished")
        for lane in tuple(self._gates):
            self._end_gate(lane)
        for what, waiting in self._waits.items():
            if waiting:
                self._line(what, waiting[0])
        last = _encode({"ph": "M", "pid": _JOB, "name": "process_labels", "args": {"labels": "complete"}})
        self._batch.append(f"{last}\n]")  # a record without a comma behind it must come last
        self._flush()


_encode = json.JSONEncoder(separators=(",", ":")).encode
