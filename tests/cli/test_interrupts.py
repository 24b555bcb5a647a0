"""X4 and G9: what signals do, without sending any."""

from __future__ import annotations

import asyncio
import signal

import anyio
import pytest

from asyncdup.cli.interrupts import Interrupts
from asyncdup.events import EpisodeClosed, EpisodeOpened


class Steered:
    def __init__(self) -> None:
        self.done: list[str] = []

    def drain(self) -> None:
        self.done.append("drain")

    def resume(self, by: str = "api") -> None:
        self.done.append("resume")


class Bench:
    """A command that only sleeps, with its interrupts."""

    def __init__(self) -> None:
        self.control = Steered()
        self.scope = anyio.CancelScope()
        self.said: list[str] = []
        self.left: list[int] = []
        self.interrupts = Interrupts(
            self.control, self.scope, grace=10.0, say=self.said.append, status=lambda: "half done", leave=self.left.append
        )

    async def run(self, *signals: tuple[float, int]) -> float:
        """Receive each signal at its time; return when the command ended."""
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            with self.interrupts:
                tasks.start_soon(self.send, signals)
                with self.scope:
                    await anyio.sleep(100)
            tasks.cancel_scope.cancel()
        return anyio.current_time() - started

    async def send(self, signals: tuple[tuple[float, int], ...]) -> None:
        for delay, number in signals:
            await anyio.sleep(delay)
            self.interrupts.receive(number)


async def test_the_first_ctrl_c_drains_and_cancels_only_after_grace() -> None:
    bench = Bench()

    ended = await bench.run((1, signal.SIGINT))

    assert ended == pytest.approx(11)
    assert (bench.control.done, bench.interrupts.exit_code, bench.left) == (["drain"], 130, [])
    assert "Ctrl-C again" in bench.said[0]


async def test_the_second_ctrl_c_cancels_now() -> None:
    bench = Bench()

    assert await bench.run((1, signal.SIGINT), (1, signal.SIGINT)) == pytest.approx(2)
    assert bench.interrupts.exit_code == 130


async def test_the_third_ctrl_c_ends_the_process_even_if_the_command_does_not_end() -> None:
    bench = Bench()
    with bench.interrupts:
        for _ in range(3):
            bench.interrupts.receive(signal.SIGINT)

        assert bench.left == [130]  # before the loop had any turn: it may be stuck
        await asyncio.sleep(0)


async def test_sigterm_cancels_at_once() -> None:
    bench = Bench()

    assert await bench.run((1, signal.SIGTERM)) == pytest.approx(1)
    assert (bench.control.done, bench.interrupts.exit_code) == ([], 143)


async def test_sigterm_cuts_a_drain_short() -> None:
    bench = Bench()

    assert await bench.run((1, signal.SIGINT), (1, signal.SIGTERM)) == pytest.approx(2)
    assert (bench.control.done, bench.interrupts.exit_code) == (["drain"], 143)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_any_further_signal_after_the_cancel_ends_the_process(number: int) -> None:
    bench = Bench()
    with bench.interrupts:
        bench.interrupts.receive(signal.SIGTERM)
        bench.interrupts.receive(number)
        await asyncio.sleep(0)

    assert bench.left == [130 if number == signal.SIGINT else 143]


async def test_ctrl_c_while_waiting_for_the_operator_does_not_wait_for_grace() -> None:
    """G9."""
    bench = Bench()
    bench.interrupts.on_event(EpisodeOpened(episode="e", error="full", lane="l"))

    assert await bench.run((1, signal.SIGINT)) == pytest.approx(1)
    assert bench.interrupts.exit_code == 130


async def test_a_wait_that_begins_while_draining_ends_the_drain() -> None:
    bench = Bench()

    async with anyio.create_task_group() as tasks:

        async def fail_later() -> None:
            await anyio.sleep(3)
            bench.interrupts.on_event(EpisodeOpened(episode="e", error="full", lane="l"))

        tasks.start_soon(fail_later)
        assert await bench.run((1, signal.SIGINT)) == pytest.approx(3)


async def test_after_the_wait_ctrl_c_drains_again() -> None:
    bench = Bench()
    bench.interrupts.on_event(EpisodeOpened(episode="e", error="full", lane="l"))
    bench.interrupts.on_event(EpisodeClosed(episode="e", by="api", lane="l"))

    assert await bench.run((1, signal.SIGINT)) == pytest.approx(11)


async def test_usr1_resumes_and_usr2_tells() -> None:
    """R1, X4."""
    bench = Bench()

    ended = await bench.run((1, signal.SIGUSR1), (1, signal.SIGUSR2), (1, signal.SIGTERM))

    assert ended == pytest.approx(3)
    assert bench.control.done == ["resume"]
    assert bench.said == ["half done"]


async def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)]

    with Bench().interrupts:
        assert signal.getsignal(signal.SIGUSR1) not in before

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)] == before
