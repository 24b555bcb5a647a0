"""Who waits before a gate, and who has passed it: the records of ``lane.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from asyncdup.transfer.limits import Level, Ticket


@dataclass(slots=True, eq=False)
class Permit:
    """The right to run one attempt. ``slot`` counts from 0; ``memory``: bytes that it holds.

    Of the attempt that runs: ``interrupt`` ends it; ``silence``: seconds in which the transport gave no sign of life.
    """

    ticket: Ticket
    slot: int
    memory: int
    interrupt: Callable[[], None] | None = None
    silence: Callable[[], float] = lambda: 0.0


@dataclass(slots=True, eq=False)
class Waiter:
    """An op before the gate. ``woken``: something has changed for it."""

    ticket: Ticket
    woken: anyio.Event
    permit: Permit | None = None


def rank(waiter: Waiter) -> tuple[Level, int, int]:
    """The order of starting."""
    return waiter.ticket.rank
