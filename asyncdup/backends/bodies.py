"""Bodies that open again for each attempt: bytes, a file or a slice of one, and any of them through a pipe."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeAlias

from asyncdup.backends.base import Body
from asyncdup.backends.checksums import crc32, crc32_of, crc32_of_file
from asyncdup.errors import IntegrityError
from asyncdup.threads import in_thread

CHUNK = 1 << 20  # bytes a chunk: below this a thread hop costs more than the read (dependencies: 6x at 64 KiB, 1.3x at 1 MiB)


Opened: TypeAlias = AbstractAsyncContextManager[AsyncIterator[bytes]]
Pipe: TypeAlias = Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body in memory."""

    data: bytes = field(repr=False)
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def open(self, start: int = 0) -> Opened:
        """Chunks from ``start``."""
        return _bytes_chunks(self.data, start)

    async def digest(self, kind: str) -> str | None:
        """``crc32``."""
        return f"{crc32(self.data):08x}" if kind == "crc32" else None


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file on the local disk, or ``size`` bytes of it from ``offset``, that does not change while it is sent."""

    path: Path
    size: int
    digests: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0

    @property
    def local_path(self) -> Path | None:
        """The file, if it may be handed over instead of the bytes; a body that wraps this one may pass it on."""
        return self.path if self.offset == 0 else None

    def open(self, start: int = 0) -> Opened:
        """Chunks from ``start``. Raises IntegrityError if the file is shorter than ``offset + size``."""
        return _file_chunks(self.path, self.offset + start, self.size - start)

    async def digest(self, kind: str) -> str | None:
        """``crc32``; reads the file."""
        return await in_thread(crc32_of_file, self.path, self.offset, self.size) if kind == "crc32" else None


@dataclass(frozen=True, slots=True)
class PipedBody:
    """``body`` with each opening's chunks through ``pipe``: to count, pace or spoil them. Size and digests stay what they were."""

    body: Body
    pipe: Pipe

    @property
    def size(self) -> int:
        """Bytes."""
        return self.body.size

    @property
    def digests(self) -> Mapping[str, str]:
        """Those of the body."""
        return self.body.digests

    def open(self, start: int = 0) -> Opened:
        """Chunks from ``start``."""
        return piped(self.body.open(start), self.pipe)


@dataclass(frozen=True, slots=True)
class SlicedBody:
    """``size`` bytes of ``body`` from ``start``: a part of an object."""

    body: Body
    start: int
    size: int

    @property
    def digests(self) -> Mapping[str, str]:
        """None is known of a part."""
        return {}

    def open(self, start: int = 0) -> Opened:
        """Chunks from byte ``start`` of the part."""
        return piped(self.body.open(self.start + start), partial(_at_most, self.size - start))

    async def digest(self, kind: str) -> str | None:
        """``crc32``; reads the part, in one go where it lies in a file."""
        if kind != "crc32":
            return None
        path: Path | None = getattr(self.body, "local_path", None)
        return await crc32_of(self) if path is None else await in_thread(crc32_of_file, path, self.start, self.size)


async def _at_most(size: int, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    while size > 0:
        chunk = await anext(chunks, b"")
        if not chunk:
            return
        yield chunk[:size]
        size -= len(chunk)


@asynccontextmanager
async def piped(opened: Opened, pipe: Pipe) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """Chunks of ``opened`` through ``pipe``, an async generator function that is closed with the block."""
    async with opened as chunks, aclosing(pipe(chunks)) as changed:
        yield changed


@asynccontextmanager
async def _bytes_chunks(data: bytes, start: int) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for at in range(start, len(data), CHUNK):
            yield data[at : at + CHUNK]

    # A reader may stop half-way: closed here, the generator never meets the garbage collector, which would only warn.
    async with aclosing(chunks()) as iterator:
        yield iterator


@asynccontextmanager
async def _file_chunks(path: Path, start: int, length: int) -> AsyncGenerator[AsyncIterator[bytes], None]:
    file = await in_thread(_open_at, path, start)
    try:
        async with aclosing(read_chunks(file, length, path)) as iterator:
            yield iterator
    finally:
        file.close()


async def read_chunks(file: FileIO, length: int, path: Path) -> AsyncGenerator[bytes, None]:
    """The next ``length`` bytes of ``file``, read in threads. Raises IntegrityError if it ends sooner; ``path`` is for the message."""
    left = length
    while left > 0:
        chunk = await in_thread(file.read, min(CHUNK, left))
        if not chunk:
            raise IntegrityError(f"{path} is {left} bytes shorter than when it was made")
        left -= len(chunk)
        yield chunk


def _open_at(path: Path, start: int) -> FileIO:
    file = FileIO(path, "rb")
    try:
        file.seek(start)
    except BaseException:
        file.close()
        raise
    return file
