"""SFTP version 3 as bytes: requests out, answers in. No I/O, no waiting.

Source: draft-ietf-secsh-filexfer-02; extensions: OpenSSH's PROTOCOL, section 4. Names are bytes, as the protocol has them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

INIT, VERSION, OPEN, CLOSE, READ, WRITE, FSTAT, OPENDIR, READDIR, REMOVE, MKDIR = 1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 14
STAT, RENAME, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 17, 18, 101, 102, 103, 104, 105, 200, 201

FOR_READING, FOR_WRITING, NEW_FILE = 0x01, 0x02, 0x02 | 0x08 | 0x20  # of OPEN: read; write; write, create and fail if it is there

OK, EOF, FAILURE, UNSUPPORTED = 0, 1, 4, 8  # of STATUS

LARGEST_PACKET: Final = 1 << 20  # bytes of an answer; what is announced larger is no SFTP (a shell that prints a greeting)

_U32, _U64 = Struct(">I"), Struct(">Q")
_HEAD = Struct(">IBI")  # length, kind, request
_OFFSET_AND_SIZE = Struct(">QI")
_SIZE, _OWNER, _PERMISSIONS, _TIMES, _EXTENDED = 0x1, 0x2, 0x4, 0x8, 0x80000000
_LIMITS = Struct(">QQQ")  # packet, read, write; a fourth number follows
_VFS = Struct(">11Q")


class Malformed(ValueError):
    """An answer that is no SFTP of version 3."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a server tells of a file; None: it does not. ``mtime``: seconds since the epoch."""

    size: int | None = None
    permissions: int | None = None
    mtime: int | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is known to be one."""
        return self.permissions is not None and stat.S_ISDIR(self.permissions)

    @property
    def is_link(self) -> bool:
        """Whether it is known to be a symbolic link."""
        return self.permissions is not None and stat.S_ISLNK(self.permissions)

    @property
    def may_be_file(self) -> bool:
        """Whether it is a regular file, or of a kind that the server does not tell."""
        return self.permissions is None or stat.S_IFMT(self.permissions) in (0, stat.S_IFREG)


def text(value: bytes) -> bytes:
    """A string of the protocol."""
    return _U32.pack(len(value)) + value


def request(kind: int, number: int, *parts: bytes) -> bytes:
    """A whole packet; ``number`` comes back with the answer."""
    size = 5 + sum(map(len, parts))
    return b"".join((_HEAD.pack(size, kind, number), *parts))


def hello() -> bytes:
    """The first packet: version 3."""
    return _HEAD.pack(5, INIT, 3)


def open_file(path: bytes, flags: int) -> bytes:
    """What follows the head of OPEN; no attributes."""
    return text(path) + _U32.pack(flags) + _U32.pack(0)


def part_of(handle: bytes, offset: int, size: int) -> bytes:
    """What follows the head of READ, or of WRITE before its bytes."""
    return text(handle) + _OFFSET_AND_SIZE.pack(offset, size)


def no_attributes() -> bytes:
    """For MKDIR: the server's own."""
    return _U32.pack(0)


class Fields:
    """Reads the fields of one answer in order. Raises Malformed where it is too short."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def number(self) -> int:
        """32 bits."""
        return self._unpack(_U32)[0]

    def text(self) -> bytes:
        """A string."""
        size = self.number()
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise Malformed("an answer ends within a string")
        return self._data[start : self._at]

    def attributes(self) -> Attributes:
        """ATTRS; owner and extensions are passed over."""
        flags = self.number()
        size = self._unpack(_U64)[0] if flags & _SIZE else None
        if flags & _OWNER:
            self._unpack(_U64)
        permissions = self.number() if flags & _PERMISSIONS else None
        mtime = self._unpack(_U64)[0] & 0xFFFFFFFF if flags & _TIMES else None
        if flags & _EXTENDED:
            for _ in range(self.number()):
                self.text(), self.text()
        return Attributes(size, permissions, mtime)

    def names(self) -> Iterator[tuple[bytes, Attributes]]:
        """The entries of NAME, without the line that is for people."""
        for _ in range(self.number()):
            name, _ = self.text(), self.text()
            yield name, self.attributes()

    def limits(self) -> tuple[int, int]:
        """The answer to ``limits@openssh.com``: the most bytes of a READ and of a WRITE; 0: no telling."""
        _, read, write = self._unpack(_LIMITS)
        return read, write

    def has_room(self, least: int) -> bool:
        """The answer to ``statvfs@openssh.com``: whether ``least`` bytes and one file more find room."""
        _, unit, _, _, free, files, _, free_files, *_ = self._unpack(_VFS)
        return free * unit >= least and (files == 0 or free_files > 0)

    def _unpack(self, form: Struct) -> tuple[int, ...]:
        start, self._at = self._at, self._at + form.size
        if self._at > len(self._data):
            raise Malformed("an answer is too short")
        return form.unpack_from(self._data, start)


class Splitter:
    """Cuts what a server sends into packets, without copying large ones more than once. Holds one packet at most, of ``LARGEST_PACKET``."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = 4  # bytes of the packet that has begun, or of its length

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and the rest of each packet that ``data`` completes. Raises Malformed."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return
        held = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        at = 0
        while len(held) - at >= 4:
            size = _U32.unpack_from(held, at)[0]
            if not 1 <= size <= LARGEST_PACKET:
                raise Malformed(f"an answer of {size} bytes")
            self._wanted = 4 + size
            if len(held) - at < self._wanted:
                break
            yield held[at + 4], held[at + 5 : at + self._wanted]
            at += self._wanted
            self._wanted = 4
        self._pieces = [held[at:]] if at < len(held) else []
        self._held = len(held) - at
