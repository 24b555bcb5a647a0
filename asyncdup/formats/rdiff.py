"""Signatures of files, deltas against them, and the commands inside a delta, as librsync has them (format specification, section 8).

Done by librsync where one can be loaded, else in plain Python with the same bytes. Nothing here reads files: applying a delta is the work
of who holds the old file. Objects may move between threads, but only one at a time may use them.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from asyncdup.errors import FormatError
from asyncdup.formats import librsync, rdiff_pure
from asyncdup.formats.rdiff_pure import DELTA_MAGIC, END, HEADER, STRONG_SIZE

MAX_BLOCK = 1 << 25  # bytes; what duplicity takes for a file of 1 PiB. librsync holds a block in memory
MAX_OFFSET = (1 << 63) - 1  # of a file, in a signed 64-bit off_t
_STEP = 512  # block lengths are multiples of it


def backend() -> str:
    """Who does the work: ``"python-rsync"``, ``"librsync"`` (the system's) or ``"pure"`` (Python: correct, some MiB/s)."""
    library = librsync.load()
    return "pure" if library is None else library.name


def block_length(size: int, max_blocksize: int = 0) -> int:
    """Bytes of a block in the signature of a file of ``size`` bytes: its square root, in steps of 512, at most ``max_blocksize`` if that is not 0."""
    length = -(-max(1, isqrt(size)) // _STEP) * _STEP
    return min(length, -(-max_blocksize // _STEP) * _STEP) if max_blocksize > 0 else length


def sign(data: bytes, block_len: int) -> bytes:
    """The whole signature of a small file. Raises ValueError for a block length that no reader would take."""
    _check_block_length(block_len)
    if not data:
        return rdiff_pure.header(block_len)
    library = librsync.load()
    return rdiff_pure.sign(data, block_len) if library is None else library.sign(data, block_len)


class Signer:
    """The signature of a file that comes in pieces; what ``feed`` and ``finish`` return, joined. The first output begins with the header."""

    def __init__(self, block_len: int) -> None:
        _check_block_length(block_len)
        library = librsync.load()
        self._work = rdiff_pure.Signer(block_len) if library is None else librsync.Signer(library, block_len)

    def feed(self, data: bytes) -> bytes:
        """The next piece of the file, of any length (1 MiB is a good one)."""
        return self._work.feed(data)

    def finish(self) -> bytes:
        """The file has ended. Call once."""
        return self._work.finish()

    def close(self) -> None:
        """Free its memory, if it was not finished."""
        self._work.close()


def check_signature(sig: bytes) -> None:
    """Raises FormatError unless ``sig`` is a whole signature that librsync can take without harm (P4: it crashes on a cut one)."""
    if len(sig) < HEADER.size:
        raise FormatError(f"a signature of {len(sig)} bytes is cut short")
    magic, block_len, strong_len = HEADER.unpack_from(sig)
    if magic not in STRONG_SIZE:
        raise FormatError(f"not a signature: it begins with {sig[:4].hex()}", offset=0)
    if not 1 <= block_len <= MAX_BLOCK:
        raise FormatError(f"a signature with blocks of {block_len} bytes", offset=4)
    if not 1 <= strong_len <= STRONG_SIZE[magic]:
        raise FormatError(f"a signature with strong sums of {strong_len} bytes", offset=8)
    if (len(sig) - HEADER.size) % (4 + strong_len):
        raise FormatError("a signature is cut inside a block", offset=len(sig))


class DeltaWriter:
    """The delta of a new file, in pieces, against the signature of the old one; what ``feed`` and ``finish`` return, joined.

    Memory: the signature twice over, and some pieces. ``close`` gives it back; so does ``finish`` but for the signature's table.

    Raises:
        FormatError: the signature is not well-formed.
    """

    def __init__(self, signature: bytes) -> None:
        check_signature(signature)
        library = librsync.load()
        self._work: librsync.DeltaWriter | rdiff_pure.DeltaWriter | _AllNew
        if len(signature) == HEADER.size:
            self._work = _AllNew()
        elif library is None:
            self._work = rdiff_pure.DeltaWriter(signature)
        else:
            self._work = librsync.DeltaWriter(library, signature)

    def feed(self, data: bytes) -> bytes:
        """The next piece of the new file, of any length (1 MiB is a good one)."""
        return self._work.feed(data)

    def finish(self) -> bytes:
        """The new file has ended. Call once."""
        return self._work.finish()

    def close(self) -> None:
        """Free its memory; idempotent."""
        self._work.close()


class _AllNew:
    """The delta against an empty file: nothing can be found there, so nothing is searched."""

    def __init__(self) -> None:
        self._begin = DELTA_MAGIC

    def feed(self, data: bytes) -> bytes:
        begin, self._begin = self._begin, b""
        return b"".join((begin, rdiff_pure.literal_command(len(data)), data)) if data else begin

    def finish(self) -> bytes:
        return self._begin + END

    def close(self) -> None:
        pass


class Copy(NamedTuple):
    """``length`` (> 0) bytes of the old file from ``offset`` on; their end is at most 2^63-1. Whether the old file has them is for its reader to see."""

    offset: int
    length: int


class DeltaReader:
    """A delta that comes in pieces -> literal data, as they come (a long literal in several), and copies of the old file.

    Strict: an unknown command, an empty literal or copy, and anything after the end command raise FormatError with the place.
    Holds at most one cut command (17 bytes).
    """

    def __init__(self) -> None:
        self._cut = b""  # the beginning of a command, or of the magic
        self._literal = 0  # bytes of the present literal that are still to come
        self._begun = self._ended = False
        self._offset = 0  # of the byte after all that was fed before

    def feed(self, data: bytes) -> list[bytes | Copy]:
        """What ``data`` completes, in order; literals are never empty."""
        start = self._offset - len(self._cut)
        data = self._cut + data if self._cut else data
        self._offset = start + len(data)
        self._cut = b""
        pieces: list[bytes | Copy] = []
        at = 0
        while at < len(data):
            if self._literal:
                piece = data[at : at + self._literal]
                pieces.append(piece)
                self._literal -= len(piece)
                at += len(piece)
            else:
                size = self._command(data, at, start, pieces)
                if not size:
                    self._cut = data[at:]
                    break
                at += size
        return pieces

    def finish(self) -> list[bytes | Copy]:
        """The delta is complete: nothing is left to give. Raises FormatError unless it ended with its end command."""
        if not self._ended:
            raise FormatError("a delta is cut short", offset=self._offset)
        return []

    def _command(self, data: bytes, at: int, start: int, pieces: list[bytes | Copy]) -> int:
        """Take one command (or the magic); the bytes it has, 0 if they are not all there."""
        if not self._begun:
            return self._magic(data, at, start)
        if self._ended:
            raise FormatError("bytes after the end of a delta", offset=start + at)
        code = data[at]
        if code == 0:
            self._ended = True
            return 1
        if code <= 64:
            self._literal = code
            return 1
        widths = _ARGUMENTS.get(code)
        if widths is None:
            raise FormatError(f"unknown command {code:#04x} in a delta", offset=start + at)
        first, second = at + 1 + widths[0], at + 1 + sum(widths)
        if second > len(data):
            return 0
        number, length = int.from_bytes(data[at + 1 : first], "big"), int.from_bytes(data[first:second], "big")
        if len(widths) == 1:
            self._literal = _checked(0, number, start + at)
        else:
            pieces.append(Copy(number, _checked(number, length, start + at)))
        return second - at

    def _magic(self, data: bytes, at: int, start: int) -> int:
        found = data[at : at + len(DELTA_MAGIC)]
        if not DELTA_MAGIC.startswith(found):
            raise FormatError(f"not a delta: it begins with {found.hex()}", offset=start + at)
        if len(found) < len(DELTA_MAGIC):
            return 0
        self._begun = True
        return len(DELTA_MAGIC)


_SIZES = (1, 2, 4, 8)
_ARGUMENTS: dict[int, tuple[int, ...]] = {0x41 + i: (size,) for i, size in enumerate(_SIZES)}  # command -> bytes of each number after it
_ARGUMENTS |= {0x45 + 4 * i + j: (first, second) for i, first in enumerate(_SIZES) for j, second in enumerate(_SIZES)}


def _checked(offset: int, length: int, place: int) -> int:
    if not length:
        raise FormatError("an empty command in a delta", offset=place)
    if offset + length > MAX_OFFSET:
        raise FormatError(f"a command of a delta reaches to byte {offset + length}", offset=place)
    return length


def _check_block_length(block_len: int) -> None:
    if not 1 <= block_len <= MAX_BLOCK:
        raise ValueError(f"a block length of {block_len} bytes")
