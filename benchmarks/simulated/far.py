"""One run of the engine over a simulated link: a sink that stores nothing, as far away as ``testing.SlowBackend`` puts it."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from asyncdup.backends.base import Body, Capabilities, ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import NotFound
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer.opening import open_engine
from benchmarks.simulated.virtual import on_virtual_time

VOLUME = 1024  # bytes that are really handed on; the rate of the link is scaled to it
AS_IF = 256 << 10  # bytes that a volume stands for


@dataclass(frozen=True, slots=True)
class Setting:
    """``rtt``: seconds that each call waits; ``rate``: bytes/s of the link, of volumes of ``AS_IF`` bytes."""

    volumes: int
    rtt: float
    concurrency: int
    rate: float

    @property
    def model(self) -> float:
        """Seconds that nobody can beat: the link is always full, or every slot always waits for its round trip, whichever takes longer."""
        return max(self.volumes * AS_IF / self.rate, -(-self.volumes // self.concurrency) * self.rtt)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``seconds``: virtual. ``cpu``: real seconds of this process. ``peak``: bytes of Python's, above what was there; 0: not looked at."""

    setting: Setting
    seconds: float
    cpu: float
    peak: int = 0

    @property
    def overlap(self) -> float:
        """The model's time over ours: 1 = nothing lost."""
        return self.setting.model / self.seconds

    @property
    def each(self) -> float:
        """Processor seconds for a volume."""
        return self.cpu / self.setting.volumes


class Sink:
    """A backend that keeps sizes only, and of the last few objects."""

    description = "sink://"
    _KEPT = 64

    def __init__(self) -> None:
        self.stored = 0
        self._sizes: dict[str, int] = {}

    def capabilities(self) -> Capabilities:
        """Whole objects."""
        return Capabilities(atomic_put=True)

    def supports_concurrency(self) -> bool:
        """Always."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """Nothing."""

        async def each() -> AsyncGenerator[ObjectInfo, None]:
            for name, size in dict[str, int]().items():
                yield ObjectInfo(name, size)

        yield each()

    async def stat(self, name: str) -> ObjectInfo:
        """Raises NotFound for what it has forgotten."""
        if name not in self._sizes:
            raise NotFound(name)
        return ObjectInfo(name, self._sizes[name])

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Nothing can be fetched."""
        raise NotFound(name)
        yield

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Read it and forget it."""
        size = 0
        async with body.open() as chunks:
            async for chunk in chunks:
                size += len(chunk)
        self.stored += 1
        self._sizes[name] = size
        if len(self._sizes) > self._KEPT:
            del self._sizes[next(iter(self._sizes))]
        return ObjectInfo(name, size)

    async def delete(self, name: str) -> None:
        """Forget it."""
        self._sizes.pop(name, None)

    async def aclose(self) -> None:
        """Nothing is open."""


def upload(setting: Setting, *, memory: bool = False) -> Outcome:
    """Volumes through ``engine.writer``. With ``memory`` the peak is taken, and the processor time is worth nothing."""
    gc.collect()
    if memory:
        tracemalloc.start()
    began = time.process_time()
    try:
        seconds = on_virtual_time(_upload(setting))
        cpu = time.process_time() - began
        return Outcome(setting, seconds, cpu, tracemalloc.get_traced_memory()[1] if memory else 0)
    finally:
        tracemalloc.stop()


async def _upload(setting: Setting) -> float:
    sink = Sink()
    link = SlowBackend(sink, latency=setting.rtt, total_rate=setting.rate * VOLUME / AS_IF)
    body = BytesBody(bytes(VOLUME))
    began = anyio.current_time()
    async with open_engine(concurrency=setting.concurrency) as engine, engine.writer(engine.lane(link)) as writer:
        for number in range(setting.volumes):
            await writer.put(f"volume{number}", body)
    if sink.stored != setting.volumes:
        raise AssertionError(f"{sink.stored} of {setting.volumes} volumes were stored")
    return anyio.current_time() - began
