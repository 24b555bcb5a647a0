"""The one door to worker threads: one limiter of our own, one place to count, measure and fake."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import EventLoopToken, current_token

T = TypeVar("T")

# Threads beyond the cores do not help the CPU work; the rest of the places are for calls that block in the kernel or in a legacy backend.
MAX_THREADS = 64

_LIMITER_NAME = "_asyncdup_thread_limiter"
_POOL_NAME = "_asyncdup_thread_pool"
_END_NAME = "_asyncdup_thread_pool_end"

_home = threading.local()  # ``token``: the loop that a thread of our own pool works for, which anyio cannot know


async def in_thread(fn: Callable[..., T], *args: Any, abandon_on_cancel: bool = False) -> T:
    """Run ``fn(*args)`` in a worker thread and return its result.

    A thread cannot be stopped: with ``abandon_on_cancel`` a cancelled caller leaves at once and the result is dropped, otherwise the
    cancellation waits for the call, whose result is returned, and is raised by the caller's next ``await``. A loop on virtual time
    (``asyncdup.testing.clock``) is told that a thread is busy.
    """
    loop = asyncio.get_running_loop()
    limiter: anyio.CapacityLimiter | None = getattr(loop, _LIMITER_NAME, None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(MAX_THREADS)
        setattr(loop, _LIMITER_NAME, limiter)
    run = _abandoning if abandon_on_cancel else _outlasting
    if not hasattr(loop, "busy_threads"):
        return await run(fn, args, limiter)
    loop.busy_threads += 1
    try:
        return await run(fn, args, limiter)
    finally:
        loop.busy_threads -= 1


async def _abandoning(fn: Callable[..., T], args: tuple[Any, ...], limiter: anyio.CapacityLimiter) -> T:
    return await anyio.to_thread.run_sync(fn, *args, abandon_on_cancel=True, limiter=limiter)


async def _outlasting(fn: Callable[..., T], args: tuple[Any, ...], limiter: anyio.CapacityLimiter) -> T:
    """``Task.cancel`` (``asyncio.timeout``, ``asyncio.TaskGroup``) knows nothing of anyio's shields: a clean-up would not take place, or the
    call would go on behind our back and what it opens would be nobody's. So the call is made, and the task cancelled again."""
    cancelled = 0
    try:
        while True:
            call = _Call(fn, args)
            try:
                return await anyio.to_thread.run_sync(call, limiter=limiter)
            except asyncio.CancelledError:
                if not call.drop():
                    cancelled += 1 + await _outlast(call.ending())
                    return call.outcome()
                if anyio.current_effective_deadline() == -math.inf:
                    raise  # by a scope, which minds shields and comes before the thread begins
                cancelled += 1
            finally:
                call.forget()
    finally:
        _cancel_again(cancelled)


def on_loop(fn: Callable[..., T], *args: Any) -> T:
    """From a function that runs ``in_thread``: call ``fn(*args)`` in the loop's thread and wait for it. On the loop itself, just call it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.from_thread.run_sync(fn, *args, token=getattr(_home, "token", None))
    return fn(*args)


def start_in_thread(fn: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Begin ``fn(*args)`` in a worker thread while the caller goes on; no task is needed to carry it.

    The caller owns the future: it awaits ``thread_result``, and before it lets go of anything that the call uses, ``settled``.

    Raises:
        RuntimeError: "can't start new thread": there is a limit of memory or of threads. The call is not made.
    """
    loop = asyncio.get_running_loop()
    pool: ThreadPoolExecutor | None = getattr(loop, _POOL_NAME, None)
    if pool is None:
        pool = ThreadPoolExecutor(MAX_THREADS, "asyncdup")
        setattr(loop, _POOL_NAME, pool)
        setattr(loop, _END_NAME, end := _at_end_of_loop(pool))
        with suppress(StopIteration):
            end.asend(None).send(None)
    dropped = threading.Event()
    try:
        return loop.run_in_executor(pool, _with_home, current_token(), dropped, fn, args)
    except RuntimeError:
        dropped.set()  # it is queued all the same, and would be made by the next free thread, with nobody to wait for it
        raise


async def _at_end_of_loop(pool: ThreadPoolExecutor) -> AsyncGenerator[None, None]:
    """What is left open when a loop ends is closed (``shutdown_asyncgens``), which nothing else in asyncio tells us of: the threads end, too."""
    try:
        yield
    finally:
        pool.shutdown(wait=False)


def _with_home(token: EventLoopToken, dropped: threading.Event, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
    if dropped.is_set():
        raise RuntimeError("dropped")  # nobody hears it
    _home.token = token
    try:
        return fn(*args)
    finally:
        del _home.token  # it holds the loop, which holds the pool, which would hold this thread for ever


async def thread_result(call: asyncio.Future[T]) -> T:
    """What the call returned or raised. A cancelled wait leaves the call running."""
    await asyncio.wait((call,))
    return call.result()


async def settled(*calls: asyncio.Future[Any]) -> None:
    """Wait until all calls have ended, however; cannot be cancelled, so the caller first sees to it that they end."""
    _cancel_again(await _outlast(*calls))
    for call in calls:
        call.exception()  # taken notice of: asyncio would complain otherwise


async def _outlast(*futures: asyncio.Future[Any]) -> int:
    """Wait for all; how often the task was cancelled meanwhile."""
    cancelled = 0
    with anyio.CancelScope(shield=True):
        while pending := [future for future in futures if not future.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError:
                cancelled += 1
    return cancelled


def _cancel_again(count: int) -> None:
    """Cancellations that were held back are raised by the task's next ``await``. Their number stays what it was: who cancelled counts on it."""
    task = asyncio.current_task()
    assert task is not None
    for _ in range(count):
        task.uncancel()
        task.cancel()


class _Call(Generic[T]):
    """A call in a worker thread that its caller may be torn from. Fields are changed under the lock, by the thread and on the loop."""

    def __init__(self, fn: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args
        self._lock = threading.Lock()
        self._begun = self._dropped = self._ended = False
        self._ending: asyncio.Future[None] | None = None  # only for a caller that was torn away
        self._value: T | None = None
        self._error: BaseException | None = None

    def __call__(self) -> T:
        """In the thread."""
        with self._lock:
            if self._dropped:
                raise RuntimeError("dropped")  # nobody waits for this either
            self._begun = True
        try:
            self._value = self._fn(*self._args)
            return self._value
        except BaseException as error:
            self._error = error
            raise
        finally:
            with self._lock:
                self._ended = True
            if self._ending is not None:
                self._ending.get_loop().call_soon_threadsafe(self._ending.set_result, None)

    def drop(self) -> bool:
        """Let the call never begin; False if it has."""
        with self._lock:
            self._dropped = not self._begun
            return self._dropped

    def ending(self) -> asyncio.Future[None]:
        """Done when the call has ended."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._ended:
                future.set_result(None)
            else:
                self._ending = future
        return future

    def outcome(self) -> T:
        """What the call returned or raised."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set when it returned, and T may itself be None

    def forget(self) -> None:
        """An error refers to this frame, and this to the error."""
        self._error = None
