"""One run of an op: its clocks (engine rules T0-T3), its byte count, and the wrappers that count bytes as a backend moves them.

An attempt has one deadline, in one cancel scope, that each byte moves on; there is no watchdog. While the engine itself holds things up
(a slow disk, a slow consumer) the deadline stands still (T2).
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio

from asyncdup.backends.base import Body, SupportsDigest, SupportsTakeOver
from asyncdup.errors import RetryableError
from asyncdup.transfer.policy import RetryPolicy
from asyncdup.transfer.rate import Rates, Way

T = TypeVar("T")

_current: ContextVar[Attempt] = ContextVar("asyncdup_attempt")

# A backend that shows no bytes (a legacy one in a thread) gets the time that its object would take at this rate: no stall can be seen from
# outside, and 32 KiB/s is below what anybody backs up through.
OPAQUE_RATE = 32 << 10


def current_attempt() -> Attempt:
    """The attempt that the calling task runs in. Raises LookupError outside of one."""
    return _current.get()


class Interrupted(RetryableError):
    """The engine ended the attempt for a reason that is no failure of the far end (T6)."""


class Stalled(RetryableError):
    """Nothing moved while the engine waited on the transport (T1, T3). ``window``: seconds that it waited."""

    def __init__(self, message: str, *, window: float, ambiguous: bool) -> None:
        super().__init__(message, ambiguous=ambiguous)
        self.window = window


class Attempt:
    """What a transaction may know and say about its present run.

    Attributes:
        number: 1 for the first attempt of the op.
        bytes: moved so far, as told by ``progress``.
        body_begun: a write has handed bytes to the transport, so that a lost answer is ambiguous (T0).
        limited: seconds that it has waited for a rate limit, None if it never had to look at one; ``on_limited`` is called before the first.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        number: int = 1,
        on_progress: Callable[[int], None] | None = None,
        on_durable: Callable[[], None] | None = None,
        rates: Rates | None = None,
        on_limited: Callable[[], None] | None = None,
    ) -> None:
        self.number = number
        self.bytes = 0
        self.body_begun = False
        self.limited: float | None = None
        self._rates = rates
        self._on_limited = on_limited
        self._policy = policy
        self._on_progress = on_progress
        self._on_durable = on_durable
        self._scope = anyio.CancelScope()
        self._interrupted = False
        self._last = math.inf if policy.attempt_timeout is None else anyio.current_time() + policy.attempt_timeout
        self._allowed = policy.stall_timeout  # seconds until the next byte must have moved
        self._heard = anyio.current_time()  # the newest sign of life
        self._left: float | None = None  # seconds that were left when the engine began to hold things up; None: it does not
        self._waits_for = "byte"
        self._silent_until = math.inf  # the instant at which nothing has moved for too long
        self._due = math.inf  # when enough bytes must have moved to be no trickle; never while none is on its way
        self._lacking = 0.0  # bytes until then
        self._expect(self._allowed)

    @property
    def cut_short(self) -> bool:
        """Whether a clock ended this attempt; what it called may go on behind our back (T5)."""
        return self._scope.cancelled_caught

    @property
    def deadline(self) -> float:
        """The instant (monotonic clock of the loop) at which this attempt ends unless a byte moves."""
        return self._scope.deadline

    def silence(self) -> float:
        """Seconds that it has waited on the transport without a sign of life; 0 while the engine itself holds things up (T2)."""
        if self._left is not None:
            return 0.0
        return max(0.0, anyio.current_time() - self._heard)

    def progress(self, count: int = 0) -> None:
        """``count`` bytes have moved (0: a sign of life). The stall clock starts anew (T1)."""
        self.bytes += count
        self._waits_for = "byte"
        if count and self._policy.min_rate:
            self._count_trickle(count)
        self._expect(self._policy.stall_timeout)
        if count and self._on_progress is not None:
            self._on_progress(count)

    def durable(self, count: int = 0) -> None:
        """``count`` bytes will never be sent again: the streak of failures ends (B4). They are not counted as moved."""
        self._expect(self._policy.stall_timeout)
        if self._on_durable is not None:
            self._on_durable()

    def request_sent(self, *, size: int = 0) -> None:
        """The last byte of the request is out: the response clock runs (T3). ``size``: bytes that move unseen before the response."""
        self._waits_for = "answer"
        self._due = math.inf  # a server may think for as long as its own clock lets it
        self._expect(self._policy.response_timeout + size / OPAQUE_RATE)

    @contextmanager
    def own_wait(self) -> Iterator[None]:
        """Inside, the engine holds things up and not the transport: the stall clock stands still (T2)."""
        if self._left is not None:  # nested: the outer one counts
            yield
            return
        began = anyio.current_time()
        self._left = max(0.0, self._silent_until - began)
        self._scope.deadline = self._last
        try:
            yield
        finally:
            self._heard = now = anyio.current_time()
            self._due += now - began
            self._silent_until = now + self._left
            self._scope.deadline = min(self._last, self._silent_until, self._due)
            self._left = None

    def piece(self, way: Way) -> int | None:
        """Bytes that may move at once, so that a limited flow is even; None: no limit (S10)."""
        return None if self._rates is None else self._rates.piece(way)

    async def move(self, way: Way, count: int) -> None:
        """Wait until the rate limits let ``count`` bytes pass (S10, T2)."""
        if self._rates is not None and self._rates.piece(way) is not None:
            await self._pay(self._rates.move, way, count)

    async def request(self) -> None:
        """Wait until the rate limits let one request pass (S10, T2)."""
        if self._rates is not None and self._rates.limits_requests:
            await self._pay(self._rates.request)

    async def _pay(self, pay: Callable[..., Awaitable[None]], *args: object) -> None:
        if self.limited is None:
            self.limited = 0.0
            if self._on_limited is not None:
                self._on_limited()
        began = anyio.current_time()
        try:
            with self.own_wait():
                await pay(*args)
        finally:
            self.limited += anyio.current_time() - began

    def interrupt(self) -> None:
        """End it; ``run`` raises Interrupted unless it has its result already."""
        self._interrupted = True
        self._scope.cancel()

    async def run(self, txn: Callable[[], Awaitable[T]]) -> T:
        """The result of ``txn``. Raises RetryableError from TimeoutError when a clock ran out (T0)."""
        token = _current.set(self)
        try:
            with self._scope:
                return await txn()
        finally:
            _current.reset(token)
        if self._interrupted:
            raise Interrupted("the machine was suspended", ambiguous=self.body_begun)
        if anyio.current_time() >= self._last:
            what = f"not done after {self._policy.attempt_timeout:g} s"
            raise RetryableError(what, ambiguous=self.body_begun) from TimeoutError(what)
        what = f"no {self._waits_for} for {self._allowed:g} s"
        if self._due < self._silent_until:
            what = f"slower than {self._policy.min_rate:g} bytes/s for {self._policy.stall_timeout:g} s"
        raise Stalled(what, window=self._allowed, ambiguous=self.body_begun) from TimeoutError(what)

    def _count_trickle(self, count: int) -> None:
        """Each time that as many bytes have moved as ``min_rate`` asks of ``stall_timeout``, the next such time begins (T3)."""
        self._lacking -= count
        if self._due == math.inf or self._lacking <= 0:
            self._lacking = self._policy.min_rate * self._policy.stall_timeout
            self._due = anyio.current_time() + self._policy.stall_timeout

    def _expect(self, seconds: float) -> None:
        """The next sign of life must come within ``seconds``, unless the engine holds things up just now."""
        self._allowed = seconds
        self._heard = anyio.current_time()
        if self._left is not None:
            self._left = seconds
            return
        self._silent_until = self._heard + seconds
        self._scope.deadline = min(self._last, self._silent_until, self._due)


@dataclass(frozen=True, slots=True)
class MeteredBody:
    """A body that tells its attempt about each chunk that the transport took. ``opaque``: what follows the last chunk is out of sight."""

    body: Body
    attempt: Attempt
    opaque: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.body.size

    @property
    def digests(self) -> Mapping[str, str]:
        """Of the whole body."""
        return self.body.digests

    @property
    def local_path(self) -> Path | None:
        """The file, if the body inside is one that may be handed over."""
        path: Path | None = getattr(self.body, "local_path", None)
        return path

    def take_over(self) -> Path | None:
        """The file, if the body inside is one that a backend may make its own by a link; then no byte of it is seen to move."""
        body = self.body
        if not isinstance(body, SupportsTakeOver):
            return None
        self.attempt.body_begun = True
        self.attempt.request_sent(size=self.size)
        return body.take_over()

    async def digest(self, kind: str) -> str | None:
        """As the body inside. Reading for it is not the transport's time (T2)."""
        if not isinstance(self.body, SupportsDigest):
            return None
        with self.attempt.own_wait():
            return await self.body.digest(kind)

    def open(self, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """As the body inside."""
        return self._open(start)

    @asynccontextmanager
    async def _open(self, start: int) -> AsyncGenerator[AsyncIterator[bytes], None]:
        async with AsyncExitStack() as stack:
            with self.attempt.own_wait():
                chunks = await stack.enter_async_context(self.body.open(start))
            yield _Taken(chunks, self)


class _Taken:
    """Chunks of a body. That the next one is asked for shows that the transport took the last one."""

    def __init__(self, chunks: AsyncIterator[bytes], metered: MeteredBody) -> None:
        self._chunks = chunks
        self._metered = metered
        self._handed = 0  # bytes of the chunk that the transport works on
        self._left = b""  # of a chunk that is too large for the rate limit

    def __aiter__(self) -> _Taken:
        return self

    async def __anext__(self) -> bytes:
        attempt = self._metered.attempt
        if self._handed:
            attempt.progress(self._handed)
            self._handed = 0
        try:
            if not (chunk := self._left):
                with attempt.own_wait():
                    chunk = await anext(self._chunks)
        except StopAsyncIteration:
            attempt.body_begun = True  # an empty body is sent, too
            attempt.request_sent(size=self._metered.size if self._metered.opaque else 0)
            raise
        piece = attempt.piece("up") or len(chunk)
        chunk, self._left = chunk[:piece], chunk[piece:]
        await attempt.move("up", len(chunk))
        attempt.body_begun = True
        self._handed = len(chunk)
        return chunk
