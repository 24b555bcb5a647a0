"""A backend behind a proxy that makes faults and counts requests, in front of a real server."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.registry import open_backend
from asyncdup.backends.s3.backend import S3Backend
from asyncdup.events import Event, EventHub, GateChanged, Reconciled, RetryScheduled
from asyncdup.testing.httpfaults import FaultProxy, fault_proxy
from asyncdup.transfer import Engine, Lane, ReadRequest, RetryPolicy, open_engine
from tests.s3.conftest import Place

DATA = random.Random(1).randbytes(600_000)
BODY = BytesBody(DATA, {"sha1": hashlib.sha1(DATA).hexdigest()})
QUICK = RetryPolicy(base=0.01, cap=0.02)


@dataclass
class Ground:
    """A backend behind the proxy, a lane for it, and what happened."""

    proxy: FaultProxy
    backend: S3Backend
    engine: Engine
    lane: Lane
    said: list[str]
    seen: list[Event] = field(default_factory=list)

    async def put(self, name: str = "object", body: BytesBody = BODY, **how: Any) -> Any:
        return await self.engine.run(self.lane, "put", name, body, **how)

    async def read(self, name: str = "object", *, expected: BytesBody = BODY) -> bytes:
        """Through the engine, checked by its digest."""
        request = ReadRequest(name, expected.size, expected.digests)
        async with self.engine.read_ordered(self.lane, [request]) as items:
            async for item in items:
                return Path(item.path).read_bytes()
        raise AssertionError("nothing was read")

    async def stored(self, name: str = "object") -> bytes:
        """What the server has, past all faults."""
        self.proxy.clear()
        async with self.backend.get(name) as chunks:
            return b"".join([chunk async for chunk in chunks])

    def classes(self) -> list[str]:
        """Why there were retries."""
        return [event.error_class for event in self.seen if isinstance(event, RetryScheduled)]

    def states(self) -> list[str]:
        """Of the gate, after RUNNING."""
        return [event.state for event in self.seen if isinstance(event, GateChanged)]

    def looks(self) -> list[bool]:
        """What was found when an ambiguous outcome was looked at."""
        return [event.done for event in self.seen if isinstance(event, Reconciled)]


@asynccontextmanager
async def ground(place: Place, *, policy: RetryPolicy = QUICK, **settings: Any) -> AsyncGenerator[Ground, None]:
    seen: list[Event] = []
    said: list[str] = []
    hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
    hub.on_event(seen.append)
    async with fault_proxy(place.endpoint) as proxy:
        behind = place.through(proxy.url)
        backend = open_backend(behind.url, replace(behind.options(**settings), notify=said.append))
        assert isinstance(backend, S3Backend)
        try:
            with anyio.fail_after(240):
                async with open_engine(policy=policy, events=hub, rng=random.Random(1)) as engine:
                    yield Ground(proxy, backend, engine, engine.lane(backend), said, seen)
        finally:
            await backend.aclose()
