"""Events -> what is going on right now: a picture of the run and its one line of text. Pure: knows no terminal and no clock but the events'."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    EpisodeClosed,
    EpisodeContinues,
    EpisodeOpened,
    Event,
    GateChanged,
    JobStarted,
    Progress,
    RetryScheduled,
    Scanned,
    VolumeMade,
    VolumeRead,
    VolumeStored,
)
from asyncdup.units import counted, format_duration, format_size

_WINDOW = 10.0  # seconds over which the rate is taken: long enough to be calm, short enough to show that a link broke
_MOVING = {"put", "get", "part", "range"}  # verbs that move data; the others are too short to be counted as in flight


@dataclass(slots=True)
class Picture:
    """What is known of the run. Changed only by ``apply``.

    ``made``, ``stored``, ``read`` count volumes; ``needed``: volumes that a restore will read, 0 if not known. ``waiting``: the open episodes,
    by lane. ``backing_off``: why a lane does not start anything at present, by lane.
    """

    action: str = ""
    files: int = 0
    scanned: int = 0
    made: int = 0
    stored: int = 0
    stored_bytes: int = 0
    read: int = 0
    read_bytes: int = 0
    needed: int = 0
    moved: int = 0
    waiting: dict[str, EpisodeOpened] = field(default_factory=dict)
    backing_off: dict[str, str] = field(default_factory=dict)
    _flying: set[tuple[str, int, int]] = field(default_factory=set)
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def apply(self, event: Event) -> None:
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
                    self.backing_off.pop(event.lane, None)
            case VolumeMade():
                self.made += 1
            case VolumeStored():
                self.stored += 1
                self.stored_bytes += event.size
            case VolumeRead():
                self.read += 1
                self.read_bytes += event.size
                self.needed = event.total or self.needed
            case JobStarted():
                self.action = event.action
            case _:
                self._apply_trouble(event)

    def _apply_trouble(self, event: Event) -> None:
        match event:
            case EpisodeOpened():
                self.waiting[event.lane] = event
            case EpisodeClosed():
                self.waiting.pop(event.lane, None)
            case RetryScheduled():
                self.backing_off[event.lane] = event.error
            case GateChanged() if event.state == "RUNNING":
                self.backing_off.pop(event.lane, None)
            case GateChanged() if event.state == "BACKOFF":
                self.backing_off[event.lane] = event.why

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

    def remaining(self, now: float) -> float | None:
        """Seconds to go, where the number of volumes is known and something moves."""
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


def describe(picture: Picture, now: float) -> str:
    """The run in one line: ``1,204 files, 3.2 GiB; volumes: 17 made, 4 in flight, 12 stored; 38.1 MiB/s``."""
    if picture.waiting:
        return describe_wait(next(iter(picture.waiting.values())))
    parts = []
    if picture.files:
        parts.append(f"{counted(picture.files, 'file')}, {format_size(picture.scanned)}")
    if picture.needed or picture.read:
        parts.append(f"volumes: {picture.read}{f' of {picture.needed}' if picture.needed else ''} read, {picture.in_flight} in flight")
    elif picture.made or picture.stored:
        parts.append(f"volumes: {picture.made} made, {picture.in_flight} in flight, {picture.stored} stored")
    if picture.moved:
        parts.append(f"{format_size(round(picture.rate(now)))}/s")
    remaining = picture.remaining(now)
    if remaining is not None:
        parts.append(f"{format_duration(remaining)} to go")
    if picture.backing_off:
        parts.append(f"retrying: {next(iter(picture.backing_off.values()))}")
    return "; ".join(parts) or "starting"


def describe_wait(episode: EpisodeOpened | EpisodeContinues) -> str:
    """That it waits, for what, and how to go on (rule N4)."""
    ways = f"; to go on: {', or '.join(episode.resume)}" if episode.resume else ""
    return f"WAITING for you: {episode.error}{f' ({episode.hint})' if episode.hint else ''}{ways}"
