"""Opening an engine: its settings, its spool and the flag file are settled and checked before anything runs."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import anyio

from asyncdup.events import EventHub, Notice
from asyncdup.transfer.adaptive import MOST, START
from asyncdup.transfer.engine import Engine, Settings, running
from asyncdup.transfer.intervention import FlagFile, Intervention, earlier_cause
from asyncdup.transfer.lane import Gate
from asyncdup.transfer.limits import Room
from asyncdup.transfer.policy import RetryPolicy
from asyncdup.transfer.spool import Spool

MEMORY = 256 << 20  # bytes in flight over all lanes


@asynccontextmanager
async def open_engine(
    *,
    concurrency: int | Literal["auto"] = "auto",
    most: int = MOST,
    policy: RetryPolicy | None = None,
    spool_dir: Path | None = None,
    spool_bytes: int | None = None,
    memory_bytes: int = MEMORY,
    intervention: Intervention | None = None,
    events: EventHub | None = None,
    rng: random.Random | None = None,
    asleep: Callable[[], float] | None = None,
    upload_limit: str | None = None,
    download_limit: str | None = None,
    request_limit: float | None = None,
    now: Callable[[], float] = time.time,  # noqa: TID251 - the default of the seam itself
) -> AsyncGenerator[Engine, None]:
    """An engine for the time of an ``async with`` block.

    Leaving the block waits for all accepted ops and raises the failure of one that nobody asked about; leaving it by an exception other
    than Drained cancels them.

    Args:
        concurrency: attempts at once per lane; 0: ops run inline; ``auto``: each lane looks for the best number (A1-A7).
        most: attempts at once per lane with ``auto``.
        spool_dir: folder for the spool's own folder, default: the system's for temporary files.
        spool_bytes: bound of the spool; default: ``concurrency + 2`` files, and with ``auto`` no more than 4 GiB or half of the free disk (S4).
        memory_bytes: bytes in flight over all lanes (S3).
        intervention: how the operator is told and may answer, in mode ``intervention``.
        asleep: seconds that the machine has been suspended in all, as ``suspend.slept`` knows; None: not looked at (T6).
        upload_limit, download_limit: as of ``Engine.set_rate``; ``request_limit``: attempts started a second, all lanes together.
        now: the wall clock that timetables go by, seconds since the epoch.

    Raises:
        UsageError: a limit cannot be; the flag file is in the way or its folder cannot be written (N2).
    """
    slots = min(START, most) if concurrency == "auto" else concurrency
    if slots < 0:
        raise ValueError(f"concurrency is {slots}, but 0 is the least")
    operator = intervention or Intervention()
    settings = Settings(
        concurrency=slots,
        auto=concurrency == "auto",
        most=most,
        policy=policy or RetryPolicy(),
        memory=memory_bytes,
        intervention=operator,
        events=events or EventHub(wall=operator.now, clock=anyio.current_time),
        rng=rng or random.Random(),
        asleep=asleep,
        now=now,
        spool_items=spool_bytes is None,
    )
    flag = await _flag(settings)
    room = Room("spool", size=spool_bytes, emit=settings.events.emit)
    spool = await Spool.create(spool_dir, room, partial(_disk_gate, settings), settings.events.emit)
    async with running(settings, spool, flag) as engine:
        engine.set_rate(upload=upload_limit, download=download_limit, requests=request_limit)
        yield engine


def _disk_gate(settings: Settings, name: str) -> Gate:
    """Of the disk under the spool (S11)."""
    return Gate(settings.policy, limit=1, emit=settings.events.emit, rng=settings.rng, name=name)


async def _flag(settings: Settings) -> FlagFile | None:
    """The flag file, checked; what an earlier run left is reported (G10)."""
    path, emit = settings.intervention.flag, settings.events.emit
    if path is None:
        return None
    if settings.policy.mode != "intervention":
        emit(Notice(message=f"the flag {path} is not used in mode {settings.policy.mode}"))
        return None
    flag = FlagFile(path)
    await flag.check()
    if flag.earlier is not None:
        emit(Notice(message=earlier_cause(flag.earlier)))
    return flag
