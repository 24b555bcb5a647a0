"""Signals -> what becomes of the running command (engine rule X4, and G9 for one that waits).

First SIGINT: drain, for at most the time of grace. Second SIGINT, or SIGTERM: cancel. One more: the process ends at once. SIGUSR1: resume.
SIGUSR2: status on standard error.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import anyio

from asyncdup.events import EpisodeClosed, EpisodeOpened, Event

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Control(Protocol):
    """What of a running command can be steered."""

    def drain(self) -> None:
        """Start nothing new, end with a state that the same command resumes."""

    def resume(self, by: str = "api") -> None:
        """Stop waiting for the operator: try again."""


class Interrupts:
    """Owns the process's signal handlers inside ``with``; opened in the loop's thread, which must be the main one.

    The counting is done in the handler itself and not in the loop: the third Ctrl-C must work even if the loop is stuck.

    Args:
        scope: around the command; cancelled, or given a deadline.
        grace: seconds that running transfers have after the first SIGINT.
        say: takes a line for the person. status: gives the line of SIGUSR2.
        leave: ends the process at once.

    Attributes:
        exit_code: 130 or 143 once a signal has asked for the end; else None.
    """

    def __init__(
        self,
        control: Control,
        scope: anyio.CancelScope,
        *,
        grace: float,
        say: Callable[[str], None],
        status: Callable[[], str],
        leave: Callable[[int], Any] = os._exit,
    ) -> None:
        self.exit_code: int | None = None
        self._control = control
        self._scope = scope
        self._grace = grace
        self._say = say
        self._status = status
        self._leave = leave
        self._stage = 0  # 1: draining, 2: cancelled. Changed only in the main thread, by the handler or a test
        self._waiting: set[str] = set()  # lanes that wait for the operator

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_event(self, event: Event) -> None:
        """Know whether the command waits for the operator: it then has nothing to drain (G9)."""
        if isinstance(event, EpisodeOpened):
            self._waiting.add(event.lane)
            if self._stage == 1:
                self._cancel()
        elif isinstance(event, EpisodeClosed):
            self._waiting.discard(event.lane)

    def receive(self, number: int) -> None:
        """Act on a signal. What touches the loop is left to the loop."""
        if number == signal.SIGUSR1:
            self._loop.call_soon_threadsafe(self._control.resume, "SIGUSR1")
        elif number == signal.SIGUSR2:
            self._loop.call_soon_threadsafe(self._tell)
        else:
            self._end(130 if number == signal.SIGINT else 143)

    def _end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        if self._stage == 2:
            self._leave(exit_code)
        elif self._stage == 1 or exit_code == 143 or self._waiting:
            self._stage = 2
            self._loop.call_soon_threadsafe(self._cancel)
        else:
            self._stage = 1
            self._loop.call_soon_threadsafe(self._drain)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.receive(number)

    def _drain(self) -> None:
        self._say(f"stopping: running transfers have {self._grace:.0f} s to end; Ctrl-C again stops now")
        self._scope.deadline = min(self._scope.deadline, self._loop.time() + self._grace)
        self._control.drain()

    def _cancel(self) -> None:
        self._stage = 2
        self._scope.cancel()

    def _tell(self) -> None:
        self._say(self._status())
