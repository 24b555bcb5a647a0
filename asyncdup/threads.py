"""The one door to worker threads: one limiter of our own, one place to count, measure and fake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

# Threads beyond the cores do not help the CPU work; the rest of the places are for calls that block in the kernel or in a legacy backend.
MAX_THREADS = 64

_LIMITER_NAME = "_asyncdup_thread_limiter"


async def in_thread(fn: Callable[..., T], *args: Any, abandon_on_cancel: bool = False) -> T:
    """Run ``fn(*args)`` in a worker thread and return its result.

    A thread cannot be stopped: with ``abandon_on_cancel`` a cancelled caller leaves at once and the result is dropped, otherwise the
    cancellation waits for the call. A loop on virtual time (``asyncdup.testing.clock``) is told that a thread is busy.
    """
    loop = asyncio.get_running_loop()
    limiter: anyio.CapacityLimiter | None = getattr(loop, _LIMITER_NAME, None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(MAX_THREADS)
        setattr(loop, _LIMITER_NAME, limiter)
    busy = getattr(loop, "busy_threads", None)
    if busy is None:
        return await anyio.to_thread.run_sync(fn, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    loop.busy_threads = busy + 1  # type: ignore[attr-defined]
    try:
        return await anyio.to_thread.run_sync(fn, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    finally:
        loop.busy_threads -= 1  # type: ignore[attr-defined]
