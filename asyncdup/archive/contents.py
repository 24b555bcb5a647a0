"""A volume taken apart for reading here and there: what it holds of each path, one after the other in a temporary file. Synchronous."""

from __future__ import annotations

from typing import NamedTuple

from asyncdup.archive.patch import Base
from asyncdup.formats.difftar import DifftarReader, Piece, Verb


class Extent(NamedTuple):
    """What a volume holds of one path.

    ``verb``: whether that is content or a delta. ``offset``, ``length``: where it is in ``Contents.data``, in bytes. ``first``: the number of
    its first part here, 1 if it begins here. ``last``: that of its last part here if the next volume may go on with it; 0 if it ends here.
    """

    verb: Verb
    offset: int
    length: int
    first: int
    last: int = 0

    @property
    def whole(self) -> bool:
        """Nothing of it is in another volume."""
        return self.first == 1 and not self.last


class Contents:
    """One volume: ``feed`` it, then ``finish``. ``users``: how many have it open."""

    def __init__(self, data: Base, *, where: str | None = None) -> None:
        self.data = data
        self.extents: dict[bytes, Extent] = {}
        self.users = 0
        self._reader = DifftarReader(where=where)

    def feed(self, data: bytes) -> bool:
        """The next plain bytes of the volume. Always True, as ``Chunks.pour`` wants it. Raises FormatError, and OSError if there is no room."""
        for piece in self._reader.feed(data):
            self._take(piece)
        return True

    def finish(self) -> None:
        """The volume has no more bytes. Raises FormatError if it is cut."""
        self._reader.end_volume()
        if self._reader.bounds is not None and (part := self._reader.bounds[1].part):
            path = self._reader.bounds[1].path
            self.extents[path] = self.extents[path]._replace(last=part)

    def _take(self, piece: Piece) -> None:
        path = piece.entry.path
        offset = self.data.size if piece.begins else self.extents[path].offset
        self.data.write(piece.data)
        self.extents[path] = Extent(piece.verb, offset, self.data.size - offset, piece.first_part)
