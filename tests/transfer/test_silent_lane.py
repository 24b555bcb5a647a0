"""Whose failure a stall is: the op's if others move beside it, the lane's if nothing moves at all (T1, T2, G1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from asyncdup.events import Event, GateChanged
from asyncdup.transfer import Gate, RetryPolicy, call_persistently, current_attempt
from asyncdup.transfer.limits import Ticket

WINDOW = 15.0  # seconds


async def hangs_once() -> None:
    if current_attempt().number == 1:
        await anyio.sleep_forever()


async def moves() -> None:
    for _ in range(20):
        await anyio.sleep(1.0)
        current_attempt().progress(1)


async def is_held_up_by_the_engine() -> None:
    with current_attempt().own_wait():
        await anyio.sleep(20.0)


async def hangs_after_a_last_byte() -> None:
    if current_attempt().number == 1:
        await anyio.sleep(WINDOW / 3)
        current_attempt().progress(1)
        await anyio.sleep_forever()


async def states(*txns: Callable[[], Awaitable[None]]) -> list[str]:
    """Those that the gate goes through while all are called at once."""
    events: list[Event] = []
    gate = Gate(RetryPolicy(stall_timeout=WINDOW), emit=events.append)
    async with anyio.create_task_group() as tasks:
        for number, txn in enumerate(txns):
            tasks.start_soon(partial(call_persistently, txn, gate=gate, op=Ticket("put", str(number), number)))
    return [event.state for event in events if isinstance(event, GateChanged)]


@pytest.mark.parametrize(
    "beside", [(moves,), (is_held_up_by_the_engine,), (hangs_once, moves), ()], ids=["moves", "held up", "one of two moves", "alone"]
)
async def test_a_stall_is_the_ops_own_unless_the_whole_lane_is_silent(beside) -> None:
    assert await states(hangs_once, *beside) == []


@pytest.mark.parametrize("beside", [hangs_once, hangs_after_a_last_byte])
async def test_a_stall_in_a_silent_lane_closes_the_gate_and_one_probe_goes_first(beside) -> None:
    assert await states(hangs_once, beside) == ["BACKOFF", "PROBING", "RUNNING"]
