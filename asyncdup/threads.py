"""The one door to worker threads: one limiter of our own, one place to count, measure and fake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

T = TypeVar("T")

# Threads beyond the cores do not help the CPU work; the rest of the places are for calls that block in the kernel or in a legacy backend.
MAX_THREADS = 64

_LIMITER_NAME = "_asyncdup_thread_limiter"
_POOL_NAME = "_asyncdup_thread_pool"


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


def on_loop(fn: Callable[..., T], *args: Any) -> T:
    """From a function that runs ``in_thread``: call ``fn(*args)`` in the loop's thread and wait for it. On the loop itself, just call it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.from_thread.run_sync(fn, *args)
    return fn(*args)


def start_in_thread(fn: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Begin ``fn(*args)`` in a worker thread while the caller goes on; no task is needed to carry it.

    The caller owns the future: it awaits ``thread_result``, and before it lets go of anything that the call uses, ``settled``.
    """
    loop = asyncio.get_running_loop()
    pool: ThreadPoolExecutor | None = getattr(loop, _POOL_NAME, None)
    if pool is None:
        pool = ThreadPoolExecutor(MAX_THREADS, "asyncdup")  # its threads end with the loop that holds it
        setattr(loop, _POOL_NAME, pool)
    return loop.run_in_executor(pool, fn, *args)


async def thread_result(call: asyncio.Future[T]) -> T:
    """What the call returned or raised. A cancelled wait leaves the call running."""
    await asyncio.wait((call,))
    return call.result()


async def settled(*calls: asyncio.Future[Any]) -> None:
    """Wait until all calls have ended, however; cannot be cancelled, so the caller first sees to it that they end."""
    if calls:
        with anyio.CancelScope(shield=True):
            await asyncio.wait(calls)
    for call in calls:
        call.exception()  # taken notice of: asyncio would complain otherwise
