"""Backups, restores, verifications and removals in one process, again and again: nothing grows and nothing is left (M8).

A quick run makes some cycles; ``ASYNCDUP_SOAK`` is the number of minutes to go on for, and then the resident memory is looked at as well.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from torture.world import SMALL, START, Source, tree

import asyncdup

MINUTES = float(os.environ.get("ASYNCDUP_SOAK", "0"))
WARM_UP, CYCLES = 10, 40
WINDOW = 10  # cycles, the least of which counts: what a cycle takes for a moment says nothing
GROWTH = 1.02  # of memory, from the first window to the last
POOLS = 8  # threads more than in the first window: a pool keeps as many as were ever busy at once; one that a cycle loses is 30 at the end

pytestmark = [pytest.mark.slow, pytest.mark.realtime, pytest.mark.timeout(600 + 120 * MINUTES)]


@dataclass(frozen=True)
class Usage:
    """What the process holds between two cycles. ``memory``: blocks that Python has allocated, objects that it collects, resident bytes."""

    memory: tuple[int, int, int]
    descriptors: int
    threads: int
    tasks: int
    temporary: int

    @classmethod
    def now(cls, folder: Path) -> Usage:
        gc.collect()
        return cls(
            memory=(sys.getallocatedblocks(), len(gc.get_objects()), psutil.Process().memory_info().rss if MINUTES else 0),
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            temporary=len(list(folder.rglob("*asyncdup-*"))),
        )


class Soak:
    """A source that changes, and a target that never has more than two chains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rng = random.Random(8)
        self.source = Source(folder / "source", self.rng)
        self.url = f"file://{folder}/target"
        self.cycles = 0

    def options(self, **changes: object) -> asyncdup.Options:
        now = START + 10 * self.cycles
        given = {"volume_size": SMALL, "archive_dir": self.folder / "cache", "name": "c", "tempdir": self.folder, "now": lambda: now}
        return asyncdup.Options(**given, **changes)  # type: ignore[arg-type]

    async def cycle(self) -> None:
        """Everything once; every fourth backup is a full."""
        self.cycles += 1
        self.source.change()
        await asyncdup.backup(self.source.root, self.url, self.options(), action="full" if self.cycles % 4 == 1 else "incremental")
        to = self.folder / "restored"
        await asyncdup.restore(self.url, to, self.options())
        assert tree(to) == tree(self.source.root)
        shutil.rmtree(to)
        assert (await asyncdup.verify(self.url, self.source.root, self.options())).differences == 0
        await asyncdup.remove_all_but_n_full(self.url, 2, self.options(force=True))

    async def goes_on(self) -> list[Usage]:
        """What was held after each cycle but the first ones."""
        end = time.monotonic() + 60 * MINUTES
        usage: list[Usage] = []
        while self.cycles < WARM_UP + CYCLES or time.monotonic() < end:
            await self.cycle()
            usage = [*usage[:WINDOW], *usage[WINDOW:][-WINDOW:], Usage.now(self.folder)] if self.cycles > WARM_UP else []
        return usage


def test_nothing_grows_and_nothing_is_left(folders: Callable[[], Path]) -> None:
    soak = Soak(folders())
    usage = asyncio.run(soak.goes_on())
    first, last = usage[:WINDOW], usage[-WINDOW:]

    for kind, before in enumerate(_least(first)):
        assert _least(last)[kind] <= before * GROWTH, f"{('blocks', 'objects', 'resident bytes')[kind]} after {soak.cycles} cycles"
    for name, more in (("descriptors", 0), ("threads", POOLS), ("tasks", 0), ("temporary", 0)):
        assert max(getattr(each, name) for each in last) <= max(getattr(each, name) for each in first) + more, name
    assert (last[-1].tasks, last[-1].temporary) == (1, 0)


def _least(usage: list[Usage]) -> tuple[int, ...]:
    return tuple(min(each.memory[kind] for each in usage) for kind in range(3))
