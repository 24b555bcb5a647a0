"""Small doubles of the engine's tests: a backend that sleeps, a record of events, spooled bodies.

The module beside this one is imported as ``transfer.world``: test folders are no packages.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from asyncdup.backends.memory import MemoryBackend
from asyncdup.events import Event, EventHub
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import Engine, SpoolBody

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

E = TypeVar("E", bound=Event)


class Log:
    """Every event of a hub, in order."""

    def __init__(self) -> None:
        self.hub = EventHub(wall=lambda: 1.7e9 + anyio.current_time(), clock=anyio.current_time)
        self.events: list[Event] = []
        self.hub.on_event(self.events.append)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def far() -> Callable[[float], FaultyBackend]:
    """Makes a memory backend with a latency a call, whose calls are recorded and can be made to fail."""
    return lambda latency=0.0: FaultyBackend(SlowBackend(MemoryBackend(), latency=latency))


@pytest.fixture
def spooled() -> Callable[..., object]:
    """Makes a sealed body in an engine's spool."""

    async def make(engine: Engine, data: bytes) -> SpoolBody:
        file = await engine.spool.new(len(data))
        file.path.write_bytes(data)
        return file.seal(len(data), {"sha1": hashlib.sha1(data).hexdigest()})

    return make
