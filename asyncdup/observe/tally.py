"""Events -> what a run has done so far and what it is at: one account, of the progress line and of ``asyncdup job status``. Pure: no clock but the events'."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    EpisodeClosed,
    EpisodeOpened,
    Event,
    GateChanged,
    JobStarted,
    Progress,
    RetryScheduled,
    Scanned,
    SourceCounted,
    VolumeMade,
    VolumeRead,
    VolumeStored,
)

_WINDOW = 10.0  # seconds over which the rate is taken: long enough to be calm, short enough to show that a link broke
_SETTLED = 5.0  # seconds after which the pace so far says something about what is left
_MOVING = {"put", "get", "part", "range"}  # verbs that move data; the others are too short to be counted as in flight


@dataclass(slots=True)
class Tally:
    """A subscriber for ``EventHub.on_event``. Changed only by being called.

    Attributes:
        files, scanned: what was gone through of the source, and its bytes; ``expected_files``, ``expected``: all of it, 0 if nobody has counted.
        full: all of the source goes into the backup, so that the pace so far tells how long the rest will take.
        made, stored, read: volumes; ``needed``: volumes that a restore will read, 0 if not known.
        waiting: the open episodes; ``trouble``: why nothing is started at present. Both by lane.
    """

    action: str = ""
    files: int = 0
    scanned: int = 0
    expected_files: int = 0
    expected: int = 0
    full: bool = False
    made: int = 0
    stored: int = 0
    stored_bytes: int = 0
    read: int = 0
    read_bytes: int = 0
    needed: int = 0
    moved: int = 0
    waiting: dict[str, EpisodeOpened] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    _counted: float = 0.0  # when the source had been counted
    _flying: set[tuple[str, int, int]] = field(default_factory=set)
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def __call__(self, event: Event) -> None:
        """Take one event into account."""
        match event:
            case Progress():
                self._sample(event.t, event.bytes)
            case Scanned():
                self.files, self.scanned = event.files, event.bytes
            case AttemptStarted() if event.verb in _MOVING:
                self._flying.add((event.lane, event.op, event.attempt))
            case AttemptFinished():
                self._flying.discard((event.lane, event.op, event.attempt))
                if event.outcome == "ok":
                    self.trouble.pop(event.lane, None)
            case VolumeMade():
                self.made += 1
            case VolumeStored():
                self.stored += 1
                self.stored_bytes += event.size
            case VolumeRead():
                self.read += 1
                self.read_bytes += event.size
                self.needed = event.total or self.needed
            case _:
                self._apply_turn(event)

    def _apply_turn(self, event: Event) -> None:
        match event:
            case JobStarted():
                self.action = event.action
            case SourceCounted():
                self.expected_files, self.expected, self.full, self._counted = event.files, event.bytes, event.full, event.t
            case EpisodeOpened():
                self.waiting[event.lane] = event
            case EpisodeClosed():
                self.waiting.pop(event.lane, None)
            case RetryScheduled():
                self.trouble[event.lane] = event.why or event.error
            case GateChanged() if event.state == "BACKOFF":
                self.trouble[event.lane] = event.why
            case GateChanged() if event.state != "PROBING":
                self.trouble.pop(event.lane, None)

    @property
    def in_flight(self) -> int:
        """Attempts that move data now."""
        return len(self._flying)

    def rate(self, now: float) -> float:
        """Bytes/s moved during the last seconds before ``now`` (same clock as ``Event.t``)."""
        if not self._samples:
            return 0.0
        recent = sum(size for t, size in self._samples if t > now - _WINDOW)
        return recent / min(_WINDOW, max(now - self._samples[0][0], 1.0))

    def share(self) -> float | None:
        """How much of the source was gone through, 0 to 1; None if nobody has counted it."""
        return min(1.0, self.scanned / self.expected) if self.expected else None

    def elapsed(self, now: float) -> float:
        """Seconds since the source was counted."""
        return now - self._counted

    def remaining(self, now: float) -> float | None:
        """Seconds to go; None where that is not known: of an incremental, whose changes nobody has counted, and of anything that just began.

        A backup makes volumes no faster than they leave, but for those of the spool, so its pace is that of the whole run.
        """
        share = self.share()
        if share and self.full:
            elapsed = self.elapsed(now)
            return elapsed * (1 - share) / share if share < 1 and elapsed > _SETTLED else None
        rate = self.rate(now)
        if not rate or not self.read or self.needed <= self.read:
            return None
        return (self.needed - self.read) * self.read_bytes / self.read / rate

    def _sample(self, t: float, size: int) -> None:
        self.moved += size
        samples = self._samples
        if samples and t - samples[-1][0] < 0.25:  # at most four a second, so that the window holds at most some forty
            samples[-1] = (samples[-1][0], samples[-1][1] + size)
        else:
            samples.append((t, size))
        while len(samples) > 1 and samples[0][0] < t - _WINDOW:
            samples.popleft()
