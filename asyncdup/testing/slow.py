"""A backend as if it were far away: latency for each call, a rate for each stream and for all of them. Sleeps on the loop's clock only."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import anyio

from asyncdup.backends.base import Backend, Body, Capabilities, ObjectInfo, SupportsMove, SupportsPutIfAbsent, SupportsWaitIdle
from asyncdup.backends.bodies import PipedBody, piped
from asyncdup.errors import Unsupported

_STEP = 1 << 16  # bytes between two sleeps: at 1 MiB/s a virtual clock then sees 16 steps a second, not one jump
_CATCH_UP = 0.1  # seconds: sleeps on the real clock end late, and that much may be made up for; a stream that paused longer earns nothing


class SlowBackend:
    """``inner`` behind a slow link. Capabilities and optional methods are passed on (Q5).

    Args:
        latency: seconds before each call does anything.
        jitter: seconds, at most, that are added to it at random.
        rate: bytes/s of one stream; None = no limit.
        total_rate: bytes/s of all streams together, up and down; None = no limit.
        rng: needed for ``jitter``.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        rate: float | None = None,
        total_rate: float | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.inner = inner
        self.latency = latency
        self.rate = rate
        self.total_rate = total_rate
        self._jitter = jitter
        self._rng = rng or random.Random(0)
        self._link_due = 0.0  # until when, on the loop's clock, what was let onto the common link keeps it busy

    @property
    def description(self) -> str:
        """Of what it wraps."""
        return self.inner.description

    def capabilities(self) -> Capabilities:
        """Of what it wraps, but for parts (Q5): a link is tried out with whole objects."""
        return replace(self.inner.capabilities(), parts=None)

    def supports_concurrency(self) -> bool:
        """As what it wraps."""
        return self.inner.supports_concurrency()

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """One latency for the whole listing."""
        await self._travel()
        async with self.inner.list(prefix) as found:
            yield found

    async def stat(self, name: str) -> ObjectInfo:
        """One latency."""
        await self._travel()
        return await self.inner.stat(name)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """One latency, then chunks at the rate."""
        await self._travel()
        async with piped(self.inner.get(name, start=start, length=length), self._paced) as chunks:
            yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """One latency, then the body at the rate."""
        await self._travel()
        return await self.inner.put(name, PipedBody(body, self._paced))

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """As ``put``. Unsupported if what it wraps cannot."""
        if not isinstance(self.inner, SupportsPutIfAbsent):
            raise Unsupported(f"{self.description} has no put_if_absent")
        await self._travel()
        return await self.inner.put_if_absent(name, PipedBody(body, self._paced))

    async def move(self, source: str, target: str) -> None:
        """One latency. Unsupported if what it wraps cannot."""
        if not isinstance(self.inner, SupportsMove):
            raise Unsupported(f"{self.description} has no move")
        await self._travel()
        await self.inner.move(source, target)

    async def delete(self, name: str) -> None:
        """One latency."""
        await self._travel()
        await self.inner.delete(name)

    async def wait_idle(self) -> None:
        """Of what it wraps."""
        if isinstance(self.inner, SupportsWaitIdle):
            await self.inner.wait_idle()

    async def aclose(self) -> None:
        """At once."""
        await self.inner.aclose()

    async def _travel(self) -> None:
        await anyio.sleep(self.latency + (self._rng.uniform(0, self._jitter) if self._jitter else 0.0))

    async def _paced(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        own_due = anyio.current_time()
        async for chunk in chunks:
            for begin, end in pairwise((*range(0, len(chunk), _STEP), len(chunk))):
                own_due = _next_due(own_due, end - begin, self.rate)
                self._link_due = _next_due(self._link_due, end - begin, self.total_rate)
                await anyio.sleep_until(max(own_due, self._link_due))
                yield chunk[begin:end]


def _next_due(due: float, size: int, rate: float | None) -> float:
    """When ``size`` bytes more have passed a link that is busy until ``due``."""
    return max(due, anyio.current_time() - _CATCH_UP) + (size / rate if rate else 0.0)
