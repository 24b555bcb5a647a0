"""The far end of a ``World`` that takes objects in parts: a link with parts, and what one knows of each upload at this side of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from asyncdup.backends.base import Body, Capabilities, ObjectInfo, Part
from asyncdup.backends.bodies import PipedBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer.parts import Begun


class Link(SlowBackend):
    """A slow one that lets parts pass: a latency for each call, their bytes at the rate."""

    inner: MemoryBackend

    def capabilities(self) -> Capabilities:
        return self.inner.capabilities()

    async def begin_parts(self, name: str, body: Body) -> str:
        await self._travel()
        return await self.inner.begin_parts(name, body)

    async def put_part(self, name: str, upload: str, number: int, body: Body) -> Part:
        await self._travel()
        return await self.inner.put_part(name, upload, number, PipedBody(body, self._paced))

    async def complete_parts(self, name: str, upload: str, parts: Sequence[Part], body: Body) -> ObjectInfo:
        await self._travel()
        return await self.inner.complete_parts(name, upload, parts, body)

    async def abort_parts(self, name: str, upload: str) -> None:
        await self._travel()
        await self.inner.abort_parts(name, upload)

    async def list_uploads(self, prefix: str = "") -> list:
        await self._travel()
        return await self.inner.list_uploads(prefix)

    async def list_parts(self, name: str, upload: str) -> list[Part]:
        await self._travel()
        return await self.inner.list_parts(name, upload)


class Seen(FaultyBackend):
    """One that shows each byte as it moves, and leaves no call behind (T5).

    Attributes:
        dead: the process counts as killed, so that nothing is given up any more.
        begun: uploads that the engine knows of and has not ended.
        mixed: what was sent with two contents: a name (I1), a part (I2).
    """

    wait_idle = None  # type: ignore[assignment]

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.dead = False
        self.begun: set[str] = set()
        self.mixed: list[str] = []
        self._sent: dict[str, str] = {}

    async def put(self, name: str, body: Body) -> ObjectInfo:
        return await super().put(name, PipedBody(body, partial(self._note, name)))

    async def begin_parts(self, name: str, body: Body) -> str:
        upload = await super().begin_parts(name, body)
        self.begun.add(upload)
        return upload

    async def put_part(self, name: str, upload: str, number: int, body: Body) -> Part:
        return await super().put_part(name, upload, number, PipedBody(body, partial(self._note, f"part {number} of {upload}")))

    async def abort_parts(self, name: str, upload: str) -> None:
        """Told once is enough: the engine says so if it does not succeed, and ``cleanup`` is for what is left."""
        self.begun.discard(upload)
        if self.dead:
            raise OSError("the process is dead")
        await super().abort_parts(name, upload)

    async def _note(self, what: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        digest = hashlib.sha1()
        async for chunk in chunks:
            digest.update(chunk)
            yield chunk
        if self._sent.setdefault(what, digest.hexdigest()) != digest.hexdigest():
            self.mixed.append(what)


class Journal:
    """Of one upload. ``broken`` gets what was to be noted and is not at the target (X5)."""

    def __init__(self, store: MemoryBackend, broken: list[str]) -> None:
        self.noted: Begun | None = None
        self._store, self._broken = store, broken

    def earlier(self) -> Begun | None:
        return self.noted

    async def begun(self, upload: str, part_size: int) -> None:
        self.noted = Begun(upload, part_size)

    async def stored(self, upload: str, part: Part) -> None:
        assert self.noted is not None and self.noted.id == upload
        at_target = self._store.uploads.get(upload)
        if at_target is None or at_target.parts[part.number][0] != part:
            self._broken.append(f"{part} of {upload} was to be noted and is not there (X5)")
        self.noted = self.noted._replace(parts=(*self.noted.parts, part))
