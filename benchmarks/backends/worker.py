"""One contender with objects of one size, in a process of its own: ``python -m benchmarks.backends.worker NAME SIZE SCALE < PLACES``."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import psutil

from benchmarks.backends.contenders import CONTENDERS, Client, Contender
from benchmarks.backends.servers import Places

FLIGHTS = (1, 4, 16)
# Objects by size and flight: enough for a second or so, and never fewer than are in flight.
COUNTS = {64 << 10: (32, 64, 128), 1 << 20: (8, 16, 32), 8 << 20: (4, 8, 16)}


class Cell(TypedDict):
    """``cpu``: seconds, user and system, of this process and those it has started; ``wall``: seconds; ``peak``: bytes above idle."""

    verb: str
    size: int
    flight: int
    bytes: int
    cpu: float
    wall: float
    peak: int


class WrongSize(Exception):
    """What came back is not what was put."""


def main(arguments: list[str]) -> None:
    """Print the cells as JSON."""
    name, size, scale = arguments[0], int(arguments[1]), float(arguments[2])
    contender = next(each for each in CONTENDERS if each.name == name)
    print(json.dumps(asyncio.run(measure(contender, Places(**json.load(sys.stdin)), size, scale))))


async def measure(contender: Contender, places: Places, size: int, scale: float) -> list[Cell]:
    """Put and get at each flight, after one of each that nobody measures."""
    source = Path(places.folder, f"source-{size}")
    if not source.exists():
        source.write_bytes(os.urandom(size))
    cells: list[Cell] = []
    async with contender.open(places) as client:
        await client.put(["warm-up"], source, 1)
        await client.get(["warm-up"], 1)
        idle = sum(map(_resident, _processes()))
        for flight, count in zip(FLIGHTS, COUNTS[size], strict=True):
            names = [f"{size}-{flight}-{number}" for number in range(max(flight, round(count * scale)))]
            cells.append(await _cell("put", client.put(names, source, flight), size, flight, len(names), idle))
            cells.append(await _cell("get", _get(client, names, size, flight), size, flight, len(names), idle))
    return cells


async def _get(client: Client, names: list[str], size: int, flight: int) -> None:
    came = await client.get(names, flight)
    if came != size * len(names):
        raise WrongSize(f"{came} bytes came instead of {size * len(names)}")


async def _cell(verb: str, work: Awaitable[None], size: int, flight: int, count: int, idle: int) -> Cell:
    for process in _processes():
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its peak is from now on
    cpu, wall = _cpu(), time.perf_counter()
    await work
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # of the largest child that has come and gone, if there was one
    peak = sum(map(_peak, _processes())) - idle + ended
    return Cell(verb=verb, size=size, flight=flight, bytes=size * count, cpu=cpu, wall=wall, peak=peak)


def _processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def _cpu() -> float:
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [process.cpu_times() for process in _processes()[1:]]
    return sum(each.ru_utime + each.ru_stime for each in (own, ended)) + float(sum(each.user + each.system for each in running))


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _peak(process: psutil.Process) -> int:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
