"""The door to worker threads: no result is lost and no call is left running, whichever way the caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import anyio
import pytest

from asyncdup.threads import in_thread, on_loop, settled, start_in_thread, thread_result

pytestmark = pytest.mark.realtime


class Work:
    """A blocking call that lasts until ``go`` is set."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.ended = False

    def __call__(self) -> str:
        self.begun.set()
        self.go.wait(60)
        self.ended = True
        return "result"


async def begun(work: Work) -> None:
    while not work.begun.is_set():
        await asyncio.sleep(0.001)


async def cancelled_twice(body: Callable[[], Awaitable[Any]], work: Work) -> None:
    """Cancel the task of ``body`` as an application would, again before ``work`` ends."""
    task = asyncio.create_task(body())  # type: ignore[arg-type]
    await begun(work)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.005)
    assert not task.done()
    work.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_caller_waits_for_its_call_and_gets_the_result() -> None:
    """What the call opened is in the caller's hands before the cancellation is, so it can be closed."""
    work = Work()
    seen: list[object] = []

    async def body() -> None:
        seen.append(await in_thread(work))
        await anyio.sleep(0)
        seen.append("not cancelled")

    await cancelled_twice(body, work)

    assert seen == ["result"]


async def test_a_call_that_fails_after_the_cancellation_is_heard() -> None:
    work = Work()

    def fail() -> None:
        work()
        raise OSError("disk")

    async def body() -> None:
        with pytest.raises(OSError, match="disk"):
            await in_thread(fail)
        await anyio.sleep(0)

    await cancelled_twice(body, work)


async def test_a_timeout_of_the_application_still_is_one() -> None:
    work = Work()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            threading.Timer(0.05, work.go.set).start()
            await in_thread(work)
            await anyio.sleep(0)

    assert work.ended
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_clean_up_under_a_shield_takes_place() -> None:
    """A cancellation that comes before the thread has begun is no exception."""
    done: list[str] = []

    async def body() -> None:
        with anyio.CancelScope(shield=True):
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await in_thread(done.append, "cleaned up")
        await anyio.sleep(0)
        done.append("not cancelled")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(body())

    assert done == ["cleaned up"]


async def test_a_cancelled_scope_lets_no_thread_begin() -> None:
    done: list[str] = []

    with anyio.CancelScope() as scope:
        scope.cancel()
        await in_thread(done.append, "done")

    assert scope.cancelled_caught
    assert done == []


async def test_settled_outlasts_a_cancellation() -> None:
    work = Work()

    async def body() -> None:
        call = start_in_thread(work)
        try:
            await thread_result(call)
        finally:
            await settled(call)
            assert work.ended

    await cancelled_twice(body, work)


async def test_an_abandoned_call_keeps_nobody() -> None:
    work = Work()
    with anyio.move_on_after(0.01) as scope:
        await in_thread(work, abandon_on_cancel=True)

    assert scope.cancelled_caught
    assert not work.ended
    work.go.set()


async def test_a_thread_may_call_the_loop() -> None:
    me = threading.get_ident()

    assert await in_thread(lambda: on_loop(threading.get_ident)) == me
    assert on_loop(threading.get_ident) == me


def test_no_thread_outlives_its_loop() -> None:
    """An application may run many loops, one after the other; a thread that holds its loop would stay, and the loop with it."""

    async def work() -> None:
        assert await thread_result(start_in_thread(on_loop, int, "1")) == 1

    before = threading.active_count()
    for _ in range(20):
        asyncio.run(work())
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("asyncdup")]:
        thread.join(10)
    assert threading.active_count() <= before


async def test_a_call_that_no_thread_could_be_started_for_is_never_made() -> None:
    """The pool has it in its queue all the same, and a thread that is free later would take it."""
    first, made = Work(), threading.Event()
    busy = start_in_thread(first)
    await begun(first)

    with mock.patch("threading.Thread.start", side_effect=RuntimeError("none")), pytest.raises(RuntimeError):
        start_in_thread(made.set)
    first.go.set()

    assert await thread_result(busy) == "result"
    assert await thread_result(start_in_thread(made.is_set)) is False
