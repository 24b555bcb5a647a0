"""Entries of an archive compared with the local tree: the sink of a verify. Reads the tree along with the archive, once, in the same order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from asyncdup.archive.owners import Owners
from asyncdup.archive.walk import Found
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, REG, SYM, Entry

_TYPES: Final = {REG: "reg", DIR: "dir", SYM: "sym", FIFO: "fifo", CHR: "chr", BLK: "blk"}


class Mismatch(NamedTuple):
    """One path that differs. ``message``: how, in duplicity's words, the path included."""

    path: bytes
    message: str

    @property
    def line(self) -> str:
        """As duplicity says it."""
        return f"Difference found: {self.message}"


class Walk(Protocol):
    """What is needed of a walker."""

    def __iter__(self) -> Iterator[Found]: ...
    def open(self, found: Found) -> int: ...


class TreeComparer:
    """Compares type, owner, mode, modification time, target, device numbers and content; entries must come in archive order.

    Each path with a difference is told of once, in duplicity's words (format specification, section 18). An entry that is only on one side
    counts as compared, too. Symlinks are compared by target only, devices not by time, as changes are found (section 11).

    Args:
        walk: the tree, from its root on, with the same selection as the archive's entries.
        compare_data: read the files, too.
        numeric_owner: believe archived numbers only, not names.
        on_difference: told of each difference.
    """

    def __init__(self, walk: Walk, *, compare_data: bool, numeric_owner: bool = False, on_difference: Callable[[Mismatch], None]) -> None:
        self.compared = 0  # entries
        self.differences = 0
        self._compare_data = compare_data
        self._owner_of = Owners(numeric=numeric_owner).ids
        self._on_difference = on_difference
        self._walk = walk
        self._iterator = iter(walk)
        self._found: Found | None = None  # next of the tree; stays while it is compared: the walk is where it can be opened
        self._key = b""
        self._used = True  # _found has met its entry: the next is wanted. So at the beginning, before the walk has begun

    def simple(self, entry: Entry) -> None:
        """Compare what has no content."""
        self._match(entry)

    def file(self, entry: Entry) -> ComparedFile:
        """Compare a regular file; its content follows."""
        handle = -1
        found = self._match(entry)
        if found is not None and self._compare_data:
            try:
                handle = self._walk.open(found)
            except OSError as error:
                self.differ(entry.path, f"File {_shown(entry.path)} could not be read: {error.strerror}")
        return ComparedFile(self, entry.path, handle)

    def finish(self) -> None:
        """The archive has no more entries: what is left of the tree is new."""
        self._pass_until(None)

    def differ(self, path: bytes, what: str) -> None:
        """Count and report one difference."""
        self.differences += 1
        self._on_difference(Mismatch(path, what))

    def _match(self, entry: Entry) -> Found | None:
        """The tree's counterpart of ``entry`` if it has the same attributes; else the difference is reported."""
        here = entry.path.replace(b"/", b"\0")
        self._pass_until(here)
        self.compared += 1
        found = self._found
        if found is None or self._key != here:
            self.differ(entry.path, f"File {_shown(entry.path)} is missing")
            return None
        self._used = True
        difference = self._difference(entry, found.entry)
        if difference:
            self.differ(entry.path, difference)
            return None
        return found

    def _pass_until(self, here: bytes | None) -> None:
        """Let the tree come to the path with the order key ``here``, or to its end."""
        if self._used:
            self._used = False
            self._advance()
        while self._found is not None and (here is None or self._key < here):
            self.compared += 1
            path = self._found.entry.path
            self.differ(path, f"New file {_shown(path)}")
            self._advance()

    def _advance(self) -> None:
        self._found = next(self._iterator, None)
        if self._found is not None:
            self._key = self._found.entry.path.replace(b"/", b"\0")

    def _difference(self, archived: Entry, live: Entry) -> str:
        """What differs first, or nothing."""
        kind, shown = archived.kind, _shown(archived.path)
        if kind != live.kind:
            return f"File {shown} has type {_TYPES[live.kind]}, expected {_TYPES[kind]}"
        if kind == SYM:
            same = archived.link == live.link
            return "" if same else f"Symlink {shown} points to {os.fsdecode(live.link)}, expected {os.fsdecode(archived.link)}"
        owner, expected = (live.uid, live.gid), self._expected_owner(archived)
        if owner != expected or live.mode != archived.mode:
            return f"File {shown} has permissions {_permissions(owner, live.mode)}, expected {_permissions(expected, archived.mode)}"
        if kind in (CHR, BLK):
            return "" if archived.dev == live.dev else f"Device file {shown} has numbers {live.dev}, expected {archived.dev}"
        if max(0, archived.mtime) != live.mtime:
            return f"File {shown} has mtime {_when(live.mtime)}, expected {_when(archived.mtime)}"
        return ""

    def _expected_owner(self, archived: Entry) -> tuple[int, int]:
        try:
            return self._owner_of(archived)
        except ValueError:  # no possible owner: differs from any
            return archived.uid, archived.gid


class ComparedFile:
    """A regular file of the tree, read as far as its archived content comes."""

    __slots__ = ("_comparer", "_differs", "_handle", "_path")

    def __init__(self, comparer: TreeComparer, path: bytes, handle: int) -> None:
        """``handle`` -1: nothing to compare, or reported already."""
        self._comparer = comparer
        self._path = path
        self._handle = handle
        self._differs = ""

    def write(self, data: bytes) -> None:
        """The next bytes of the archived content."""
        if self._handle >= 0 and not self._differs and self._read(len(data)) != data and not self._differs:
            self._differs = f"Data for file {_shown(self._path)} is different"

    def close(self) -> None:
        """That was all of the archived content."""
        if self._handle < 0:
            return
        if not self._differs and self._read(1) and not self._differs:
            self._differs = f"Data for file {_shown(self._path)} is different"
        if self._differs:
            self._comparer.differ(self._path, self._differs)
        self.abort()

    def abort(self) -> None:
        """Compare no further and report nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _read(self, size: int) -> bytes:
        try:
            data = os.read(self._handle, size)
            while len(data) < size and (more := os.read(self._handle, size - len(data))):
                data += more
        except OSError as error:
            self._differs = f"File {_shown(self._path)} could not be read: {error.strerror}"
            return b""
        return data


def _shown(path: bytes) -> str:
    return os.fsdecode(path) or "."


def _permissions(owner: tuple[int, int], mode: int) -> str:
    return f"{owner[0]}:{owner[1]} {mode:o}"


def _when(mtime: int) -> str:
    try:
        return time.asctime(time.localtime(mtime))
    except (OverflowError, OSError, ValueError):  # an archive may hold any number
        return f"{mtime} s"
