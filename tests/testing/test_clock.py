"""The loop on virtual time: it jumps, it does not jump over a busy thread or a child, and it says so when it is stuck."""

from __future__ import annotations

import asyncio
import socket
import sys
import time

import anyio
import pytest

from asyncdup.testing import clock
from asyncdup.testing.clock import VirtualLoop
from asyncdup.threads import in_thread


async def test_an_hour_passes_at_once() -> None:
    began = time.monotonic()

    await anyio.sleep(3600)

    assert anyio.current_time() == pytest.approx(3600)
    assert time.monotonic() - began < 60


async def test_timers_fire_in_order_of_their_instants() -> None:
    order: list[float] = []

    async def nap(seconds: float) -> None:
        await anyio.sleep(seconds)
        order.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for seconds in (30, 10, 20):
            tasks.start_soon(nap, seconds)

    assert order == [10, 20, 30]


async def test_the_clock_stands_still_while_a_thread_is_busy() -> None:
    with anyio.fail_after(1):
        await in_thread(time.sleep, 0.02)

    assert anyio.current_time() == 0


async def test_the_clock_stands_still_while_an_executor_is_busy() -> None:
    with anyio.fail_after(1):
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.02)

    assert anyio.current_time() == 0


async def test_a_socket_is_waited_for_in_real_time() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        with pytest.raises(TimeoutError), anyio.fail_after(0.02):
            await reader.read(1)
        theirs.send(b"x")
        with anyio.fail_after(1000):
            assert await reader.read(1) == b"x"
    writer.close()
    await writer.wait_closed()

    assert anyio.current_time() < 100


async def test_a_child_process_is_waited_for_in_real_time() -> None:
    with anyio.fail_after(50):
        process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "pass")
        assert await process.wait() == 0


def test_a_loop_that_can_never_wake_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "STUCK_AFTER", 0.01)

    async def wait_for_nothing() -> None:
        await anyio.Event().wait()

    loop = VirtualLoop()
    with pytest.raises(RuntimeError, match="cannot happen"):
        loop.run_until_complete(wait_for_nothing())
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.close()


@pytest.mark.realtime
async def test_realtime_tests_run_on_the_real_loop() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)
