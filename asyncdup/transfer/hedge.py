"""A second attempt at a get that is late and that its consumer waits for (engine rules H1-H3).

It is one attempt with a permit of its own, and nobody hears of its failure: it is not tried again, and the gate counts it for nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from asyncdup.events import Event, HedgeDenied, HedgeLost, HedgeStarted, HedgeWon
from asyncdup.transfer.attempt import Attempt, current_attempt
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import Ticket
from asyncdup.transfer.permits import Permit
from asyncdup.transfer.verbs import is_opaque

CALM = 30.0  # seconds after a throttle without second attempts
LOOK_AGAIN = 0.25  # seconds


class Discardable(Protocol):
    """What a get gives: an object that was verified, to be thrown away if the other was sooner."""

    async def discard(self) -> None: ...


T = TypeVar("T", bound=Discardable)


def may_hedge(lane: Lane) -> bool:
    """Whether second attempts make sense: not where one call is made at a time (S8, S1), nor where the slower one could not be ended (T5)."""
    return not (lane.gate.serial or lane.inline or is_opaque(lane.backend))


class Race(Generic[T]):
    """A get of ``size`` bytes, and at most one hedge of it. ``began``: when the first attempt did; None: it has not."""

    def __init__(self, lane: Lane, ticket: Ticket, size: int, emit: Callable[[Event], None]) -> None:
        self.began: float | None = None
        self._lane = lane
        self._ticket = ticket
        self._size = size
        self._emit = emit
        self._second: Callable[[Permit], Awaitable[T]] | None = None
        self._tasks: TaskGroup | None = None  # while the race is open
        self._first = anyio.CancelScope()
        self._tried: list[Attempt] = []  # of the first get
        self._hedged: list[Attempt] = []
        self._open = True  # for a hedge
        self._denied = False
        self._value: T | None = None

    async def run(self, first: Callable[[], Awaitable[T]], second: Callable[[Permit], Awaitable[T]]) -> T:
        """What ``first`` gives, or ``second``, if ``hedge`` has asked for that and it is sooner. ``second`` gives the permit back.

        Raises:
            Exception: of ``first``.
        """
        self._second = second
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as self._tasks:
                with self._first:
                    try:
                        await self._arrive(await first())
                    except Exception as error:  # noqa: BLE001 - raised below, as it is and not in a group (C2, C4)
                        failure = error
                tasks, self._tasks = self._tasks, None
                tasks.cancel_scope.cancel()
        except BaseException:
            if self._value is not None:
                await self._value.discard()
            raise
        if self._value is None:
            assert failure is not None
            raise failure
        if self.began is not None:
            self._lane.patience.note(self._size, anyio.current_time() - self.began)
        return self._value

    async def watched(self, txn: Callable[[], Awaitable[None]], *, hedge: bool = False) -> None:
        """One attempt, of the first get or of the hedge."""
        if self.began is None:
            self.began = anyio.current_time()
        (self._hedged if hedge else self._tried).append(current_attempt())
        await txn()

    def due(self) -> float:
        """When to ask for a hedge next."""
        soon = anyio.current_time() + LOOK_AGAIN
        return soon if self.began is None else max(soon, self.began + self._lane.patience.lasts(self._size))

    def hedge(self, others: Sequence[bool]) -> None:
        """Make a second attempt if it is time. ``others``: whether each of the gets that run beside this one is done (H1)."""
        late = self.began is not None and anyio.current_time() >= self.began + self._lane.patience.lasts(self._size)
        if late and self._open and 2 * sum(others) >= len(others) and self._tasks is not None:
            self._tasks.start_soon(self._try)

    async def _try(self) -> None:
        """Decides and takes in one step: nothing is held that is not used at once."""
        gate, patience = self._lane.gate, self._lane.patience
        if not self._open or anyio.current_time() < gate.throttled + CALM:
            return
        permit = gate.enter_at_once(replace(self._ticket, last=None))
        if permit is None:
            return
        if not patience.affords(self._size):
            gate.release(permit)
            self._deny()
            return
        self._open = False
        patience.spend(self._size)
        await self._run(permit)

    def _deny(self) -> None:
        if not self._denied:
            self._denied = True
            self._emit(HedgeDenied(lane=self._lane.name, op=self._ticket.number, name=self._ticket.name))

    async def _run(self, permit: Permit) -> None:
        assert self._second is not None and self.began is not None
        number = next(self._ticket.attempts)
        permit.ticket.attempts = iter((number,))
        lane, op, name = self._lane.name, self._ticket.number, self._ticket.name
        self._emit(HedgeStarted(lane=lane, op=op, attempt=number, name=name, late=anyio.current_time() - self.began))
        won = False
        try:
            won = await self._arrive(await self._second(permit))
        except Exception:  # noqa: BLE001, S110 - nobody needs it (H3)
            pass
        finally:
            end, loser = (HedgeWon, self._tried) if won else (HedgeLost, self._hedged)
            self._emit(end(lane=lane, op=op, attempt=number, name=name, wasted=sum(attempt.bytes for attempt in loser)))
            if won:
                self._first.cancel()

    async def _arrive(self, value: T) -> bool:
        """Whether ``value`` is the first to come."""
        if self._value is None:
            self._value = value
            return True
        await value.discard()
        return False
