"""A signature archive made again from the backup itself: what one set names, as it restores, is signed (format, section 7).

Synchronous; runs in the merger's thread. It holds a MiB of the file now signed, the rest of which is in a temporary file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asyncdup.archive.patch import Base
from asyncdup.formats import rdiff, sigtar
from asyncdup.formats.tar import Entry


class SignatureBuilder:
    """A sink for the merger, which gives it the paths of the last set only, and tells ``deleted`` of those that are gone.

    Args:
        write: takes the bytes of the signature archive, which is plain here.
        made: when the run that made the set began, seconds since the epoch.
        max_blocksize: the largest block of a signature; 0: no limit.
    """

    def __init__(self, write: Callable[[bytes], object], *, made: int, tempdir: Path, max_blocksize: int = 0) -> None:
        self._write = write
        self._made = made
        self._tempdir = tempdir
        self._max_blocksize = max_blocksize
        self._size = 0

    def simple(self, entry: Entry) -> None:
        """A folder, symlink, fifo or device."""
        self._append(sigtar.snapshot(entry))

    def file(self, entry: Entry) -> _File:
        """A regular file, which is signed when all of it is there: the length of a block follows from its size."""
        return _File(Base(self._tempdir), lambda content: self._sign(entry, content))

    def deleted(self, path: bytes) -> None:
        """A path that was there in the set before."""
        self._append(sigtar.deleted(path))

    def finish(self) -> None:
        """All of the set was given."""
        self._append(sigtar.end(self._size))

    def _sign(self, entry: Entry, content: Base) -> None:
        signer = rdiff.Signer(rdiff.block_length(content.size, self._max_blocksize))
        try:
            pieces = [signer.feed(data) for data in content.read(0, content.size)]
            signature = b"".join([*pieces, signer.finish()])
        except BaseException:
            signer.close()
            raise
        self._append(sigtar.signature(self._recorded(entry), signature))

    def _recorded(self, entry: Entry) -> Entry:
        """A second older if it was being written to during the run: the next incremental must look at it again (P13)."""
        return entry._replace(mtime=max(0, entry.mtime - 1)) if entry.mtime >= self._made else entry

    def _append(self, data: bytes) -> None:
        self._size += len(data)
        self._write(data)


class _File:
    """The content of one regular file on its way to ``done``."""

    def __init__(self, content: Base, done: Callable[[Base], None]) -> None:
        self._content = content
        self._done = done

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self._content.write(data)

    def close(self) -> None:
        """All bytes were written."""
        try:
            self._done(self._content)
        finally:
            self._content.close()

    def abort(self) -> None:
        """The content cannot be had; the merger has said so."""
        self._content.close()
