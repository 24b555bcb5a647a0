"""Bodies that open again for each attempt: bytes, and a file or a slice of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from asyncdup.errors import IntegrityError
from asyncdup.threads import in_thread

CHUNK = 1 << 20  # bytes a chunk: below this a thread hop costs more than the read (dependencies: 6x at 64 KiB, 1.3x at 1 MiB)


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body in memory."""

    data: bytes
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def open(self, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Chunks from ``start``."""
        return _bytes_chunks(self.data, start)


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file on the local disk that does not change while it is sent. ``size`` is checked when it is read."""

    path: Path
    size: int
    digests: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0

    def open(self, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Chunks from ``start``. Raises IntegrityError if the file is shorter than ``size``."""
        return _file_chunks(self.path, self.offset + start, self.size - start)


@asynccontextmanager
async def _bytes_chunks(data: bytes, start: int) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(start, len(data), CHUNK):
            yield data[at : at + CHUNK]

    yield chunks()


@asynccontextmanager
async def _file_chunks(path: Path, start: int, length: int) -> AsyncGenerator[AsyncIterator[bytes], None]:
    file = await in_thread(_open_at, path, start)
    try:

        async def chunks() -> AsyncIterator[bytes]:
            left = length
            while left > 0:
                chunk = await in_thread(file.read, min(CHUNK, left))
                if not chunk:
                    raise IntegrityError(f"{path} is {left} bytes shorter than when it was made")
                left -= len(chunk)
                yield chunk

        yield chunks()
    finally:
        file.close()


def _open_at(path: Path, start: int) -> FileIO:
    file = FileIO(path, "rb")
    file.seek(start)
    return file
