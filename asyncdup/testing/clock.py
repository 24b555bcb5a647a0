"""An asyncio loop on virtual time: when nothing is ready, its clock jumps to the next timer, so an hour of backoff takes milliseconds.

The clock stands still while a worker thread is busy, and runs as fast as the real one while there is real input or output to wait for
(a socket, a pipe, a child process). Nothing else moves it, so two runs of the same program see the same instants.
"""

from __future__ import annotations

import asyncio
import selectors
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STUCK_AFTER = 20.0  # real seconds without a timer, a thread or a file to wait for; then nothing can ever happen again
_OWN_FILES = 1  # the loop's self-pipe is always registered


class VirtualSelector(selectors.DefaultSelector):
    """The place where the loop would sleep; moves ``loop.now`` instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Ready files, if any; else what brings the next event nearer."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.busy_threads:
            return super().select(1.0)  # the thread's wake-up comes through the self-pipe; the clock waits for it
        if len(self.get_map()) > _OWN_FILES or self.loop.has_children():
            return self._wait_in_real_time(timeout)
        if timeout is None:
            return self._wait_for_a_stranger()
        self.loop.now += timeout
        return []

    def _wait_in_real_time(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = super().select(1.0 if timeout is None else timeout)
        passed = time.monotonic() - began
        self.loop.now += passed if timeout is None or ready else max(timeout, passed)
        return ready

    def _wait_for_a_stranger(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Only a signal or a thread that is not ours can wake the loop now. A test that hangs is better told so."""
        ready = super().select(STUCK_AFTER)
        if not ready:
            raise RuntimeError("the loop waits for something that cannot happen: no timer, no thread, no file, no child process")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """``now`` are the seconds of the virtual clock; ``busy_threads`` counts calls that are inside ``asyncdup.threads.in_thread``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_threads = 0
        self._children: weakref.WeakSet[Any] = weakref.WeakSet()
        selector = VirtualSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now

    def has_children(self) -> bool:
        """Whether a child process is alive: on Python 3.11 only a hidden thread waits for its end."""
        return any(child.get_returncode() is None for child in self._children)

    def run_in_executor(self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        """As the base class, counted as a busy thread (name resolution goes this way)."""
        self.busy_threads += 1
        try:
            future = super().run_in_executor(executor, func, *args)
        except BaseException:
            self.busy_threads -= 1
            raise
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _: asyncio.Future[Any]) -> None:
        self.busy_threads -= 1

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        transport = await super()._make_subprocess_transport(*args, **options)  # type: ignore[misc]
        self._children.add(transport)
        return transport
