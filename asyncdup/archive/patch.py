"""One file of a chain put together: content of the first set, then delta upon delta, the last one's output going wherever it is wanted.

Between two deltas the file is held in memory while it is small, else in a file without a name. Deltas are streamed (P9) and checked (P4).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from asyncdup.errors import FormatError
from asyncdup.formats.rdiff import Copy, DeltaReader

IN_MEMORY: Final = 1 << 20  # bytes of a file that need no temporary file; two such are held at once
PIECE: Final = 1 << 20  # bytes of a copy handed on at once


class Base:
    """Content written in order, then read anywhere."""

    def __init__(self, tempdir: Path) -> None:
        self.size = 0
        self._tempdir = tempdir
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        """Append. Raises OSError if the temporary file takes no more."""
        self.size += len(data)
        if self._file is None:
            self._memory += data
            if self.size <= IN_MEMORY:
                return
            self._file = tempfile.TemporaryFile(dir=self._tempdir, buffering=0)  # noqa: SIM115 - ours until close
            data, self._memory = bytes(self._memory), bytearray()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file.fileno(), rest) :]

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, in pieces.

        Raises:
            FormatError: the content is shorter.
        """
        if offset + length > self.size:
            raise FormatError(f"a delta copies bytes {offset} to {offset + length} of a file of {self.size} bytes")
        end = offset + length
        while offset < end:
            size = min(PIECE, end - offset)
            data = bytes(self._memory[offset : offset + size]) if self._file is None else os.pread(self._file.fileno(), size, offset)
            if not data:
                raise FormatError("the temporary file of a chain of deltas lost its end")
            yield data
            offset += len(data)

    def close(self) -> None:
        """Give memory and disk back. Idempotent."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


class Patch:
    """Applies one delta to ``base``; the new content goes to ``write``."""

    def __init__(self, base: Base, write: Callable[[bytes], object]) -> None:
        self._base = base
        self._write = write
        self._reader = DeltaReader()
        self._held: list[bytes] = []  # output not yet handed on: a delta may copy in crumbs
        self._held_size = 0

    def feed(self, delta: bytes) -> None:
        """Take some bytes of the delta.

        Raises:
            FormatError: it is no delta of this base.
        """
        self._apply(self._reader.feed(delta))

    def finish(self) -> None:
        """The delta has no more bytes. Raises FormatError if it is cut short."""
        self._apply(self._reader.finish())
        self._flush()

    def _apply(self, commands: list[bytes | Copy]) -> None:
        for command in commands:
            if isinstance(command, Copy):
                for piece in self._base.read(command.offset, command.length):
                    self._put(piece)
            else:
                self._put(command)

    def _put(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_size += len(piece)
        if self._held_size >= PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._write(b"".join(self._held))
            self._held.clear()
            self._held_size = 0
