"""No compression, no encryption: stored bytes are plain bytes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from io import FileIO
from pathlib import Path

from asyncdup.codecs.base import PIECE, Chunks, Refused, Sealed, Sealer, StoredFile, new_file
from asyncdup.codecs.pipeline import Pipeline, read_chunks


class PlainCodec:
    """Bare tar volumes (``--no-compression``), and manifests."""

    suffix = ""
    manifest_suffix = ""
    encrypted = False

    @asynccontextmanager
    async def seal(self, path: Path, *, compress: bool = True, refused: Refused | None = None) -> AsyncGenerator[Sealer, None]:
        """As the protocol says; ``compress`` does not matter."""
        async with new_file(path, refused) as stored:
            sealer = PlainSealer(stored)
            try:
                yield sealer
            finally:
                await sealer.pipeline.settle()

    def open(self, path: Path, *, chunk: int = PIECE, name: str | None = None) -> AbstractAsyncContextManager[Chunks]:
        """As the protocol says; there is nothing to verify."""
        return read_chunks(_file_chunks(path, chunk))

    async def pack(self, data: bytes) -> bytes:
        """The same bytes."""
        return data

    async def unpack(self, data: bytes, *, name: str = "") -> bytes:
        """The same bytes."""
        return data


class PlainSealer:
    """Writes pieces as they are, and their SHA-1."""

    def __init__(self, stored: StoredFile) -> None:
        self._stored = stored
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self.pipeline: Pipeline[bytes] = Pipeline(bytes, self._write, stored)

    @property
    def written(self) -> int:
        """Stored bytes so far."""
        return self.pipeline.written

    @property
    def pending(self) -> int:
        """Plain bytes not yet in ``written``."""
        return self.pipeline.pending

    async def feed(self, piece: bytes) -> None:
        """The next piece."""
        await self.pipeline.feed(piece, len(piece))

    async def drain(self) -> None:
        """Wait until all is written."""
        await self.pipeline.drain()

    async def finish(self) -> Sealed:
        """The file is complete."""
        await self.pipeline.end(self._stored.file.close)
        self._stored.complete = True
        return Sealed(self.written, self._sha1.hexdigest())

    def _write(self, _: bytes, piece: bytes) -> None:
        self._sha1.update(piece)
        self._stored.write(piece)


def _file_chunks(path: Path, chunk: int) -> Generator[bytes, None, None]:
    with FileIO(path) as file:
        while data := file.read(chunk):
            yield data
