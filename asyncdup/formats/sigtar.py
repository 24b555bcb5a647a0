"""Signature files (sigtars): the tree as of a set, with the librsync signature of each regular file. Format specification, section 7."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from asyncdup.errors import FormatError
from asyncdup.formats import tar
from asyncdup.formats.tar import DIR, REG, Entry, shown
from asyncdup.formats.tar_reader import TarReader, inner_path

MAX_SIGNATURE: Final = 64 << 20  # bytes; a file of 10 TB has 38 MB of signature with the format's block length

Verb = Literal["signature", "snapshot", "deleted"]

_DELETED: Final = Entry(b"", REG, 0, 0, 0, 0, 0, b"", b"", b"", (0, 0))


def signature(entry: Entry, sig: bytes) -> bytes:
    """The member of a new or changed regular file with its whole librsync signature."""
    return tar.member(b"signature/" + entry.path, entry, sig)


def snapshot(entry: Entry) -> bytes:
    """The member of a new or changed path that is no regular file."""
    name = b"snapshot/" + entry.path
    return tar.member(name + b"/" if entry.kind == DIR and entry.path else name, entry)  # observed: the root is snapshot/ in sigtars


def deleted(path: bytes) -> bytes:
    """The member of a path that is gone."""
    return tar.member(b"deleted/" + path, _DELETED)


def end(size: int) -> bytes:
    """What ends a sigtar whose members took ``size`` bytes: two blocks of zeros, then zeros to a multiple of 10240."""
    return tar.end(size, 2)


class SigMember(NamedTuple):
    """What a sigtar says of one path. ``entry.path`` is the path; ``signature`` is empty unless the verb is "signature"."""

    verb: Verb
    entry: Entry
    signature: bytes  # as stored, not checked


class SigtarReader:
    """Reads one sigtar; a push parser that holds one signature of at most ``max_signature`` bytes.

    Beyond what TarReader checks: member names and types are the format's, paths stay inside and come in increasing order, but for a root
    that is repeated (older writers did so). Every error is a FormatError with its offset and ``where``, the name of the file; afterwards
    the reader cannot be used.
    """

    def __init__(self, *, where: str | None = None, max_signature: int = MAX_SIGNATURE) -> None:
        self._where = where
        self._tar = TarReader()
        self._max_signature = max_signature
        self._last: bytes | None = None  # order key of the newest member; None before the first
        self._verb: Verb = "snapshot"
        self._entry = _DELETED
        self._parts: list[bytes] = []  # of a signature that came in several pieces

    def feed(self, data: bytes) -> list[SigMember]:
        """The members that the next bytes complete."""
        with tar.naming(self._where):
            return self._feed(data)

    def finish(self) -> list[SigMember]:
        """The sigtar has no more bytes. Raises FormatError if it is cut. No member is left: always an empty list."""
        with tar.naming(self._where):
            self._tar.finish()
        return []

    def _feed(self, data: bytes) -> list[SigMember]:
        members: list[SigMember] = []
        for entry, content, begins, ends, offset in self._tar.feed(data):
            if begins:
                self._begin(entry, offset)
                if ends:
                    members.append(_new(SigMember, (self._verb, self._entry, content)))
                    continue
            self._parts.append(content)
            if ends:
                members.append(SigMember(self._verb, self._entry, b"".join(self._parts)))
                self._parts.clear()
        return members

    def _begin(self, entry: Entry, offset: int) -> None:
        word, slash, name = entry[0].partition(b"/")
        verb = _VERBS.get(word) if slash else None
        if verb is None:
            raise FormatError(f"member {shown(entry.path)}: no name of a sigtar", offset=offset)
        size = entry[6]
        if (entry[1] == REG) is (verb == "snapshot") or (verb == "deleted" and size) or size > self._max_signature:
            raise FormatError(f"member {shown(entry.path)}: typeflag or size that a {verb} member cannot have", offset=offset)
        path = inner_path(name, entry, offset)
        order = path.replace(b"/", b"\0")  # tar.key, without the call
        if self._last is not None and order <= self._last and (order or self._last):
            raise FormatError(f"member {shown(entry.path)}: out of order after {shown(self._entry.path)}", offset=offset)
        self._verb, self._last = verb, order
        self._entry = _new(Entry, (path,) + entry[1:])


_VERBS: Final[dict[bytes, Verb]] = {b"signature": "signature", b"snapshot": "snapshot", b"deleted": "deleted"}
_new = tuple.__new__
