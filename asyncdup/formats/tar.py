"""A tar entry, and its bytes in the dialect of duplicity's archives: POSIX pax headers, as CPython's ``tarfile`` writes them.

There is a fast path for plain entries (ASCII names of at most 100 bytes, small numbers) and a slow one for the rest; both give the same
bytes. What the member names mean is known to ``difftar`` and ``sigtar``, not here; how bytes become entries to ``tar_reader``.
"""

from __future__ import annotations

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


ZEROS: Final = bytes(BLOCK)
_USTAR: Final = b"ustar\x0000"
LAYOUT: Final = Struct("100s24s24s8s356s")  # name, mode + uid + gid, size + mtime, checksum, the rest
_HEADER: Final = LAYOUT.pack
_REST: Final = Struct("c100s8s32s32s8s8s167x").pack  # typeflag, link, magic, uname, gname, major, minor; no prefix
_UNUSED: Final = bytes(8)  # devmajor and devminor of what is not a device
_ID_LIMIT: Final = 8**7  # first number that does not fit its octal field
_BIG_LIMIT: Final = 8**11
SPACES: Final = 8 * 32  # the checksum counts its own field as blanks
NO_DEVICE: Final = (0, 0)
_PAX_HEADER: Final = Entry(b"", b"x", 0, 0, 0, 0, 0, b"", b"", b"", NO_DEVICE)

_Known = tuple[bytes, bytes, int]  # mode + uid + gid; typeflag to end; sum of both as ``header`` needs it
KNOWN_LIMIT: Final = 4096  # records of about 600 bytes; a tree has few owners and modes, a hostile one must not fill the memory
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
    return b"".join((header(name, entry, size), data, ZEROS[: -size % BLOCK]))


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
    return head + first_data + ZEROS[: -size % BLOCK], second_head + second_data + ZEROS[: -second_size % BLOCK]


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
    if len(_known) >= KNOWN_LIMIT:
        _known.clear()
    known = _known[kind, mode, uid, gid, uname, gname] = front, rest, sum(front) + sum(rest) + SPACES - 2
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
    return header(b"././@PaxHeader", _PAX_HEADER, len(body)) + body + ZEROS[: -len(body) % BLOCK]


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
    total = sum(map(sum, fields)) + sum(rest) + SPACES
    return _HEADER(*fields, b"%06o\0 " % total, rest)


def _fitting(number: int, limit: int) -> int:
    return number if 0 <= number < limit else 0


def _ascii(text: bytes) -> bytes:
    return text.decode("utf-8", "surrogateescape").encode("ascii", "replace")
