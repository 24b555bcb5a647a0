"""Manifest text <-> records: which volumes a set has, what each begins and ends with, and its hash.

Source: format specification, section 3; the bytes written are those of duplicity 3.2.1 (fixtures). The list of changed files at the end may
have a line for every file of a tree, so it is written from an iterable and on reading only counted, unless it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NoReturn

from asyncdup.errors import FormatError

MAX_SIZE: Final = 64 << 20  # bytes (P9)
MAX_PATH: Final = 4096  # bytes (P9)
MAX_HASHES: Final = 8  # of one volume; stock writes one
DIGEST_SIZES: Final = {"SHA1": 40, "MD5": 32}  # hex digits of the hashes that stock accepts, strongest first
LIST_PIECE: Final = 1 << 16  # bytes of a piece of a file list: many short lines at once

_HOSTNAME = re.compile(rb"Hostname[ \t]+(.*)", re.IGNORECASE | re.DOTALL)
_LOCALDIR = re.compile(rb"Localdir[ \t]+(.*)", re.IGNORECASE | re.DOTALL)
_VOLUME = re.compile(rb"Volume[ \t]+([0-9]{1,8}):\s*", re.IGNORECASE)
_FILELIST = re.compile(rb"Filelist[ \t]+([0-9]{1,9})\s*", re.IGNORECASE)
_BOUND = re.compile(rb"\s+(Starting|Ending)Path\s+(\S+)\s*([0-9]{0,12})\s*", re.IGNORECASE)
_HASH = re.compile(rb"\s+Hash\s+(\S+)\s+(\S+)\s*", re.IGNORECASE)
_FILE = re.compile(rb"\s+(new|changed|deleted)\s+(\S+)\s*", re.IGNORECASE)

_TO_QUOTE = re.compile(rb"[\t\n\v\f\r \\\"']")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """One volume. Paths are ``b""`` for the root, else components joined by ``/``.

    ``start_block``, ``end_block``: number of the 64 KiB part of a split file that the volume begins or ends with; None if the entry is not
    split or this is its last part. ``hashes``: upper-case name (``SHA1``, ``MD5``) -> lower-case hex digest of the file as it is stored.
    """

    number: int
    start_path: bytes
    start_block: int | None = None
    end_path: bytes
    end_block: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha1(self) -> str | None:
        """Hex; None if the manifest has only another hash."""
        return self.hashes.get("SHA1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest says. ``volumes``: 1 ... n without a gap. ``files``: entries of the file list, None if there is none.

    ``files_changed``: (``new``, ``changed`` or ``deleted``; path) if they were asked for.
    """

    hostname: bytes | None = None
    localdir: bytes | None = None
    volumes: Mapping[int, VolumeRecord] = field(default_factory=dict)
    files: int | None = None
    files_changed: tuple[tuple[str, bytes], ...] | None = None

    def volumes_for(self, path: bytes = b"") -> list[VolumeRecord]:
        """The volumes, in order, that may hold entries at or below ``path``.

        Nothing checks the bounds of a plain manifest, so each is taken together with that of the neighbour, and the outermost ones are not
        asked: one wrong bound hides nothing (P3). A path at or between the bounds of two neighbours therefore asks for both.
        """
        volumes = [volume for _, volume in sorted(self.volumes.items())]
        if not path:
            return volumes
        wanted = path.split(b"/")
        between = [(one.end_path.split(b"/"), next_one.start_path.split(b"/")) for one, next_one in pairwise(volumes)]
        # What lies below the path is at or after it, and may go on behind a bound that lies below it, too.
        begun = [True, *(min(end, start)[: len(wanted)] <= wanted for end, start in between)]
        ended = [*(wanted > max(end, start) for end, start in between), False]
        return [volume for volume, has_begun, has_ended in zip(volumes, begun, ended, strict=True) if has_begun and not has_ended]


# --- reading -----------------------------------------------------------------------------------------------------------------------


def parse(data: bytes, *, where: str | None = None, file_list: bool = False) -> Manifest:
    """Read a whole manifest, strictly: it is the commit record of a set, and a damaged one must not look like a smaller set (P4).

    Args:
        where: its name, for errors.
        file_list: keep the entries of the file list, which may be many; they are checked and counted in either case.

    Raises:
        FormatError: with the offset: empty, cut, over 64 MiB, without volumes, a gap in their numbers, a volume without path or usable
            hash, a line that belongs nowhere.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"the manifest has {len(data)} bytes; more than {MAX_SIZE} are not read", offset=MAX_SIZE, where=where)
    return _Reader(data, where, file_list).read()


class _Reader:
    """A cursor over lines; no list of all lines is ever made. ``at``: offset of the line that is looked at."""

    def __init__(self, data: bytes, where: str | None, keep_files: bool) -> None:
        self._data = data
        self._where = where
        self._keep_files = keep_files
        self._at = 0
        self._next = 0
        self._head: dict[str, bytes] = {}
        self._volumes: dict[int, VolumeRecord] = {}
        self._files: int | None = None
        self._changed: list[tuple[str, bytes]] = []

    def read(self) -> Manifest:
        if not self._data:
            self._fail("the manifest is empty")
        while (line := self._line()) is not None:
            if line.strip():
                self._block(line)
        self._check_volumes()
        return Manifest(
            hostname=self._head.get("hostname"),
            localdir=self._head.get("localdir"),
            volumes=self._volumes,
            files=self._files,
            files_changed=tuple(self._changed) if self._keep_files and self._files is not None else None,
        )

    def _line(self) -> bytes | None:
        """The next line without its end; None after the last."""
        if self._next >= len(self._data):
            self._at = len(self._data)
            return None
        self._at = self._next
        end = self._data.find(b"\n", self._at)
        if end < 0:
            self._fail("the manifest is cut off in this line")
        self._next = end + 1
        return self._data[self._at : end]

    def _block(self, line: bytes) -> None:
        # The order of blocks is free: stock finds each by a search.
        if match := _VOLUME.fullmatch(line):
            self._volume(int(match[1]))
        elif match := _FILELIST.fullmatch(line):
            self._file_list(int(match[1]))
        elif match := _HOSTNAME.fullmatch(line):
            self._once("hostname", match[1])
        elif match := _LOCALDIR.fullmatch(line):
            self._once("localdir", self._unquoted(match[1]))
        else:
            self._fail("a line that belongs to nothing")

    def _once(self, key: str, value: bytes) -> None:
        if key in self._head:
            self._fail(f"a second {key.capitalize()}")
        self._head[key] = value

    def _volume(self, number: int) -> None:
        begin = self._at
        bounds: dict[bytes, tuple[bytes, int | None]] = {}
        hashes: dict[str, str] = {}
        while self._data[self._next : self._next + 1] in (b" ", b"\t") and (line := self._line()) is not None:
            if match := _BOUND.fullmatch(line):
                self._bound(bounds, match)
            elif (match := _HASH.fullmatch(line)) and len(hashes) < MAX_HASHES:
                self._hash(hashes, match)
            else:
                self._fail(f"a line that does not belong to volume {number}")
        self._at = begin
        if number < 1:
            self._fail(f"volumes are numbered from 1, not {number}")
        if len(bounds) < 2 or not hashes.keys() & DIGEST_SIZES.keys():
            self._fail(f"volume {number} lacks its StartingPath, its EndingPath or a hash that can be checked")
        (start_path, start_block), (end_path, end_block) = bounds[b"starting"], bounds[b"ending"]
        if start_path.split(b"/") > end_path.split(b"/"):
            self._fail(f"volume {number} begins after its end")
        record = VolumeRecord(
            number=number, start_path=start_path, start_block=start_block, end_path=end_path, end_block=end_block, hashes=hashes
        )
        self._volumes.pop(number, None)  # the last block of a number counts, and its place in the file, too (after a resume)
        self._volumes[number] = record

    def _bound(self, bounds: dict[bytes, tuple[bytes, int | None]], match: re.Match[bytes]) -> None:
        which = match[1].lower()
        if which in bounds:
            self._fail(f"a second {match[1].decode()}Path in one volume")
        bounds[which] = self._path(match[2]), int(match[3]) if match[3] else None

    def _hash(self, hashes: dict[str, str], match: re.Match[bytes]) -> None:
        name, digest = match[1].decode("ascii", "replace").upper(), match[2].decode("ascii", "replace").lower()
        if name in hashes:
            self._fail(f"a second {name} in one volume")
        if name in DIGEST_SIZES and re.fullmatch(f"[0-9a-f]{{{DIGEST_SIZES[name]}}}", digest) is None:
            self._fail(f"{name} of a volume is not {DIGEST_SIZES[name]} hexadecimal digits")
        hashes[name] = digest

    def _file_list(self, count: int) -> None:
        if self._files is not None:
            self._fail("a second file list")
        self._files = count
        for number in range(count):
            line = self._line()
            match = _FILE.fullmatch(line) if line is not None else None
            if match is None:
                self._fail(f"the file list has {number} entries, not the {count} that it announces")
            if self._keep_files:
                self._changed.append((match[1].decode("ascii").lower(), self._path(match[2])))

    def _check_volumes(self) -> None:
        numbers = list(self._volumes)
        if not numbers:
            self._fail("the manifest names no volumes")
        # After a resume that went back, what an earlier run wrote beyond the last block is no longer part of the set.
        for number in [number for number in numbers if number > numbers[-1]]:
            del self._volumes[number]
        for number in range(1, numbers[-1] + 1):
            if number not in self._volumes:
                self._fail(f"the manifest lacks volume {number} of {numbers[-1]}")

    def _path(self, text: bytes) -> bytes:
        path = self._unquoted(text)
        if path == b".":
            return b""
        if len(path) > MAX_PATH or b"\0" in path:
            self._fail("a path that is too long or holds a NUL byte")
        if any(component in (b"", b".", b"..") for component in path.split(b"/")):
            self._fail("a path with an empty, . or .. component")
        return path

    def _unquoted(self, text: bytes) -> bytes:
        if not text.startswith(b'"'):
            return text
        inside = text[1:-1]
        if len(text) < 2 or not text.endswith(b'"') or b'"' in inside or b"\\" in _ESCAPED.sub(b"", inside):
            self._fail("a quoted value with a broken quote")
        return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), inside)

    def _fail(self, message: str) -> NoReturn:
        raise FormatError(message, offset=self._at, where=self._where)


# --- writing -----------------------------------------------------------------------------------------------------------------------


def write_head(hostname: bytes | None, localdir: bytes | None) -> bytes:
    """The first lines. ``localdir``: the source as the user named it (``localdir_of``). What is None or empty is left out."""
    host = b"Hostname %b\n" % hostname if hostname else b""
    return host + (b"Localdir %b\n" % quoted(localdir) if localdir else b"")


def write_volume(volume: VolumeRecord) -> bytes:
    """The block of one volume. Raises ValueError without a SHA1: stock duplicity crashes on such a manifest."""
    if not volume.sha1:
        raise ValueError(f"volume {volume.number} has no SHA1")
    start, end = _bound_text(volume.start_path, volume.start_block), _bound_text(volume.end_path, volume.end_block)
    hashes = b"".join(f"    Hash {name} {digest}\n".encode("ascii") for name, digest in volume.hashes.items())
    return b"Volume %d:\n    StartingPath   %b\n    EndingPath     %b\n%b" % (volume.number, start, end, hashes)


def file_line(kind: str, path: bytes) -> bytes:
    """A line of the file list: ``kind`` is ``new``, ``changed`` or ``deleted``, ``path`` that of a regular file."""
    return b"    %b  %b\n" % (kind.encode("ascii").ljust(7), _path_text(path))


def write_file_list(count: int, lines: Iterable[bytes] = ()) -> Iterator[bytes]:
    """The file list, in pieces: ``count`` lines made by ``file_line``, in archive order, split anywhere. Memory: one of ``lines`` and 64 KiB.

    Raises:
        ValueError: at the end, if ``lines`` were not ``count`` lines.
    """
    pending, left = [b"Filelist %d\n" % count], count
    size = 0
    for piece in lines:
        left -= piece.count(b"\n")
        pending.append(piece)
        size += len(piece)
        if size >= LIST_PIECE:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)
    if left:
        raise ValueError(f"a file list announced with {count} lines has {count - left}")


def write(manifest: Manifest) -> bytes:
    """A whole manifest of moderate size, the file list too if its entries are there."""
    parts = [write_head(manifest.hostname, manifest.localdir)]
    parts += [write_volume(volume) for _, volume in sorted(manifest.volumes.items())]
    if manifest.files_changed is not None:
        lines = (file_line(kind, path) for kind, path in manifest.files_changed)
        parts += write_file_list(len(manifest.files_changed), lines)
    return b"".join(parts)


def localdir_of(source: bytes) -> bytes:
    """The source path as manifests name it: as given, without ``.`` components and doubled or trailing slashes (``b"."`` if nothing is left)."""
    components = [component for component in source.split(b"/") if component not in (b"", b".")]
    absolute = b"/" if source.startswith(b"/") else b""
    return (absolute + b"/".join(components)) or b"."


def quoted(value: bytes) -> bytes:
    """``value`` in quotes, with white space, quotes and backslashes escaped, if it holds any of them; else as it is."""
    if _TO_QUOTE.search(value) is None:
        return value
    return b'"' + _TO_QUOTE.sub(lambda match: b"\\x%02x" % match[0][0], value) + b'"'


def _path_text(path: bytes) -> bytes:
    return quoted(path) if path else b"."


def _bound_text(path: bytes, block: int | None) -> bytes:
    return b"%b %b" % (_path_text(path), b" " if block is None else b"%d" % block)
