"""Reads in which some gets are late, with and without second attempts at them: how long a consumer waits for the next object, on virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import Event, EventHub, HedgeDenied, HedgeStarted, Progress
from asyncdup.transfer import ReadRequest
from asyncdup.transfer.opening import open_engine
from benchmarks.simulated.virtual import on_virtual_time

USUAL = 2.0  # seconds of a get
LATE = 10  # times that
SIZE = 1 << 10  # bytes
_WORK = 0.5  # seconds that the consumer takes for an object: what is read ahead arrives sooner, at eight at once

Weather = Callable[[float, random.Random], float]  # time and chance -> how many times USUAL a get takes that begins now


def stragglers(now: float, rng: random.Random) -> float:
    """One of 50 is late."""
    return LATE if rng.random() < 0.02 else 1.0


def brown_out(now: float, rng: random.Random) -> float:
    """The whole target is slow for two minutes, and then as before."""
    return LATE if 60 <= now < 180 else 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One read. ``waits``: seconds from asking for each object to having it, in order of size; ``moved``: bytes."""

    weather: str
    hedge: bool
    objects: int
    seconds: float
    waits: tuple[float, ...]
    gets: int
    moved: int
    hedges: int
    denied: int

    def wait(self, share: float) -> float:
        """Seconds within which ``share`` of the objects came."""
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]

    @property
    def more_requests(self) -> float:
        """Than objects, as a share of them."""
        return self.gets / self.objects - 1

    @property
    def more_bytes(self) -> float:
        """Than the objects have, as a share of them."""
        return self.moved / (self.objects * SIZE) - 1


class Moody(MemoryBackend):
    """Half of an object at half of its time, the rest at the end."""

    def __init__(self, weather: Weather, rng: random.Random) -> None:
        super().__init__()
        self.gets = 0
        self._weather = weather
        self._rng = rng

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """As the weather is."""
        self.gets += 1
        seconds = USUAL * self._weather(anyio.current_time(), self._rng) * self._rng.uniform(0.8, 1.2)

        async def halves() -> AsyncGenerator[bytes, None]:
            async with super(Moody, self).get(name, start=start, length=length) as chunks:
                data = b"".join([chunk async for chunk in chunks])
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                await anyio.sleep(seconds / 2)
                yield half

        yield halves()


def read(weather: Weather, *, hedge: bool, objects: int, seed: int = 1) -> Reading:
    """``objects`` in order, eight at once."""
    return on_virtual_time(_read(weather, hedge, objects, random.Random(seed)))


async def _read(weather: Weather, hedge: bool, objects: int, rng: random.Random) -> Reading:
    backend = Moody(weather, rng)
    body = BytesBody(bytes(SIZE))
    for number in range(objects):
        await backend.put(f"volume{number}", body)
    seen: list[Event] = []
    hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
    hub.on_event(seen.append)
    waits: list[float] = []
    began = anyio.current_time()
    async with open_engine(concurrency=8, events=hub, rng=rng) as engine:
        requests = [ReadRequest(f"volume{number}", SIZE) for number in range(objects)]
        async with engine.read_ordered(engine.lane(backend), requests, hedge=hedge) as items:
            asked = anyio.current_time()
            async for _ in items:
                waits.append(anyio.current_time() - asked)
                await anyio.sleep(_WORK)
                asked = anyio.current_time()
    return Reading(
        weather=weather.__name__,
        hedge=hedge,
        objects=objects,
        seconds=anyio.current_time() - began,
        waits=tuple(sorted(waits)),
        gets=backend.gets,
        moved=sum(event.bytes for event in seen if isinstance(event, Progress)),
        hedges=sum(isinstance(event, HedgeStarted) for event in seen),
        denied=sum(isinstance(event, HedgeDenied) for event in seen),
    )
