"""Volumes (difftars): the tar members that tell how to make the new tree from the old one. Format specification, sections 4 and 5.

Writers give whole members; the reader is fed the plain bytes of a set's volumes and gives pieces of files, with split files joined.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from asyncdup.errors import FormatError
from asyncdup.formats import sigtar, tar
from asyncdup.formats.tar import DIR, REG, Entry, shown
from asyncdup.formats.tar_reader import TarReader, inner_path

PART: Final = 65536  # bytes of file or delta in a multivol member, except the last; what has fewer bytes is one plain member

Verb = Literal["snapshot", "diff", "deleted"]

_DELETED: Final = Entry(b"", REG, 0, 0, 0, 0, 0, b"", b"", b"", (0, 0))


def snapshot(entry: Entry, data: bytes = b"") -> bytes:
    """The member of a new or changed path as it is now; ``data`` is the whole content of a regular file of fewer than PART bytes."""
    if entry.kind != DIR:
        return tar.member(b"snapshot/" + entry.path, entry, data)
    return tar.member(b"snapshot/%b/" % (entry.path or b"."), entry)  # observed: the root is snapshot/./ here, and snapshot/ in sigtars


def diff(entry: Entry, delta: bytes) -> bytes:
    """The member of a regular file that was one before, too: a whole delta of fewer than PART bytes."""
    return tar.member(b"diff/" + entry.path, entry, delta)


def deleted(path: bytes) -> bytes:
    """The member of a path that is gone."""
    return tar.member(b"deleted/" + path, _DELETED)


def multivol(verb: Literal["snapshot", "diff"], entry: Entry, number: int, data: bytes) -> bytes:
    """Part ``number`` (from 1) of a file or delta of at least PART bytes. Each part but the last has PART bytes; the last has fewer, perhaps none."""
    return tar.member(_part_name(verb, entry, number), entry, data)


def multivol_run(verb: Literal["snapshot", "diff"], entry: Entry, first_number: int, data: bytes) -> bytes:
    """The members of parts ``first_number``, ``first_number`` + 1, … that ``data`` makes; b"" makes the empty part that may come last."""
    blocks: list[bytes | memoryview] = []
    view = memoryview(data)  # a slice of it is no copy
    for at in range(0, len(data) or 1, PART):
        part = view[at : at + PART]
        blocks += (tar.header(_part_name(verb, entry, first_number + at // PART), entry, len(part)), part)
    blocks.append(bytes(-len(data) % tar.BLOCK))  # only the last part can need padding: PART is a multiple of a block
    return b"".join(blocks)


def _part_name(verb: str, entry: Entry, number: int) -> bytes:
    return b"multivol_%b/%b/%d" % (verb.encode(), entry.path or b".", number)


def pair(entry: Entry, data: bytes, signature: bytes) -> tuple[bytes, bytes]:
    """The member of a small new regular file in the difftar (``snapshot``) and in the sigtar (``sigtar.signature``), at the price of one and a half."""
    both = tar.twins(b"snapshot/", data, b"signature/", signature, entry) if entry.kind == REG else None
    return both or (snapshot(entry, data), sigtar.signature(entry, signature))


def end(size: int) -> bytes:
    """What ends a volume whose members took ``size`` bytes: zeros to a multiple of 10240, at least one block of 512."""
    return tar.end(size, 1)


class Piece(NamedTuple):
    """Some bytes of what a set says of one path. ``entry.path`` is the path; ``entry.size`` the size of its (first) member."""

    verb: Verb
    entry: Entry
    data: bytes  # of a snapshot: content; of a diff: delta; else empty
    begins: bool
    ends: bool
    first_part: int = 1  # more if reading began within a split file: the parts before it are missing


class Bound(NamedTuple):
    """What a volume begins or ends with: a path, the number of its part there (0: it is not split), and the bytes of that member."""

    path: bytes
    part: int
    size: int


class DifftarReader:
    """Reads the volumes of one backup set in order; a push parser of bounded memory. ``bounds``: those of the newest volume that ended, None if
    it holds nothing.

    Beyond what TarReader checks: member names and types are the format's, paths stay inside and come in increasing order, parts are
    complete from the first one seen. Every error is a FormatError with the offset in the volume and ``where``, its name; afterwards the
    reader cannot be used.
    """

    def __init__(self, *, where: str | None = None) -> None:
        self.where = where  # name of the volume that is open, for errors; to be set anew before the first bytes of the next
        self.bounds: tuple[Bound, Bound] | None = None
        self._first: Bound | None = None  # of the volume that is open
        self._size = 0  # of its newest member
        self._tar = TarReader()  # of the volume that is open, or of the next
        self._in_volume = False  # some of its bytes were fed
        self._verb: Verb = "snapshot"
        self._entry = _DELETED  # the path whose pieces come now
        self._last: bytes | None = None  # its order key; None before the first
        self._part = 0  # number of its newest part; 0 if it is not split
        self._first_part = 1

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that the next bytes of the volume bring. A member that lies wholly in ``data`` is one piece."""
        self._in_volume = True
        with tar.naming(self.where):
            return self._feed(data)

    def end_volume(self) -> list[Piece]:
        """The volume has no more bytes. Raises FormatError if it is cut; a split file may go on in the next volume."""
        with tar.naming(self.where):
            self._tar.finish()
        self._tar = TarReader()
        self._in_volume = False
        self.bounds = (self._first, self._bound(self._size)) if self._first is not None else None
        self._first = None
        return []

    def finish(self) -> list[Piece]:
        """No volume follows: ends a split file. Raises FormatError if a volume was fed and not ended."""
        if self._in_volume:
            raise FormatError("the backup set is cut: its last volume was not read to the end", where=self.where)
        pieces: list[Piece] = []
        self._end_parts(pieces)
        return pieces

    def _feed(self, data: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        chunks = self._tar.feed(data)
        for entry, content, begins, ends, offset in chunks:
            starts = begins and self._begin(entry, offset, pieces)
            if starts or content or not self._part:
                pieces.append(_new(Piece, (self._verb, self._entry, content, starts, ends and not self._part, self._first_part)))
            if self._first is None:
                self._first = self._bound(entry.size)
        if chunks:
            self._size = chunks[-1].entry.size
        return pieces

    def _bound(self, size: int) -> Bound:
        """Where the volume is now."""
        return Bound(self._entry.path, self._part, size)

    def _begin(self, entry: Entry, offset: int, pieces: list[Piece]) -> bool:
        """Note the member that begins; gives whether its path does, too (not so with a further part)."""
        word, slash, path = entry[0].partition(b"/")
        verb = _VERBS.get(word) if slash else None
        if verb is None:
            return self._begin_part(word, path, entry, offset, pieces)
        if verb != "snapshot":
            _check_plain(verb, entry, offset)
        self._next(verb, inner_path(path, entry, offset), entry, offset, pieces)
        return True

    def _begin_part(self, word: bytes, name: bytes, entry: Entry, offset: int, pieces: list[Piece]) -> bool:
        verb = _MULTIVOL_VERBS.get(word)
        if verb is None:
            raise FormatError(f"member {shown(entry.path)}: no name of a difftar", offset=offset)
        name, _, digits = name.rpartition(b"/")
        number = int(digits) if digits.isdigit() and len(digits) <= 12 else 0
        if number < 1 or not name or entry.kind != REG:
            raise FormatError(f"member {shown(entry.path)}: no part of a regular file", offset=offset)
        path = inner_path(name, entry, offset)
        if self._part and verb == self._verb and path == self._entry.path:
            if number != self._part + 1:
                raise FormatError(f"member {shown(entry.path)}: part {self._part + 1} is missing before it", offset=offset)
            self._part = number
            return False
        if number > 1 and self._last is not None:
            raise FormatError(f"member {shown(entry.path)}: part 1 is missing before it", offset=offset)
        self._next(verb, path, entry, offset, pieces)
        self._part = self._first_part = number
        return True

    def _next(self, verb: Verb, path: bytes, entry: Entry, offset: int, pieces: list[Piece]) -> None:
        """The set goes on with ``path``."""
        order = path.replace(b"/", b"\0")  # tar.key, without the call
        if self._last is not None and order <= self._last:
            raise FormatError(f"member {shown(entry.path)}: out of order after {shown(self._entry.path)}", offset=offset)
        if self._part:
            self._end_parts(pieces)
        self._verb, self._last = verb, order
        self._entry = _new(Entry, (path,) + entry[1:])

    def _end_parts(self, pieces: list[Piece]) -> None:
        if self._part:
            pieces.append(Piece(self._verb, self._entry, b"", False, True, self._first_part))
            self._part, self._first_part = 0, 1


_VERBS: Final[dict[bytes, Verb]] = {b"snapshot": "snapshot", b"diff": "diff", b"deleted": "deleted"}
_MULTIVOL_VERBS: Final[dict[bytes, Verb]] = {b"multivol_snapshot": "snapshot", b"multivol_diff": "diff"}
_new = tuple.__new__


def _check_plain(verb: Verb, entry: Entry, offset: int) -> None:
    if entry.kind != REG or (verb == "deleted" and entry.size):
        raise FormatError(f"member {shown(entry.path)}: typeflag or size that a {verb} member cannot have", offset=offset)
