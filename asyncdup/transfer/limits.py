"""The bounds (engine rules S2-S4, S6): who comes first, the memory in flight, and room for what is held between two steps.

All state changes in plain functions, never across an await, and every taking is one step: all or nothing. So no lock is needed, nothing is
held while waiting for the rest, and a cancelled wait leaves nothing behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import anyio
import anyio.lowlevel

from asyncdup.errors import AsyncdupError
from asyncdup.events import Blocked, Event, Unblocked
from asyncdup.transfer.failure import Failure

# Seconds that a clean-up may take: a dead network mount or a connection that does not close must not hold up the end.
CLEANUP = 10.0


class DiskRefused(Exception):
    """A file of the spool could not be written. ``again``: writes the rest, in a thread; may be called any number of times (S11)."""

    def __init__(self, error: OSError, again: Callable[[], None]) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again


class Level(IntEnum):
    """S6: what comes first."""

    CONTROL = 0  # outside the slots, at most two more
    HEAD = 1  # what a consumer waits for: the head of an ordered read, metadata
    DATA = 2


@dataclass(slots=True, eq=False)
class Ticket:
    """What a gate needs to know of one op. ``number`` counts the ops of an engine; ``memory``: bytes an attempt holds at a time."""

    verb: str = "call"
    name: str = ""
    number: int = 0
    level: Level = Level.DATA
    memory: int = 0
    turn: int = 0  # among the jobs of a lane, see ``Turns``
    last: Failure | None = None  # of the op's own last attempt
    attempts: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # their numbers, over all calls that the op makes (V1)

    @property
    def rank(self) -> tuple[Level, int, int]:
        """The order of starting: level, then turn (S7), then age."""
        return self.level, self.turn, self.number

    def __str__(self) -> str:
        return f"{self.verb} {self.name}".strip()


class Turns:
    """Several jobs on a lane take turns, op by op (S7): a job's next op comes one turn after its last, and never before the turn it is now.

    So one job's ops keep their order, and a job that comes later waits for one op of each other job, however many they have before the gate.
    """

    def __init__(self) -> None:
        self._now = 0
        self._last: dict[str, int] = {}  # by job

    def next(self, job: str) -> int:
        """The turn of a new op of ``job``."""
        turn = self._last[job] = max(self._now, self._last.get(job, 0)) + 1
        return turn

    def started(self, turn: int) -> None:
        """An op of ``turn`` has started."""
        self._now = max(self._now, turn)


class Memory:
    """Bytes in flight over all lanes (S3). One attempt that needs more than all of it runs alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._first_in_need: object | None = None  # the lane whose foremost op does not fit: the others let it go first, lest it starve
        self._reviews: dict[object, Callable[[], None]] = {}

    def on_room(self, lane: object, review: Callable[[], None]) -> None:
        """Call ``review`` when bytes were given back."""
        self._reviews[lane] = review

    def take(self, size: int, lane: object) -> bool:
        """Take ``size`` bytes for an attempt of ``lane`` now, or nothing."""
        if not size:
            return True
        if self._first_in_need not in (None, lane):
            return False
        if self.used and self.used + size > self.limit:
            self._first_in_need = lane
            return False
        self._first_in_need = None
        self.used += size
        return True

    def withdraw(self, lane: object) -> None:
        """``lane`` is about to look for itself again, or has nothing to start."""
        if self._first_in_need is lane:
            self._first_in_need = None

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        if not size:
            return
        self.used -= size
        for review in tuple(self._reviews.values()):
            review()


@dataclass(slots=True, eq=False)
class Place:
    """The right to hold ``size`` bytes. ``leaves``: it will be given back without its taker's help, once what it holds is stored."""

    size: int
    leaves: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    may_overrun: Callable[[], bool]
    granted: anyio.Event
    place: Place | None = None


class Room:
    """A bound on items and bytes held, first come first served; one item larger than the bound is let in alone.

    ``what`` names it in the events Blocked and Unblocked.
    """

    def __init__(self, what: str, *, items: int | None = None, size: int | None = None, emit: Callable[[Event], None]) -> None:
        self._what = what
        self._items = items
        self._size = size
        self._emit = emit
        self._places: set[Place] = set()
        self._used = 0  # bytes: the sum of their sizes
        self._waiters: list[_Waiter] = []
        self._closed: AsyncdupError | None = None

    @property
    def used(self) -> int:
        """Bytes."""
        return self._used

    @property
    def held(self) -> int:
        """Items."""
        return len(self._places)

    @property
    def leaving(self) -> bool:
        """Whether waiting helps: something in here will leave by itself."""
        return any(place.leaves for place in self._places)

    def set_bounds(self, *, items: int | None, size: int | None) -> None:
        """Change the bounds; what is held beyond them stays."""
        self._items, self._size = items, size
        self.review()

    async def take(self, size: int, *, leaves: bool = False, may_overrun: Callable[[], bool] = lambda: False) -> Place:
        """Wait for room for ``size`` bytes. ``may_overrun`` is asked whether waiting would be wrong; ``review`` makes it be asked again.

        Raises:
            AsyncdupError: what ``close`` was called with.
        """
        waiter = _Waiter(size, may_overrun, anyio.Event())
        self._waiters.append(waiter)
        try:
            self.review()
            if waiter.place is None:
                await self._wait(waiter)
            await anyio.lowlevel.checkpoint_if_cancelled()  # a place must not be lost with a task that is about to end
        except BaseException:
            self._withdraw(waiter)
            raise
        if waiter.place is None:
            raise self._closed or AsyncdupError(f"no {self._what}")
        waiter.place.leaves = leaves
        return waiter.place

    def give(self, place: Place) -> None:
        """Free the room of ``place``. Idempotent."""
        if place in self._places:
            self._places.remove(place)
            self._used -= place.size
            self.review()

    def resize(self, place: Place, size: int) -> None:
        """The true size is known now."""
        if place in self._places:
            self._used += size - place.size
            place.size = size
            self.review()

    def close(self, error: AsyncdupError) -> None:
        """Let nobody in any more: those who wait, and come, get ``error``."""
        self._closed = error
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.granted.set()

    def review(self) -> None:
        """Let in who may come in now."""
        if self._closed:
            self.close(self._closed)
        full = False
        for waiter in tuple(self._waiters):
            full = full or not self._fits(waiter.size)
            if not full or waiter.may_overrun():
                self._waiters.remove(waiter)
                waiter.place = Place(waiter.size)
                self._places.add(waiter.place)
                self._used += waiter.size
                waiter.granted.set()

    def _fits(self, size: int) -> bool:
        if not self._places:
            return True
        if self._items is not None and self.held >= self._items:
            return False
        return self._size is None or self._used + size <= self._size

    async def _wait(self, waiter: _Waiter) -> None:
        if waiter.granted.is_set():
            return
        began = anyio.current_time()
        self._emit(Blocked(what=self._what))
        try:
            await waiter.granted.wait()
        finally:
            self._emit(Unblocked(what=self._what, seconds=anyio.current_time() - began))

    def _withdraw(self, waiter: _Waiter) -> None:
        if waiter.place is not None:
            self.give(waiter.place)
        elif waiter in self._waiters:
            self._waiters.remove(waiter)
            self.review()
