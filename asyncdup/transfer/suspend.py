"""Whether the machine has slept (engine rule T6): connections do not survive that, and no time-out tells, since the clock stood still, too."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

LOOK_EVERY = 2.0  # seconds awake
LEAST = 5.0  # seconds asleep that are worth a look at the connections


def slept() -> float:
    """Seconds that the machine has been suspended since it was started; 0 where the kernel does not tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


async def watch(asleep: Callable[[], float], on_suspend: Callable[[float], None]) -> None:
    """Call ``on_suspend`` with the seconds whenever ``asleep`` has grown by more than five, until cancelled."""
    before = asleep()
    while True:
        await anyio.sleep(LOOK_EVERY)
        now = asleep()
        if now - before > LEAST:
            on_suspend(now - before)
        before = now
