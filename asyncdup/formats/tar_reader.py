"""The bytes of a tar archive -> entries and their data, as ``tar`` writes them and as other programs might. Nothing is believed.

There is a fast path for plain headers and a strict one for the rest; both give the same records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from zlib import adler32

from asyncdup.errors import FormatError
from asyncdup.formats.tar import BLK, BLOCK, CHR, DIR, FIFO, KNOWN_LIMIT, LAYOUT, MAX_NAME, NO_DEVICE, REG, SPACES, SYM, ZEROS, Entry, shown

MAX_EXTENSION: Final = 1 << 20  # bytes of one pax or GNU long-name header (P9)

_FIELDS: Final = LAYOUT.unpack_from
_EXTENSIONS: Final = {b"x": "pax header", b"L": "GNU long name", b"K": "GNU long link"}
_WITH_DATA: Final = {REG, *_EXTENSIONS}
_KINDS: Final = {kind: kind for kind in (REG, SYM, CHR, BLK, DIR, FIFO, *_EXTENSIONS)} | {b"\0": REG}
_WORDS: Final = {b"path": 0, b"uid": 3, b"gid": 4, b"mtime": 5, b"size": 6, b"uname": 7, b"gname": 8, b"linkpath": 9}  # field of Entry
_FAR: Final = 1 << 63
_LIMITS: Final = {  # what the system's calls take
    b"mode": 1 << 32,
    b"uid": 1 << 32,
    b"gid": 1 << 32,
    b"mtime": _FAR,
    b"size": _FAR,
    b"checksum": 1 << 32,
    b"device": 1 << 32,
}
_ROOTS: Final = (b"", b"./", b".")
_LONGEST_PREFIX: Final = 64  # bytes that a member name may have beyond a path: multivol_snapshot/ and /number

_match_numbers = re.compile(rb"([0-7]{11})\0([0-7]{11})\0").fullmatch  # size and mtime
_match_octal = re.compile(rb" *([0-7]*)[ \0]*").fullmatch
_match_record = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]+)=").match
_match_decimal = re.compile(rb"(-?[0-9]{1,20})(\.[0-9]{0,40})?").fullmatch
_new = tuple.__new__  # of a named tuple, half the time of calling its class

# What headers say once and again, by the bytes that say it, with the sum of these bytes; kept by _strict only, so a hit is as good as it
_ids_read: dict[bytes, tuple[int, int, int, int]] = {}  # mode, uid, gid
_rest_read: dict[bytes, tuple[bytes, bytes, bytes, int]] = {}  # kind, uname, gname of what is neither link nor device


class Chunk(NamedTuple):
    """Some bytes of a member. ``entry.path`` is the member's name as it stands in the archive; only its length and NULs were checked."""

    entry: Entry
    data: bytes
    begins: bool
    ends: bool
    offset: int  # of the member's header in the archive


class TarReader:
    """Cuts one tar archive into members; a push parser that holds less than 512 bytes, or one extension header of at most 1 MiB.

    Header checksums, numbers, types, lengths and the end mark are checked (P4, P9); bytes after the first block of zeros are ignored.
    A member that lies wholly in the bytes of one ``feed`` is one chunk. After a FormatError the reader cannot be used any more.
    """

    def __init__(self) -> None:
        self.ended = False  # the block of zeros was met
        self._offset = 0  # in the archive, of the first byte not yet consumed
        self._rest = b""  # less than a block: the beginning of a header
        self._skip = 0  # padding still to come
        self._open: Entry | None = None  # its data are still to come; then _rest and _skip are empty
        self._left = 0  # bytes of it
        self._start = 0  # offset of its header
        self._seen: set[bytes] = set()  # kinds of extension headers before the next member
        self._pending: dict[bytes, bytes] = {}  # what they say of it
        self._body: list[Chunk] = []  # of the extension header that is being read

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that ``data`` brings. Raises FormatError."""
        chunks: list[Chunk] = []
        if self.ended or not data:
            return chunks
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size = len(data)
        at = self._continue(self._open, data, chunks) if self._open else self._skip
        while at + BLOCK <= size:
            entry = _plain(data, at)
            if entry is None or self._seen or entry[1] in _EXTENSIONS:
                at = self._rare(entry, data, at, chunks)
            else:
                at = self._begin(entry, data, at, chunks)
        self._skip = max(0, at - size)
        self._offset += min(at, size)
        self._rest = data[at:]
        return chunks

    def finish(self) -> None:
        """No bytes follow. Raises FormatError if the archive is cut."""
        if not self.ended:
            raise FormatError("the archive is cut: it ends without a block of zeros", offset=self._offset + len(self._rest))

    def _begin(self, entry: Entry, data: bytes, at: int, chunks: list[Chunk]) -> int:
        """The member whose header is at ``at``, with as much of its data as there is; gives where to go on, perhaps beyond ``data``."""
        start = at + BLOCK
        size = entry[6]
        stop = start + size
        if stop <= len(data):
            chunks.append(_new(Chunk, (entry, data[start:stop], True, True, self._offset + at)))
            return stop + -size % BLOCK
        self._open, self._left, self._start = entry, stop - len(data), self._offset + at
        chunks.append(Chunk(entry, data[start:], True, False, self._start))
        return len(data)

    def _continue(self, entry: Entry, data: bytes, chunks: list[Chunk]) -> int:
        """More of the open member; gives where to go on."""
        extension = entry.kind in _EXTENSIONS
        piece = data[: self._left]
        self._left -= len(piece)
        (self._body if extension else chunks).append(Chunk(entry, piece, False, not self._left, self._start))
        if self._left:
            return len(data)
        self._open = None
        if extension:
            self._extend(entry.kind, self._start)
        return len(piece) + -entry.size % BLOCK

    def _rare(self, entry: Entry | None, data: bytes, at: int, chunks: list[Chunk]) -> int:
        """As ``_begin`` for a header that is not ``_plain`` or has extension headers before it, for one of these, and for the end."""
        offset = self._offset + at
        block = data[at : at + BLOCK]
        if block == ZEROS:
            return self._end(offset, data)
        entry = entry or _strict(block, offset)
        if entry.kind not in _EXTENSIONS:
            entry = _extended(entry, self._pending, offset)
            self._pending.clear()
            self._seen.clear()
            return self._begin(entry, data, at, chunks)
        if entry.kind in self._seen or not 0 < entry.size <= MAX_EXTENSION:
            raise FormatError(f"a {_EXTENSIONS[entry.kind]} of {entry.size} bytes is refused: repeated, empty or too long", offset=offset)
        self._seen.add(entry.kind)
        at = self._begin(entry, data, at, self._body)
        if not self._open:
            self._extend(entry.kind, offset)
        return at

    def _extend(self, kind: bytes, offset: int) -> None:
        body = b"".join(chunk.data for chunk in self._body)
        self._body.clear()
        if kind == b"x":
            self._pending.update(_pax_words(body, offset))
            return
        name, end, _ = body.partition(b"\0")
        if not end:
            raise FormatError(f"a {_EXTENSIONS[kind]} without its end", offset=offset)
        self._pending[b"path" if kind == b"L" else b"linkpath"] = name

    def _end(self, offset: int, data: bytes) -> int:
        if self._seen:
            raise FormatError("the archive ends after an extension header without its member", offset=offset)
        self.ended = True
        return len(data)


def inner_path(name: bytes, entry: Entry, offset: int) -> bytes:
    """The path that ``name``, a member's name behind its first slash, stands for; b"" for the root.

    Raises:
        FormatError: the path may lead outside of the target (P7), or is too long.
    """
    parts = name.split(b"/")
    if not (b"" in parts or b"." in parts or b".." in parts) and len(name) <= MAX_NAME:
        return name
    if name in _ROOTS:
        return b""
    if entry.kind == DIR and parts[-1] == b"" and name != b"/":  # only the typeflag says that a trailing slash means a directory
        return inner_path(name[:-1], entry._replace(kind=REG), offset)
    reason = "an absolute path, or an empty, . or .. component" if len(name) <= MAX_NAME else f"a path of more than {MAX_NAME} bytes"
    raise FormatError(f"member {shown(entry.path)}: {reason} is refused", offset=offset)


def _plain(data: bytes, at: int) -> Entry | None:
    """The entry of an ordinary header; None if it is anything else, also a damaged one: ``_strict`` finds out."""
    name, ids_text, numbers, checksum, rest_text = _FIELDS(data, at)
    ids = _ids_read.get(ids_text)
    rest = _rest_read.get(rest_text)
    match = _match_numbers(numbers)
    if ids is None or rest is None or match is None:
        return None
    mode, uid, gid, ids_sum = ids
    kind, uname, gname, rest_sum = rest
    # the sum of the bytes as in ``header``; a hundred bytes of any value sum up to less than 65521, too
    total = (adler32(name) & 0xFFFF) + (adler32(numbers) & 0xFFFF) + ids_sum + rest_sum
    size = int(match[1], 8)
    if b"%06o\0 " % total != checksum or (size and kind not in _WITH_DATA):
        return None
    return _new(Entry, (name.partition(b"\0")[0], kind, mode, uid, gid, int(match[2], 8), size, uname, gname, b"", NO_DEVICE))


def _strict(block: bytes, offset: int) -> Entry:
    """The entry of any header, without what extension headers say. Raises FormatError."""
    _check_sum(block, offset)
    kind = _KINDS.get(block[156:157])
    if kind is None:
        raise FormatError(
            f"member {shown(_text(block[:100]))}: type {block[156:157]!r} (a hard link, or unknown) is refused", offset=offset
        )
    name, link, uname, gname, prefix = (_text(block[a:b]) for a, b in ((0, 100), (157, 257), (265, 297), (297, 329), (345, 500)))
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    mode, uid, gid = (_number(word, block[a : a + 8], offset) for word, a in ((b"mode", 100), (b"uid", 108), (b"gid", 116)))
    size, mtime = (_number(word, block[a : a + 12], offset) for word, a in ((b"size", 124), (b"mtime", 136)))
    major, minor = (_number(b"device", block[a : a + 8], offset) for a in (329, 337))
    device = (
        (major, minor) if kind in (CHR, BLK) else NO_DEVICE
    )  # of the others, too, it must be a number: for CPython's tarfile the archive ends
    entry = Entry(name, kind, mode & 0o7777, uid, gid, mtime, size, uname, gname, link if kind == SYM else b"", device)
    if kind not in (SYM, CHR, BLK) and not prefix:
        _keep(block, entry)
    return entry


def _keep(block: bytes, entry: Entry) -> None:
    if len(_ids_read) >= KNOWN_LIMIT or len(_rest_read) >= KNOWN_LIMIT:
        _ids_read.clear()
        _rest_read.clear()
    ids, rest = block[100:124], block[156:]
    _ids_read[ids] = (entry.mode, entry.uid, entry.gid, sum(ids) + SPACES - 2)
    _rest_read[rest] = (entry.kind, entry.uname, entry.gname, sum(rest))


def _check_sum(block: bytes, offset: int) -> None:
    said = _number(b"checksum", block[148:156], offset)
    fields = block[:148] + block[156:]
    total = sum(fields) + SPACES
    if said not in (total, total - 256 * sum(byte >= 128 for byte in fields)):  # old programs added signed bytes
        raise FormatError(f"damaged tar header: its checksum is {total}, it says {said}", offset=offset)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(word: bytes, field: bytes, offset: int) -> int:
    """A number of a header: octal digits, or base 256 after a byte 0x80 (0xff: negative), as GNU tar writes what is too big."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return _within(word, value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1)), offset)
    match = _match_octal(field)
    return _within(word, int(match[1] or b"0", 8) if match else None, offset)


def _pax_words(body: bytes, offset: int) -> dict[bytes, bytes]:
    """The words of a pax header that matter here. Raises FormatError."""
    words: dict[bytes, bytes] = {}
    at = 0
    while at < len(body):
        match = _match_record(body, at)
        stop = at + int(match[1]) if match else 0
        if match is None or not match.end() < stop <= len(body) or body[stop - 1] != 0x0A:
            raise FormatError("damaged pax header", offset=offset)
        word = match[2]
        if word.startswith(b"GNU.sparse."):
            raise FormatError("a sparse file in GNU tar's form is refused", offset=offset)
        if word in _WORDS:
            words[word] = body[match.end() : stop - 1]
        at = stop
    return words


def _extended(entry: Entry, words: Mapping[bytes, bytes], offset: int) -> Entry:
    """``entry`` with what its extension headers say in place of its own header. Raises FormatError."""
    fields: list[object] = list(entry)
    for word, value in words.items():
        if word in _LIMITS:
            fields[_WORDS[word]] = _decimal(word, value, offset)
        else:
            fields[_WORDS[word]] = _name(value, MAX_NAME + _LONGEST_PREFIX if word == b"path" else MAX_NAME, offset)
    entry = _new(Entry, fields)
    if entry.size and entry.kind not in _WITH_DATA:
        raise FormatError(f"member {shown(entry.path)}: data of what is no regular file are refused", offset=offset)
    return entry if entry.kind == SYM or not entry.link else entry._replace(link=b"")


def _decimal(word: bytes, value: bytes, offset: int) -> int:
    match = _match_decimal(value)
    return _within(word, int(match[1]) if match else None, offset)  # a fraction of a second is dropped: the format knows whole ones


def _name(value: bytes, limit: int, offset: int) -> bytes:
    if len(value) > limit:
        raise FormatError(f"{shown(value)}: a name of {len(value)} bytes is refused, {MAX_NAME} are the most", offset=offset)
    if b"\0" in value:
        raise FormatError(f"{shown(value)}: a name with a NUL byte is refused", offset=offset)
    return value


def _within(word: bytes, number: int | None, offset: int) -> int:
    if number is None or not (-_FAR if word == b"mtime" else 0) <= number < _LIMITS[word]:
        raise FormatError(f"damaged tar header: its {word.decode()} is no number, or out of range", offset=offset)
    return number
