"""Where the checks of the conformance suite work: a backend with names of their own, and bodies that misbehave."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from asyncdup.backends.base import Backend, Body, ObjectInfo
from asyncdup.backends.bodies import BytesBody, Pipe


class Broken(Exception):
    """What a check has found; ``conformance`` adds the name of the check."""


@dataclass(slots=True)
class Site:
    """A backend in a check, and the names that the check uses there. ``many``: objects to list; ``big``: bytes of the largest object."""

    backend: Backend
    token: str
    many: int
    big: int
    names: set[str] = field(default_factory=set)

    def name(self, tail: str) -> str:
        """A name of our own that ends in ``tail``; it is removed after the check."""
        return self.keep(f"check-{self.token}-{tail}")

    def keep(self, name: str) -> str:
        """``name``, to be removed after the check."""
        self.names.add(name)
        return name

    async def put(self, tail: str, data: bytes) -> str:
        """Store ``data`` under ``name(tail)``, which is returned."""
        name = self.name(tail)
        info = await self.backend.put(name, BytesBody(data))
        must(info.name == name and info.size == len(data), f"put of {len(data)} bytes as {name!r} returned {info}")
        return name

    async def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """What ``get`` gives, joined."""
        async with self.backend.get(name, start=start, length=length) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def listed(self, prefix: str | None = None) -> dict[str, ObjectInfo]:
        """What ``list`` shows, by default of our own names."""
        async with self.backend.list(self.name("") if prefix is None else prefix) as infos:
            found = [info async for info in infos]
        by_name = {info.name: info for info in found}
        must(len(by_name) == len(found), "a list shows a name twice")
        return by_name


def must(holds: bool, message: str) -> None:
    """What a check says of a promise; ``assert`` would vanish with -O."""
    if not holds:
        raise Broken(message)


@asynccontextmanager
async def expecting(error: type[Exception], what: str) -> AsyncGenerator[None, None]:
    """``what``, the block, must raise ``error``."""
    try:
        yield
    except error:
        return
    except Exception as exc:
        raise Broken(f"{what} raised {type(exc).__name__} ({exc}), not {error.__name__}") from exc
    raise Broken(f"{what} did not raise {error.__name__}")


async def together(calls: Sequence[Callable[[], Awaitable[object]]]) -> list[Exception | None]:
    """Run all at once; what each raised, in order."""
    results: list[Exception | None] = [None] * len(calls)

    async def run(index: int) -> None:
        try:
            await calls[index]()
        except Exception as exc:  # noqa: BLE001 - kept for the check to judge
            results[index] = exc

    async with anyio.create_task_group() as tasks:
        for index in range(len(calls)):
            tasks.start_soon(run, index)
    return results


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes that differ from place to place, so that an exchanged or repeated chunk shows."""
    return hashlib.shake_128(bytes([seed & 255])).digest(size)


def then(act: Callable[[], object]) -> Pipe:
    """A pipe that lets one chunk pass, does ``act``, and never ends by itself."""

    async def pipe(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
            act()
            await anyio.sleep_forever()

    return pipe


def fail_with(error: Exception) -> Callable[[], None]:
    """An act that raises ``error``."""

    def act() -> None:
        raise error

    return act


@dataclass(frozen=True, slots=True)
class Lying:
    """A body that has not the size that it says."""

    body: Body
    size: int

    @property
    def digests(self) -> Mapping[str, str]:
        return {}

    @asynccontextmanager
    async def open(self, start: int = 0) -> AsyncGenerator[AsyncIterator[bytes], None]:
        async with self.body.open(start) as chunks:
            yield chunks
