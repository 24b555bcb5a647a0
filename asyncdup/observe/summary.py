"""Events -> where a run's time went, and what it waited for most: the closing summary (engine rule V4). Pure: no clock but the events'.

Shares may add up to more than 100 %, since the parts of a run overlap. For the bottleneck each stretch between two events is laid to one
cause only: the one without which the run would have gone on faster then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    Blocked,
    Event,
    GateChanged,
    HedgeLost,
    HedgeWon,
    JobFinished,
    JobStarted,
    LimitChanged,
    OpCancelled,
    OpFailed,
    OpSkipped,
    OpSucceeded,
    RetryScheduled,
    Unblocked,
    VolumeDropped,
    VolumeMade,
    VolumeStarted,
)
from asyncdup.units import counted, format_size

Bottleneck = Literal[
    "producer CPU", "source disk", "producer", "consumer", "disk", "link", "round trips", "throttle", "errors", "rate limit", "spool", "barrier",
    "operator", "pause", "other",
]  # fmt: skip

WORDS: dict[str, str] = {
    "producer CPU": "this machine's CPU, which makes the volumes",
    "source disk": "reading the source",
    "producer": "making the volumes",
    "consumer": "unpacking and writing here",
    "disk": "the disk of the target",
    "link": "the link to the target",
    "round trips": "round trips to the target: a higher --concurrency would help",
    "throttle": "the target, which throttles",
    "errors": "errors and the pauses after them",
    "rate limit": "the rate limit",
    "spool": "room for volumes on their way: a larger --spool would help",
    "barrier": "transfers that had to wait for earlier ones",
    "operator": "the wait for you",
    "pause": "a pause that was asked for",
    "other": "neither transfers nor volumes",
}

SHORTEST = 1.0  # seconds: a run shorter than this has no bottleneck worth naming
_DATA = {"put", "put_if_absent", "get", "part", "range"}  # verbs that move data
_SHUT = {"BACKOFF", "PROBING"}
_BUSY = 0.7  # CPU seconds a second of producing from which the CPU, and not the disk, sets the pace
_HALF = 0.5
_OP_ENDS = (OpSucceeded, OpFailed, OpSkipped, OpCancelled)
_TURNS = (  # events that change what is going on; the time between two of them is laid to one thing, so the others cost nothing
    AttemptStarted, AttemptFinished, Blocked, Unblocked, RetryScheduled, GateChanged, LimitChanged, VolumeStarted, VolumeMade, VolumeDropped,
    JobStarted, JobFinished, *_OP_ENDS,
)  # fmt: skip


@dataclass(slots=True)
class _Lane:
    limit: int = 0  # slots; 0 = not known
    state: str = "RUNNING"
    shut: bool = False  # the gate is closed, for whatever reason
    throttled: bool = False  # the last failure was the server's wish for less
    running: Counter[str] = field(default_factory=Counter)  # verb -> attempts

    @property
    def moving(self) -> int:
        return sum(count for verb, count in self.running.items() if verb in _DATA)

    @property
    def full(self) -> bool:
        return 0 < self.limit <= self.moving


@dataclass(slots=True)
class _Attempts:
    """Attempts that moved data, and the least that any attempt took, which is what an object costs whatever its size."""

    ended: int = 0
    seconds: float = 0.0
    failed: float = 0.0  # seconds of those that failed
    limited: float = 0.0  # seconds at the rate limit
    least: float | None = None


class Summary:
    """A subscriber for ``EventHub.on_event``. ``cpu``: CPU seconds of the process and its children so far; None = not known.

    Attributes:
        wall: seconds from the first event to the last.
        seconds: time by activity: producing, sending, backoff, waiting, pause, rate limit, spool full, barrier.
        hedges, wasted: late objects that were asked for twice, and the bytes that came in vain for it.
        causes: time by what held the run up; each second counts once.
    """

    def __init__(self, *, cpu: Callable[[], float] | None = None) -> None:
        self.wall = 0.0
        self.hedges = 0
        self.wasted = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.causes: defaultdict[str, float] = defaultdict(float)
        self._cpu = cpu
        self._cpu_used = 0.0
        self._cpu_since = 0.0
        self._now: float | None = None
        self._done = False
        self._reading = False  # a restore or a verify: what arrives is unpacked, nothing is made
        self._producing = False
        self._lanes: dict[str, _Lane] = {}
        self._blocked: Counter[str] = Counter()
        self._resting: dict[tuple[str, int], bool] = {}  # ops that sleep after a failure of their own -> throttled
        self._attempts = _Attempts()

    def __call__(self, event: Event) -> None:
        """Lay the time since the last event to what was going on, then take the event into account."""
        if isinstance(event, (HedgeWon, HedgeLost)):
            self.hedges += 1
            self.wasted += event.wasted
        if self._done or not isinstance(event, _TURNS):
            return
        if self._now is not None and event.t > self._now:
            self._pass(event.t - self._now)
        self._now = event.t
        self._apply(event)

    def bottleneck(self) -> Bottleneck:
        """What the run waited for most."""
        causes = defaultdict(float, self.causes)
        sending = causes.pop("sending", 0.0)
        causes[self._why_slow()] += sending
        producing = causes.pop("producing", 0.0)
        causes[self._why_made_slowly()] += producing
        # What is none of ours counts only if there is nothing else, as in a run without volumes.
        named = [(seconds, name) for name, seconds in causes.items() if seconds > 0 and name != "other"]
        return max(named)[1] if named else "other"  # type: ignore[return-value]  # only names of Bottleneck are counted

    def lines(self) -> Iterator[str]:
        """Two or three short lines for a person; none for a run that was over in no time."""
        if self.wall < SHORTEST:
            return
        shares = [(name, self.seconds[name] / self.wall) for name in _ACTIVITIES]
        said = [f"{share:.0%} {self._words(name)}" for name, share in shares if share >= 0.005]
        yield f"time: {self.wall:.1f} s{': ' if said else ''}{', '.join(said)}"
        yield f"held up most by {WORDS[self.bottleneck()]}"
        if self.hedges:
            yield f"asked twice for {counted(self.hedges, 'late object')}, {format_size(self.wasted)} in vain"

    def _words(self, name: str) -> str:
        return "fetching" if name == "sending" and self._reading else _ACTIVITIES[name]

    # What the time is laid to.

    def _pass(self, seconds: float) -> None:
        self.wall += seconds
        for name in self._going_on():
            self.seconds[name] += seconds
        self.causes[self._cause()] += seconds

    def _going_on(self) -> Iterator[str]:
        lanes = self._lanes.values()
        if self._producing:
            yield "producing"
        if self._blocked["consumer"]:
            yield "unpacking"
        if any(lane.moving for lane in lanes):
            yield "sending"
        if any(lane.state == "WAITING" for lane in lanes):
            yield "waiting"
        elif any(lane.state in _SHUT for lane in lanes) or self._resting:
            yield "backoff"
        elif any(lane.shut for lane in lanes):
            yield "pause"
        for what, name in (("rate", "rate limit"), ("spool", "spool full"), ("memory", "memory full"), ("barrier", "barrier")):
            if self._blocked[what]:
                yield name

    def _cause(self) -> str:
        """Of this moment. ``sending`` and ``producing`` are told apart further at the end, when more is known."""
        lanes = self._lanes.values()
        if any(lane.state == "WAITING" for lane in lanes):
            return "operator"
        if any(lane.state in _SHUT for lane in lanes):
            return "throttle" if any(lane.throttled for lane in lanes) else "errors"
        if any(lane.shut for lane in lanes):
            return "pause"
        if self._blocked["consumer"]:
            return "consumer"
        return self._cause_of_flow()

    def _cause_of_flow(self) -> str:
        lanes = self._lanes.values()
        moving = any(lane.moving for lane in lanes)
        if self._resting and not any(lane.full for lane in lanes) and not self._producing:
            return "throttle" if any(self._resting.values()) else "errors"
        if self._blocked["spool"] or self._blocked["memory"]:
            full = not moving or any(lane.full or not lane.limit for lane in lanes)
            return "sending" if full else "spool"
        if any(lane.full for lane in lanes):
            return "sending"
        if self._producing:
            return "producing"
        if moving:
            return "sending"
        return "barrier" if self._blocked["barrier"] else "other"

    def _why_slow(self) -> Bottleneck:
        attempts = self._attempts
        if attempts.seconds <= 0:
            return "link"
        if attempts.failed > _HALF * attempts.seconds:
            return "errors"
        if attempts.limited > _HALF * attempts.seconds:
            return "rate limit"
        if all(name.startswith("file:") for name in self._lanes):
            return "disk"
        return "round trips" if (attempts.least or 0.0) * attempts.ended > _HALF * attempts.seconds else "link"

    def _why_made_slowly(self) -> Bottleneck:
        if self._cpu is None or self.seconds["producing"] <= 0:
            return "producer"
        return "producer CPU" if self._cpu_used >= _BUSY * self.seconds["producing"] else "source disk"

    # What is going on.

    def _lane(self, event: Event) -> _Lane:
        return self._lanes.setdefault(event.lane, _Lane())

    def _apply(self, event: Event) -> None:
        match event:
            case AttemptStarted():
                self._lane(event).running[event.verb] += 1
                self._resting.pop((event.lane, event.op), None)
            case AttemptFinished():
                self._finished(event)
            case RetryScheduled():
                self._failed(event)
            case GateChanged():
                self._lane(event).state = event.state
            case Blocked() | Unblocked():
                self._wait(event)
            case LimitChanged():
                self._lane(event).limit = event.new
            case VolumeStarted() | VolumeMade() | VolumeDropped():
                self._produce(isinstance(event, VolumeStarted))
            case JobStarted():
                self._reading = event.action in ("restore", "verify")
            case JobFinished():
                self._done = True
            case _ if isinstance(event, _OP_ENDS):
                self._resting.pop((event.lane, event.op), None)

    def _finished(self, event: AttemptFinished) -> None:
        self._lane(event).running[event.verb] -= 1
        attempts = self._attempts
        if event.outcome == "ok":
            self._lane(event).throttled = False
            attempts.least = min(event.seconds, event.seconds if attempts.least is None else attempts.least)
        if event.verb in _DATA:
            attempts.ended += 1
            attempts.seconds += event.seconds
            attempts.failed += event.seconds if event.outcome == "error" else 0.0

    def _failed(self, event: RetryScheduled) -> None:
        throttled = event.error_class == "throttle"
        self._lane(event).throttled = throttled
        if event.delay:
            self._resting[event.lane, event.op] = throttled

    def _wait(self, event: Blocked | Unblocked) -> None:
        begins = isinstance(event, Blocked)
        if event.what == "gate":
            self._lane(event).shut = begins
        else:
            self._blocked[event.what] += 1 if begins else -1
        if isinstance(event, Unblocked) and event.what == "rate":
            self._attempts.limited += event.seconds

    def _produce(self, begins: bool) -> None:
        if self._cpu is not None and begins != self._producing:
            used = self._cpu()
            if begins:
                self._cpu_since = used
            else:
                self._cpu_used += used - self._cpu_since
        self._producing = begins


_ACTIVITIES = {  # in the order in which they are said, and as what
    "producing": "making volumes",
    "sending": "sending",
    "unpacking": "unpacking",
    "backoff": "pausing after errors",
    "waiting": "waiting for you",
    "pause": "paused",
    "rate limit": "held back by the rate limit",
    "spool full": "waiting for room in the spool",
    "memory full": "waiting for memory",
    "barrier": "waiting for earlier transfers",
}
