"""Frozen records of what happened, and the hub that hands them to subscribers (engine rules V1-V3).

Emitting never blocks and never raises. Each subscriber has a ring; only ``Progress`` may be dropped, merged into the next one, and counted.
No event holds a secret, a key or a body.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

RING = 4096  # events a subscriber may lag behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events share. ``t``: seconds of the monotonic clock; ``wall``: seconds since the epoch; ``seq`` has a gap where Progress was merged."""

    seq: int = 0
    t: float = 0.0
    wall: float = 0.0
    job: str = ""
    lane: str = ""
    op: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(Event):
    """A command began. ``action``: full, incremental, restore, verify, ..."""

    action: str
    source: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished(Event):
    """A command ended. ``error`` is its one-line message, empty on success."""

    action: str
    exit_code: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpQueued(Event):
    """An op was accepted. ``size``: bytes of its body, or expected; 0 if unknown."""

    verb: str
    name: str
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpStarted(Event):
    """The op's barriers are met and its first attempt may begin."""

    verb: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSucceeded(Event):
    """One of the four ends of an op. ``bytes``: of the stored or fetched object."""

    verb: str
    name: str
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFailed(Event):
    """The op failed for good. ``error``: class and message of the root cause."""

    verb: str
    name: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSkipped(Event):
    """The op was not sent because one that it had to follow failed."""

    verb: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCancelled(Event):
    """The op was cancelled."""

    verb: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """One run of the op took a slot. ``slot`` counts from 0."""

    verb: str
    name: str
    slot: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished(Event):
    """``outcome``: ok, error or cancelled. ``bytes`` is the sum of this attempt's Progress."""

    verb: str
    name: str
    outcome: Literal["ok", "error", "cancelled"]
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """``bytes`` moved by an attempt since its last Progress."""

    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """The op will be tried again after ``delay`` seconds. ``error_class``: retry, throttle, ambiguous or operator.

    ``error``: class and message of the root cause, for logs; ``why``: the same for a person.
    """

    verb: str
    name: str
    delay: float
    error_class: str
    error: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateChanged(Event):
    """``state``: RUNNING, BACKOFF, PROBING, WAITING or STOPPED."""

    state: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeOpened(Event):
    """The lane waits for the operator. ``resume``: the ways to go on, as commands."""

    episode: str
    error: str
    hint: str = ""
    resume: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeContinues(Event):
    """A reminder that the lane still waits (N1). ``waited``: seconds so far; the rest as of EpisodeOpened."""

    episode: str
    error: str
    hint: str = ""
    resume: tuple[str, ...] = ()
    waited: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeClosed(Event):
    """``by``: what ended the wait (flag removed, signal, api, abort, cancel, ...). ``waited``: seconds."""

    episode: str
    by: str
    waited: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged(Event):
    """The number of slots changed. ``old`` is 0 when the lane is new."""

    old: int
    new: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Event):
    """Something waits at a bound. ``what``: spool, memory, gate, rate, consumer or barrier."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblocked(Event):
    """The wait is over after ``seconds``."""

    what: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled(Event):
    """After an ambiguous attempt the remote state was looked at. ``done``: the op had taken effect."""

    verb: str
    name: str
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted(Event):
    """A get that its consumer waits for is asked for a second time, ``late`` seconds after the first. ``attempt``: of the second (H1)."""

    name: str
    late: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeWon(Event):
    """The second attempt was sooner. ``wasted``: bytes that the first had moved (H3)."""

    name: str
    wasted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeLost(Event):
    """The second attempt came to nothing. ``wasted``: bytes that it had moved (H3)."""

    name: str
    wasted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeDenied(Event):
    """A get is late, but the budget for second attempts is used up (H2)."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendDetected(Event):
    """The machine was suspended for ``seconds``; attempts over the network begin anew."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning(Event):
    """Unusual but survivable. ``code`` is duplicity's warning code (format specification, section 21); ``path`` as text with surrogates."""

    message: str
    code: int = 1
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """One line worth telling a person at normal verbosity."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned(Event):
    """What the producer (or the restore) has gone through so far: totals, not increments."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCounted(Event):
    """What Scanned will come to; only where asked for (``Options.count_source``). ``full``: all of it goes into the backup."""

    files: int
    bytes: int
    full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDone(Event):
    """An entry of the tree was stored or restored; only where asked for (``Options.list_entries``). ``what``: new, changed, deleted, written.

    ``path``: as text with surrogates, ``.`` for the root; ``kind``: duplicity's word for its type (reg, dir, sym, fifo, chr, blk).
    """

    what: Literal["new", "changed", "deleted", "written"]
    path: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStarted(Event):
    """There is room for a volume, and the producer fills it from now on. Its end is VolumeMade or VolumeDropped."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeDropped(Event):
    """The volume that was begun does not come about: nothing was left to put into it, or the run ends."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMade(Event):
    """A volume is sealed and waits to be sent. ``size``: stored bytes."""

    number: int
    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStored(Event):
    """A volume is durable at the target."""

    number: int
    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRead(Event):
    """A volume was fetched and verified. ``total``: volumes that this command needs."""

    number: int
    name: str
    size: int
    total: int = 0


Subscriber = Callable[[Event], None]


class Subscription:
    """An asynchronous iterator over events from the moment of subscription. ``dropped`` counts merged Progress events."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._ring: deque[Event] = deque()
        self._read = 0  # events that were taken out of it
        self._newest: dict[
            tuple[str, int, int], int
        ] = {}  # of the attempts that run: which event, from the first on, is their newest Progress
        self._wake = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def _push(self, event: Event) -> None:
        ring, attempt = self._ring, (event.lane, event.op, event.attempt)
        if isinstance(event, Progress):
            at = self._newest.get(attempt, -1) - self._read
            if len(ring) >= RING and at >= 0:
                earlier = ring[at]
                assert isinstance(earlier, Progress)
                ring[at] = replace(earlier, bytes=earlier.bytes + event.bytes)
                self.dropped += 1
                return
            self._newest[attempt] = self._read + len(ring)
        elif isinstance(event, AttemptFinished):
            self._newest.pop(attempt, None)
        ring.append(event)
        self._wake.set()

    def close(self) -> None:
        """End the iteration after what is in the ring. Idempotent."""
        self._closed = True
        self._hub._subscriptions.discard(self)
        self._wake.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._ring:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        self._read += 1
        return self._ring.popleft()


class EventHub:
    """Stamps events with ``seq``, clocks and job and hands them to callbacks (at once) and subscriptions (by ring).

    ``wall`` (seconds since the epoch) and ``clock`` (monotonic) are handed in where a test owns them. A callback that raises is dropped, never
    the transfer.
    """

    def __init__(
        self,
        *,
        job: str = "",
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the defaults of the seam itself
        clock: Callable[[], float] = time.monotonic,  # noqa: TID251
    ) -> None:
        self.job = job
        self.started: JobStarted | None = None  # the command whose events these are
        self._wall = wall
        self._clock = clock
        self._seq = itertools.count(1)
        self._callbacks: list[Subscriber] = []
        self._subscriptions: set[Subscription] = set()

    def on_event(self, callback: Subscriber) -> None:
        """Call ``callback`` with every event, in the emitting task. It must be quick."""
        self._callbacks.append(callback)

    def subscribe(self) -> Subscription:
        """A ring of our own; close it when done."""
        subscription = Subscription(self)
        self._subscriptions.add(subscription)
        return subscription

    def emit(self, event: Event) -> None:
        """Never blocks, never raises. The event is the hub's from then on: it is stamped in place, which costs half of a copy."""
        seq = next(self._seq)
        if not self._callbacks and not self._subscriptions:
            return
        for name, value in (("seq", seq), ("t", self._clock()), ("wall", self._wall()), ("job", self.job)):
            _stamp(event, name, value)
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - a broken observer must not break the transfer (V2)
                self._callbacks.remove(callback)
        for subscription in tuple(self._subscriptions):
            subscription._push(event)


_stamp = object.__setattr__  # past the freezing of a record that nobody has seen yet
