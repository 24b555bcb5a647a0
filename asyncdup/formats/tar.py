"""One tar entry <-> bytes, in the dialect of duplicity's archives: POSIX pax headers, as CPython's ``tarfile`` writes them.

Writing has a fast path for plain entries (ASCII names of at most 100 bytes, small numbers) and a slow one for the rest; so has reading.
Both paths give the same bytes and records. What the member names mean is known to ``difftar`` and ``sigtar``, not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from struct import Struct
from typing import Final, NamedTuple
from zlib import adler32

from asyncdup.errors import FormatError

REG: Final = b"0"
SYM: Final = b"2"
CHR: Final = b"3"
BLK: Final = b"4"
DIR: Final = b"5"
FIFO: Final = b"6"

BLOCK: Final = 512  # bytes of a header; data are padded to a multiple of it
RECORD: Final = 10240  # an archive is padded to a multiple of it
MAX_NAME: Final = 4096  # bytes of a path or a link target (P9); the limit of Linux system calls, too
MAX_EXTENSION: Final = 1 << 20  # bytes of one pax or GNU long-name header (P9)


class Entry(NamedTuple):
    """What an archive says of one path. A named tuple on purpose: the hot record, made once for each path of a set."""

    path: bytes  # components joined by b"/"; the root is b""
    kind: bytes  # one of REG, SYM, CHR, BLK, DIR, FIFO
    mode: int  # 07777 bits
    uid: int
    gid: int
    mtime: int  # whole seconds, rounded as duplicity does
    size: int  # bytes: of the live file for REG, else 0; on reading: of the member
    uname: bytes
    gname: bytes
    link: bytes  # target of a symlink, else b""
    dev: tuple[int, int]  # major, minor of a device, else (0, 0)


def key(path: bytes) -> bytes:
    """What paths are ordered by: the tuple of components, as one byte string. No component holds a NUL, the least byte."""
    return path.replace(b"/", b"\0")


def shown(name: bytes) -> str:
    """A name from an archive as an error message may print it: quoted, control bytes escaped, cut."""
    text = repr(name[:200].decode("utf-8", "backslashreplace"))
    return text if len(name) <= 200 else text + "…"


@contextmanager
def naming(where: str | None) -> Iterator[None]:
    """FormatErrors from within say which file they are about."""
    try:
        yield
    except FormatError as error:
        error.where = error.where or where
        raise


# --- writing ---------------------------------------------------------------------------------------------------------------------

_ZEROS: Final = bytes(BLOCK)
_USTAR: Final = b"ustar\x0000"
_LAYOUT: Final = Struct("100s24s24s8s356s")  # name, mode + uid + gid, size + mtime, checksum, the rest
_HEADER: Final = _LAYOUT.pack
_FIELDS: Final = _LAYOUT.unpack_from
_REST: Final = Struct("c100s8s32s32s8s8s167x").pack  # typeflag, link, magic, uname, gname, major, minor; no prefix
_UNUSED: Final = bytes(8)  # devmajor and devminor of what is not a device
_ID_LIMIT: Final = 8**7  # first number that does not fit its octal field
_BIG_LIMIT: Final = 8**11
_SPACES: Final = 8 * 32  # the checksum counts its own field as blanks
_NO_DEVICE: Final = (0, 0)
_PAX_HEADER: Final = Entry(b"", b"x", 0, 0, 0, 0, 0, b"", b"", b"", _NO_DEVICE)

_Known = tuple[bytes, bytes, int]  # mode + uid + gid; typeflag to end; sum of both as ``header`` needs it
_KNOWN_LIMIT: Final = 4096  # records of about 600 bytes; a tree has few owners and modes, a hostile one must not fill the memory
_known: dict[tuple[bytes, int, int, int, bytes, bytes], _Known] = {}


def header(name: bytes, entry: Entry, size: int) -> bytes:
    """The header blocks of a member called ``name`` with the attributes of ``entry`` and ``size`` bytes of data.

    The same bytes as ``tarfile.TarInfo.tobuf(PAX_FORMAT, "utf-8", "surrogateescape")``: a pax header comes first if something does not fit
    (format specification, section 5). A negative mtime is written as 0, as stock duplicity does.

    Raises:
        FormatError: a name, link target or device number that no reader would take back.
    """
    _, kind, mode, uid, gid, mtime, _, uname, gname, _, _ = entry
    known = _known.get((kind, mode, uid, gid, uname, gname)) or _remember(entry)
    if known is None or not 0 <= mtime < _BIG_LIMIT or size >= _BIG_LIMIT:
        return _slow_header(name, entry, size)
    if len(name) > 100 or not name.isascii():
        _check_writable(name, entry)
        return _pax_header({b"path": name}) + header(_ascii(name)[:100], entry, size)
    front, rest, base = known
    numbers = b"%011o\0%011o\0" % (size, mtime)
    # Adler-32's low half is one more than the sum of the bytes: exact below 65521, and 512 bytes of ASCII cannot sum up to that
    total = (adler32(name) & 0xFFFF) + (adler32(numbers) & 0xFFFF) + base
    return _HEADER(name, front, numbers, b"%06o\0 " % total, rest)


def member(name: bytes, entry: Entry, data: bytes = b"") -> bytes:
    """A whole member: ``header``, data, padding."""
    size = len(data)
    if not size:
        return header(name, entry, 0)
    return b"".join((header(name, entry, size), data, _ZEROS[: -size % BLOCK]))


def twins(first: bytes, first_data: bytes, second: bytes, second_data: bytes, entry: Entry) -> tuple[bytes, bytes] | None:
    """Two members of one plain entry whose names are ``first`` and ``second`` (≤ 20 bytes) followed by its path, for less than ``member`` twice.

    None if the entry is not plain; then ``member`` is the way.
    """
    path, kind, mode, uid, gid, mtime, _, uname, gname, _, _ = entry
    known = _known.get((kind, mode, uid, gid, uname, gname)) or _remember(entry)
    if known is None or len(path) > 80 or not path.isascii() or not 0 <= mtime < _BIG_LIMIT:
        return None
    front, rest, base = known
    size, second_size = len(first_data), len(second_data)
    numbers = b"%011o\0%011o\0" % (size, mtime)
    second_numbers = b"%011o\0%b" % (second_size, numbers[12:])
    base += (adler32(path) & 0xFFFF) - 1  # three sums instead of the two of ``header``
    total = base + (adler32(first) & 0xFFFF) + (adler32(numbers) & 0xFFFF)
    second_total = base + (adler32(second) & 0xFFFF) + (adler32(second_numbers) & 0xFFFF)
    head = _HEADER(first + path, front, numbers, b"%06o\0 " % total, rest)
    second_head = _HEADER(second + path, front, second_numbers, b"%06o\0 " % second_total, rest)
    return head + first_data + _ZEROS[: -size % BLOCK], second_head + second_data + _ZEROS[: -second_size % BLOCK]


def end(size: int, zero_blocks: int) -> bytes:
    """What ends an archive whose members took ``size`` bytes: at least ``zero_blocks`` blocks of zeros, up to a multiple of 10240."""
    least = size + zero_blocks * BLOCK
    return bytes(zero_blocks * BLOCK + -least % RECORD)


def _remember(entry: Entry) -> _Known | None:
    """The parts of a header that entries of one kind, mode and owner share; None if the entry is not plain."""
    _, kind, mode, uid, gid, _, _, uname, gname, _, _ = entry
    if kind not in (REG, DIR, FIFO, b"x") or not (0 <= uid < _ID_LIMIT and 0 <= gid < _ID_LIMIT):
        return None
    if not (uname.isascii() and gname.isascii()) or len(uname) > 32 or len(gname) > 32:
        return None
    front = b"%07o\0%07o\0%07o\0" % (mode & 0o7777, uid, gid)
    rest = _REST(kind, b"", _USTAR, uname, gname, _UNUSED, _UNUSED)
    if len(_known) >= _KNOWN_LIMIT:
        _known.clear()
    known = _known[kind, mode, uid, gid, uname, gname] = front, rest, sum(front) + sum(rest) + _SPACES - 2
    return known


def _slow_header(name: bytes, entry: Entry, size: int) -> bytes:
    """The rare header: links, devices, and everything that needs a pax header."""
    _check_writable(name, entry)
    strings = ((b"path", name, 100), (b"linkpath", entry.link, 100), (b"uname", entry.uname, 32), (b"gname", entry.gname, 32))
    numbers = (
        (b"uid", entry.uid, _ID_LIMIT),
        (b"gid", entry.gid, _ID_LIMIT),
        (b"size", size, _BIG_LIMIT),
        (b"mtime", entry.mtime, _BIG_LIMIT),
    )
    records = {word: value for word, value, limit in strings if len(value) > limit or not value.isascii()}
    records |= {word: b"%d" % value for word, value, limit in numbers if value >= limit}
    return (_pax_header(records) if records else b"") + _ustar(name, entry, size)


def _check_writable(name: bytes, entry: Entry) -> None:
    if len(entry.path) > MAX_NAME or len(entry.link) > MAX_NAME:
        raise FormatError(f"{shown(name)}: a path or link target of more than {MAX_NAME} bytes cannot be stored")
    if not all(0 <= number < _ID_LIMIT for number in entry.dev):
        raise FormatError(f"{shown(name)}: device numbers {entry.dev} do not fit a tar header")


def _pax_header(records: Mapping[bytes, bytes]) -> bytes:
    """A pax header and its body; ``hdrcharset=BINARY`` comes first if a value is not UTF-8."""
    body = b"".join([_pax_record(word, value) for word, value in records.items()])
    if not _is_utf8(body):
        body = _pax_record(b"hdrcharset", b"BINARY") + body
    return header(b"././@PaxHeader", _PAX_HEADER, len(body)) + body + _ZEROS[: -len(body) % BLOCK]


def _pax_record(word: bytes, value: bytes) -> bytes:
    text = b" %b=%b\n" % (word, value)
    size = len(text)
    while size != len(text) + len(str(size)):  # the length counts its own digits
        size = len(text) + len(str(size))
    return b"%d%b" % (size, text)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ustar(name: bytes, entry: Entry, size: int) -> bytes:
    """The 512 bytes of a header, for any entry: what does not fit is cut or 0, as its pax header has it right."""
    device = entry.kind in (CHR, BLK)
    major, minor = (b"%07o\0" % number if device else _UNUSED for number in entry.dev)
    ids = (entry.mode & 0o7777, _fitting(entry.uid, _ID_LIMIT), _fitting(entry.gid, _ID_LIMIT))
    numbers = (_fitting(size, _BIG_LIMIT), _fitting(entry.mtime, _BIG_LIMIT))
    fields = (_ascii(name)[:100], b"%07o\0%07o\0%07o\0" % ids, b"%011o\0%011o\0" % numbers)
    rest = _REST(entry.kind, _ascii(entry.link)[:100], _USTAR, _ascii(entry.uname)[:32], _ascii(entry.gname)[:32], major, minor)
    total = sum(map(sum, fields)) + sum(rest) + _SPACES
    return _HEADER(*fields, b"%06o\0 " % total, rest)


def _fitting(number: int, limit: int) -> int:
    return number if 0 <= number < limit else 0


def _ascii(text: bytes) -> bytes:
    return text.decode("utf-8", "surrogateescape").encode("ascii", "replace")


# --- reading ---------------------------------------------------------------------------------------------------------------------

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
        if block == _ZEROS:
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
        else:
            self._pending[b"path" if kind == b"L" else b"linkpath"] = body.partition(b"\0")[0]

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
    return _new(Entry, (name.partition(b"\0")[0], kind, mode, uid, gid, int(match[2], 8), size, uname, gname, b"", _NO_DEVICE))


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
    major, minor = (_number(b"device", block[a : a + 8], offset) if kind in (CHR, BLK) else 0 for a in (329, 337))
    entry = Entry(name, kind, mode & 0o7777, uid, gid, mtime, size, uname, gname, link if kind == SYM else b"", (major, minor))
    if kind not in (SYM, CHR, BLK) and not prefix:
        _keep(block, entry)
    return entry


def _keep(block: bytes, entry: Entry) -> None:
    if len(_ids_read) >= _KNOWN_LIMIT or len(_rest_read) >= _KNOWN_LIMIT:
        _ids_read.clear()
        _rest_read.clear()
    ids, rest = block[100:124], block[156:]
    _ids_read[ids] = (entry.mode, entry.uid, entry.gid, sum(ids) + _SPACES - 2)
    _rest_read[rest] = (entry.kind, entry.uname, entry.gname, sum(rest))


def _check_sum(block: bytes, offset: int) -> None:
    said = _number(b"checksum", block[148:156], offset)
    fields = block[:148] + block[156:]
    total = sum(fields) + _SPACES
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
