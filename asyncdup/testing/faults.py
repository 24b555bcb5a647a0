"""What can go wrong with one call of a backend (M1): steps for the scripts of ``FaultyBackend``, and errors as real backends raise them."""

from __future__ import annotations

import errno
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from asyncdup.backends.base import Body, ObjectInfo
from asyncdup.backends.bodies import PipedBody, piped
from asyncdup.errors import OperatorError, RetryableError

MakeError = Callable[[], Exception]


def refused() -> Exception:
    """No connection, so no effect."""
    return _caused(RetryableError("cannot connect", scope="lane"), ConnectionRefusedError(errno.ECONNREFUSED, "connection refused"))


def lost() -> Exception:
    """The connection ended after the call had begun: nobody knows whether it had its effect."""
    return _caused(RetryableError("connection lost", ambiguous=True), ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))


def throttled(retry_after: float | None = None) -> Exception:
    """Too many requests; ``retry_after`` in seconds, if the server says so."""
    return RetryableError("slow down", scope="lane", throttle=True, retry_after=retry_after)


def auth_lost() -> Exception:
    """The credentials are no longer good."""
    return OperatorError("authentication failed", hint="renew the credentials")


def disk_full() -> Exception:
    """No room at the target."""
    return _caused(OperatorError("no space left", space=True), OSError(errno.ENOSPC, "no space left on device"))


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@dataclass(frozen=True, slots=True)
class Change:
    """An object before and after a put, move or delete; None = absent, or not known to have been there."""

    name: str
    before: ObjectInfo | None
    after: ObjectInfo | None


class Step:
    """What happens to one call: this one changes nothing. A fault changes one or two of the moments."""

    times = 1  # how often the wrapped backend is called

    async def begin(self) -> None:
        """Before the wrapped backend is called."""

    async def end(self) -> None:
        """After it has succeeded."""

    def change_body(self, body: Body) -> Body:
        """What a put sends instead of ``body``."""
        return PipedBody(body, self.pipe)

    async def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """What becomes of the bytes of a put or a get."""
        async for chunk in chunks:
            yield chunk

    def change_listing(self, found: list[ObjectInfo], history: Sequence[Change]) -> list[ObjectInfo]:
        """What a list shows instead of ``found``. ``history``: the successful changes so far, oldest first."""
        return found


@dataclass(frozen=True)
class Raise(Step):
    """Fail at once, without any effect."""

    error: MakeError = refused

    async def begin(self) -> None:
        raise self.error()


@dataclass(frozen=True)
class LostAck(Step):
    """Have the effect, then fail."""

    error: MakeError = lost

    async def end(self) -> None:
        raise self.error()


@dataclass(frozen=True)
class Delay(Step):
    """Wait for ``seconds``, then go on as usual."""

    seconds: float

    async def begin(self) -> None:
        await anyio.sleep(self.seconds)


@dataclass(frozen=True)
class Hang(Step):
    """Never come back."""

    async def begin(self) -> None:
        await anyio.sleep_forever()


@dataclass(frozen=True)
class Cut(Step):
    """Fail when ``at`` bytes of the body, or of the object, have passed."""

    at: int
    error: MakeError = lost

    async def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async with aclosing(_first(chunks, self.at)) as passed:
            async for chunk in passed:
                yield chunk
        raise self.error()


@dataclass(frozen=True)
class Stall(Step):
    """Send nothing for ``seconds`` when ``at`` bytes have passed, then go on."""

    at: int
    seconds: float = math.inf

    async def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        seen = 0
        async for chunk in chunks:
            if seen <= self.at < seen + len(chunk):
                await anyio.sleep(self.seconds)
            seen += len(chunk)
            yield chunk


@dataclass(frozen=True)
class Partial(Step):
    """A put where puts are not atomic: the first ``at`` bytes are there under the object's name, then it fails."""

    at: int
    error: MakeError = lost

    def change_body(self, body: Body) -> Body:
        return _Prefix(body, min(self.at, body.size))

    async def end(self) -> None:
        raise self.error()


@dataclass(frozen=True)
class Twice(Step):
    """The call reaches the server two times: a duplicate put, a repeated delete."""

    times = 2


@dataclass(frozen=True)
class Truncate(Step):
    """A get ends after ``at`` bytes, a list after ``at`` objects, and nothing says so."""

    at: int

    def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        return _first(chunks, self.at)

    def change_listing(self, found: list[ObjectInfo], history: Sequence[Change]) -> list[ObjectInfo]:
        return found[: self.at]


@dataclass(frozen=True)
class Extend(Step):
    """A get gives ``data`` after the object's last byte."""

    data: bytes = b"\0"

    async def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        yield self.data


@dataclass(frozen=True)
class Flip(Step):
    """The lowest bit of byte ``at`` is wrong: in what is stored, or in what is read."""

    at: int = 0

    async def pipe(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        seen = 0
        async for chunk in chunks:
            spot = self.at - seen
            seen += len(chunk)
            if 0 <= spot < len(chunk):
                chunk = chunk[:spot] + bytes([chunk[spot] ^ 1]) + chunk[spot + 1 :]
            yield chunk


@dataclass(frozen=True)
class Stale(Step):
    """A list as it was before the last ``changes`` puts, moves and deletes: new names are missing, deleted ones are back."""

    changes: int = 1

    def change_listing(self, found: list[ObjectInfo], history: Sequence[Change]) -> list[ObjectInfo]:
        shown = {info.name: info for info in found}
        for change in reversed(history[max(0, len(history) - self.changes) :]):
            if change.before is None:
                shown.pop(change.name, None)
            else:
                shown[change.name] = change.before
        return list(shown.values())


@dataclass(frozen=True)
class Chance:
    """A fault that happens to a call of ``verbs`` with ``probability``. ``make`` draws its details from the backend's seeded source."""

    probability: float
    make: Callable[[random.Random], Step]
    verbs: frozenset[str]


_WRITES = frozenset({"put", "put_if_absent", "delete", "move"})
_BODIES = frozenset({"put", "put_if_absent", "get"})
_ALL = _WRITES | {"get", "list", "stat"}


def usual_chances(rate: float, *, size: int = 1 << 16) -> tuple[Chance, ...]:
    """The faults that a retry must get over, each call meeting one with a probability of about ``rate``; cuts fall within ``size`` bytes."""
    each = rate / 5
    return (
        Chance(each, lambda _: Raise(), _ALL),
        Chance(each, lambda _: Raise(throttled), _ALL),
        Chance(each, lambda rng: Delay(rng.uniform(0, 5)), _ALL),
        Chance(each, lambda _: LostAck(), _WRITES),
        Chance(each, lambda rng: Cut(rng.randrange(size)), _BODIES),
    )


@dataclass(frozen=True, slots=True)
class _Prefix:
    body: Body
    size: int

    @property
    def digests(self) -> dict[str, str]:
        return {}

    @asynccontextmanager
    async def open(self, start: int = 0) -> AsyncGenerator[AsyncIterator[bytes], None]:
        async with piped(self.body.open(start), partial(_first, size=self.size - start)) as chunks:
            yield chunks


async def _first(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """The first ``size`` bytes; of the chunk in which they end, a part."""
    left = size
    async for chunk in chunks:
        if left <= len(chunk):
            if left > 0:
                yield chunk[:left]
            return
        left -= len(chunk)
        yield chunk
