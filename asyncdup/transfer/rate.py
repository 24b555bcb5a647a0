"""Rate limits: token buckets for bytes up, bytes down and requests (engine rule S10).

``Bucket`` is pure: its clock is handed in. ``Limiter`` is a bucket that one can wait at; ``Rates`` are those of an engine or of one lane.
"""

from __future__ import annotations

from typing import Literal

import anyio

BURST = 0.25  # seconds worth of bytes that may go at once after a rest: small enough that a router's queue does not fill
LEAST_PIECE = 4 << 10  # bytes: smaller pieces of a chunk would cost more than they smooth
LARGEST_PIECE = 1 << 20  # bytes: what a chunk has at most

Way = Literal["up", "down"]


class Bucket:
    """Tokens that come at ``rate`` a second (None: as many as one likes). What is taken may leave a debt, which is waited for by the next.

    So in any t seconds at most ``rate * (t + BURST)`` and one piece go, and over a long time ``rate`` exactly.
    """

    def __init__(self, rate: float | None = None, *, now: float = 0.0) -> None:
        self.rate = rate
        self._tokens = 0.0  # below 0: a debt
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken; 0 if it may be now."""
        self._fill(now)
        if self.rate is None or self._tokens >= 0:
            return 0.0
        seconds = -self._tokens / self.rate
        return seconds if seconds > 1e-6 else 0.0  # less is a rounding error, and a timer so short may never move the clock

    def take(self, amount: float, now: float) -> None:
        """Take ``amount``, now that ``wait`` is 0."""
        self._fill(now)
        if self.rate is not None:
            self._tokens -= amount

    def set_rate(self, rate: float | None, now: float) -> None:
        """Change the rate. A debt of more than a second at the new one is forgiven, so that the change is felt within a second."""
        self._fill(now)
        self.rate = rate
        self._tokens = 0.0 if rate is None else max(self._tokens, -rate)

    def _fill(self, now: float) -> None:
        if self.rate is not None:
            self._tokens = min(self.rate * BURST, self._tokens + (now - self._at) * self.rate)
        self._at = now


class Limiter:
    """A bucket with those who wait at it, first come first served. Nothing is taken for a wait that was cancelled."""

    def __init__(self) -> None:
        self._bucket = Bucket()
        self._turn = anyio.Lock()  # whoever holds it waits for tokens, the others for it: anyio's lock is fair
        self._changed = anyio.Event()

    @property
    def rate(self) -> float | None:
        """Per second; None: no limit."""
        return self._bucket.rate

    def set_rate(self, rate: float | None) -> None:
        """Takes effect at once, also for those who wait."""
        if rate != self._bucket.rate:
            self._bucket.set_rate(rate, anyio.current_time())
            self._changed.set()
            self._changed = anyio.Event()

    async def take(self, amount: float) -> None:
        """Wait for ``amount`` tokens and take them."""
        if self._bucket.rate is None:
            return
        async with self._turn:
            while wait := self._bucket.wait(anyio.current_time()):
                with anyio.move_on_after(wait):
                    await self._changed.wait()
            self._bucket.take(amount, anyio.current_time())


class Rates:
    """Limits of an engine, or of a lane within ``outer``; what passes a lane's has to pass the engine's, too."""

    def __init__(self, outer: Rates | None = None) -> None:
        self.up, self.down, self.requests = Limiter(), Limiter(), Limiter()
        self._outer = outer

    def piece(self, way: Way) -> int | None:
        """Bytes to hand over at once so that the flow is even; None: no limit, so as they come."""
        rates = [limiter.rate for limiter in self._way(way) if limiter.rate is not None]
        return min(max(int(min(rates) * BURST), LEAST_PIECE), LARGEST_PIECE) if rates else None

    @property
    def limits_requests(self) -> bool:
        """Whether a request may have to wait."""
        return any(limiter.rate is not None for limiter in self._request())

    async def move(self, way: Way, count: int) -> None:
        """Wait until ``count`` bytes may move."""
        for limiter in self._way(way):
            await limiter.take(count)

    async def request(self) -> None:
        """Wait until one request may be made."""
        for limiter in self._request():
            await limiter.take(1)

    def _way(self, way: Way) -> list[Limiter]:
        own = [self.up if way == "up" else self.down]
        return own if self._outer is None else own + self._outer._way(way)

    def _request(self) -> list[Limiter]:
        return [self.requests] if self._outer is None else [self.requests, *self._outer._request()]
