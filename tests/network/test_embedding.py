"""A program with a hundred ordered reads at once, most of them left early (O1, O5, P11): nothing of them outlives their blocks.

Objects are counted, not seconds: tasks, threads, descriptors (sockets are descriptors), files of the spool, and the engine's own objects.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.base import Backend
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.transfer import Engine, Op, OrderedReader, ReadItem, ReadRequest, SpoolFile, open_engine
from asyncdup.transfer.attempt import Attempt
from asyncdup.transfer.download import Download
from asyncdup.transfer.lane import Gate
from asyncdup.transfer.permits import Permit

READS = 100
OBJECTS = 6
SIZE = 9000
OURS = (Engine, Op, OrderedReader, ReadItem, SpoolFile, Attempt, Download, Gate, Permit)

pytestmark = [pytest.mark.slow, pytest.mark.realtime]

DATA = {f"object-{number:02d}": random.Random(number).randbytes(SIZE) for number in range(OBJECTS)}
REQUESTS = [ReadRequest(name, SIZE, {"sha1": hashlib.sha1(data).hexdigest()}) for name, data in DATA.items()]


@contextmanager
def nothing_left(spool: Path) -> Iterator[None]:
    """Behind the block there is nothing that was not there before it; what an earlier test has left may go meanwhile."""
    threads, descriptors, objects = set(threading.enumerate()), _descriptors(), _objects()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)  # the loop has told it to end
    assert set(threading.enumerate()) <= threads
    assert _objects() <= objects
    assert _descriptors() <= descriptors
    assert list(spool.iterdir()) == []


def _descriptors() -> Counter[str]:
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
        except FileNotFoundError:  # the one that the listing itself was made with
            continue
    return found


def _objects() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, OURS))


async def program(backends: list[Backend], spool: Path, reads: int = READS) -> Counter[str]:
    """Reads spread over an engine a backend; how each of them ended."""
    ends: Counter[str] = Counter()
    async with anyio.create_task_group() as tasks:
        for number, backend in enumerate(backends):
            tasks.start_soon(one_engine, backend, spool, range(number, reads, len(backends)), ends)
    for backend in backends:
        await backend.aclose()
    left = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
    assert not left, left
    return ends


async def one_engine(backend: Backend, spool: Path, numbers: range, ends: Counter[str]) -> None:
    async with open_engine(concurrency=4, spool_dir=spool) as engine:
        lane = engine.lane(backend)
        async with anyio.create_task_group() as readers:
            for number in numbers:
                readers.start_soon(read, engine, backend, random.Random(number), ends)
        statistics = engine.statistics()
        assert lane.gate.running == lane.gate.waiting == statistics.spool_files == statistics.spool_bytes == statistics.memory == 0


async def read(engine: Engine, backend: Backend, rng: random.Random, ends: Counter[str]) -> None:
    """One consumer: it stops somewhere, by a break, an exception or a cancellation, or reads to the end."""
    way, most, seen = rng.choice(["break", "raise", "cancel", "end"]), rng.randrange(OBJECTS), 0
    with anyio.CancelScope() as scope:
        try:
            async with engine.read_ordered(engine.lane(backend), REQUESTS, window=rng.choice([None, 1, 9])) as items:
                async for item in items:
                    assert item.path.read_bytes() == DATA[item.name] and item.name == REQUESTS[seen].name
                    seen += 1
                    if seen > most and way == "break":
                        break
                    if seen > most and way == "raise":
                        raise ValueError("enough")
                    if seen > most and way == "cancel":
                        scope.cancel()
        except ValueError:
            assert way == "raise"
    assert seen == (OBJECTS if way == "end" else most + 1)
    ends[way] += 1


def run(make: Callable[[], Backend], count: int, spool: Path) -> None:
    spool.mkdir()
    with asyncio.Runner() as runner:  # what a first use loads and caches is there afterwards
        runner.run(program([make()], spool, 5))
    with nothing_left(spool), asyncio.Runner() as runner:
        ends = runner.run(program([make() for _ in range(count)], spool))
        assert ends.total() == READS and min(ends[way] for way in ("break", "raise", "cancel", "end")) > 10


@pytest.mark.parametrize("engines", [1, 5])
def test_o5_a_hundred_reads_of_local_files_leave_nothing(tmp_path: Path, engines: int) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name, data in DATA.items():
        (target / name).write_bytes(data)

    run(lambda: open_backend(target.as_uri(), BackendOptions()), engines, tmp_path / "spool")


@pytest.mark.parametrize("engines", [1, 3])
def test_o5_a_hundred_reads_over_sftp_leave_nothing(sshd, tmp_path: Path, engines: int) -> None:
    (sshd.folder / "target").mkdir()
    for name, data in DATA.items():
        (sshd.folder / "target" / name).write_bytes(data)

    run(sshd.backend, engines, tmp_path / "spool")
