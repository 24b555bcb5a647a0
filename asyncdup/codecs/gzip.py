"""gzip: written as one ordinary member whose deflate pieces were made in parallel, read in any form that gzip has."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from io import FileIO
from pathlib import Path

from asyncdup.codecs.base import PIECE, Chunks, Refused, Sealed, Sealer, StoredFile, new_file
from asyncdup.codecs.deflate import END, ERRORS, crc32, deflate, gunzipper
from asyncdup.codecs.pipeline import Pipeline, read_chunks
from asyncdup.codecs.plain import PlainSealer
from asyncdup.errors import FormatError

# Magic, deflate, no flags, no time (equal bytes for equal data), no hint, unknown system. Source: RFC 1952.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_INPUT = 1 << 19  # bytes; more at once takes more memory and is no faster, less costs a thread hop more often


class GzipCodec:
    """``.gz`` volumes and signature archives; plain manifests."""

    suffix = ".gz"
    manifest_suffix = ""
    encrypted = False

    def __init__(self, *, level: int | None = None) -> None:
        self._level = level

    @asynccontextmanager
    async def seal(self, path: Path, *, compress: bool = True, refused: Refused | None = None) -> AsyncGenerator[Sealer, None]:
        """As the protocol says. ``compress=False`` stores the bytes as they are."""
        async with new_file(path, refused) as stored:
            sealer = _GzipSealer(stored, self._level) if compress else PlainSealer(stored)
            try:
                yield sealer
            finally:
                await sealer.pipeline.settle()

    def open(self, path: Path, *, chunk: int = PIECE, name: str | None = None) -> AbstractAsyncContextManager[Chunks]:
        """As the protocol says."""
        return read_chunks(inflate_file(path, chunk=chunk, name=name))

    async def pack(self, data: bytes) -> bytes:
        """The same bytes."""
        return data

    async def unpack(self, data: bytes, *, name: str = "") -> bytes:
        """The same bytes."""
        return data


def inflate_file(path: Path, *, chunk: int = PIECE, name: str | None = None) -> Generator[bytes, None, None]:
    """The plain bytes of a gzip file of any number of members, in chunks of at most ``chunk`` bytes; blocks, so run it in a thread.

    Raises:
        FormatError: not gzip, a wrong checksum or length, cut short, or followed by something else. Names the file.
    """
    where = path.name if name is None else name
    with FileIO(path) as file:
        try:
            data = file.read(_INPUT)
            while True:
                data = yield from _member(file, data, chunk)
                data = data or file.read(_INPUT)
                if not data:
                    return
        except ERRORS as error:
            raise FormatError(f"damaged gzip data: {error}", where=where) from error
        except EOFError as error:
            raise FormatError("the gzip data are cut short", where=where) from error


def _member(file: FileIO, data: bytes, chunk: int) -> Generator[bytes, None, bytes]:
    """One gzip member that begins with ``data``; gives what was read beyond it."""
    packed = gunzipper()
    while not packed.eof:
        if not data:
            raise EOFError
        plain = packed.decompress(data, chunk)
        while plain:
            yield plain
            # A full chunk may have more behind it, also when all of the input is taken.
            more = len(plain) == chunk and not packed.eof
            plain = packed.decompress(packed.unconsumed_tail, chunk) if more or packed.unconsumed_tail else b""
        data = b"" if packed.eof else file.read(_INPUT)
    rest: bytes = packed.unused_data
    return rest


class _GzipSealer:
    def __init__(self, stored: StoredFile, level: int | None) -> None:
        self._stored = stored
        self._level = level
        self._sha1 = hashlib.sha1(_HEADER, usedforsecurity=False)
        self._crc = self._plain_size = 0
        self.pipeline: Pipeline[bytes] = Pipeline(self._deflated, self._write, stored)
        self._begun = self._ended = False

    @property
    def written(self) -> int:
        return len(_HEADER) + self.pipeline.written

    @property
    def pending(self) -> int:
        return self.pipeline.pending

    async def feed(self, piece: bytes) -> None:
        await self.pipeline.feed(piece, len(piece))

    async def drain(self) -> None:
        await self.pipeline.drain()

    async def finish(self) -> Sealed:
        size = await self.pipeline.end(self._end)
        self._stored.complete = True
        return Sealed(size, self._sha1.hexdigest())

    def _deflated(self, piece: bytes) -> bytes:
        return deflate(piece, self._level)

    def _write(self, piece: bytes, packed: bytes) -> None:
        self._crc = crc32(piece, self._crc)
        self._plain_size += len(piece)
        self._sha1.update(packed)
        self._stored.write(packed if self._begun else self._begin() + packed)

    def _begin(self) -> bytes:
        """What goes before the first bytes."""
        header = b"" if self._begun else _HEADER
        self._begun = True
        return header

    def _end(self) -> int:
        """May be called again after an OSError."""
        if not self._ended:
            self._ended = True
            trailer = END + struct.pack("<II", self._crc, self._plain_size & 0xFFFFFFFF)
            self._sha1.update(trailer)
            self._stored.write(self._begin() + trailer)
        self._stored.flush()
        size = self._stored.file.tell()
        self._stored.file.close()  # here, since a network disk may report a full one only now
        return size
