"""Files that wait to be sent, or were received and are not yet consumed, and the bound on them (S4).

The folder is ours alone (0700) and goes away with the engine. A file leaves the bound when it is stored, not when its turn in an order comes.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TypeVar

import anyio

from asyncdup.backends.bodies import FileBody
from asyncdup.events import Event
from asyncdup.threads import in_thread
from asyncdup.transfer.disk import SpoolDisk, mount_point
from asyncdup.transfer.lane import Gate
from asyncdup.transfer.limits import CLEANUP, DiskRefused, Level, Place, Room, Ticket

T = TypeVar("T")

SHARE = 4 << 30  # bytes


class Spool:
    """The spool of one engine.

    Attributes:
        share: bytes that it may take where nobody has said how much: ``SHARE``, but no more than half of what was free at the start.
    """

    def __init__(self, folder: Path, room: Room, disk: SpoolDisk, share: int) -> None:
        self.folder = folder
        self.room = room
        self.disk = disk
        self.share = share
        self._numbers = itertools.count(1)
        self._files: set[Path] = set()  # those that are ours to remove

    @classmethod
    async def create(cls, parent: Path | None, room: Room, new_gate: Callable[[str], Gate], emit: Callable[[Event], None]) -> Spool:
        """A new folder below ``parent`` (default: the system's folder for temporary files). ``new_gate``: makes that of the disk, by its name."""
        folder, mounted, free = await in_thread(_make_folder, parent)  # one call: nobody would remove a folder if cancelled behind it
        gate = new_gate(f"the disk at {mounted}")
        return cls(folder, room, SpoolDisk(folder, room, gate, emit), min(SHARE, free // 2))

    async def new(self, size_estimate: int) -> SpoolFile:
        """Room for a file of about ``size_estimate`` bytes; waits while the bound is reached.

        The bound gives way when waiting could not help, since nothing in the spool is about to be stored.

        Raises:
            Drained: the engine takes nothing new.
        """
        place = await self.room.take(size_estimate, may_overrun=lambda: not self.room.leaving)
        return self._file(place)

    async def adopt(self, path: Path, size: int, digests: Mapping[str, str]) -> SpoolBody:
        """A whole file of an earlier run as one of ours, where it is: removed when it is stored or given up. Waits and raises as ``new``."""
        place = await self.room.take(size, may_overrun=lambda: not self.room.leaving)
        self._files.add(path)
        return SpoolFile(self, path, place).seal(size, digests)

    async def for_reading(self, size_estimate: int, ticket: Ticket) -> SpoolFile:
        """As ``new``, for an object that is fetched. The one that its consumer waits for is let in beyond the bound: else two consumers
        of one engine could wait for each other for ever."""
        place = await self.room.take(size_estimate, may_overrun=lambda: ticket.level <= Level.HEAD)
        return self._file(place)

    async def aclose(self) -> None:
        """Remove our files and the folder; files that were handed over stay."""
        with anyio.move_on_after(CLEANUP, shield=True):
            await in_thread(_remove_all, self.folder, tuple(self._files), abandon_on_cancel=True)

    def _file(self, place: Place) -> SpoolFile:
        path = self.folder / f"{next(self._numbers):06d}"
        self._files.add(path)
        return SpoolFile(self, path, place)

    async def _remove(self, path: Path, place: Place) -> None:
        if path in self._files:
            self._files.remove(path)
            try:
                with anyio.move_on_after(CLEANUP, shield=True), suppress(OSError):
                    await in_thread(os.unlink, path, abandon_on_cancel=True)
            finally:
                self.room.give(place)
                self.disk.freed()

    def _hand_over(self, path: Path, place: Place) -> None:
        self._files.discard(path)
        self.room.give(place)


class SpoolFile:
    """One file in the making. ``path`` does not exist yet: whoever writes it creates it, mode 0600."""

    def __init__(self, spool: Spool, path: Path, place: Place) -> None:
        self._spool = spool
        self._place = place
        self.path = path

    async def filled_by(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives, which writes the file; called again each time that the disk refused a write and took it after all (S11)."""
        while True:
            try:
                return await work()
            except DiskRefused as refused:
                lack = refused
            await self.write_again(lack.error, lack.again)

    async def write_again(self, refused: OSError, again: Callable[[], None]) -> None:
        """The disk refused a write: wait until calling ``again`` succeeds (S11). Raises as ``SpoolDisk.repeat``."""
        await self._spool.disk.repeat(refused, again, needed=self._place.size)

    def seal(self, size: int, digests: Mapping[str, str]) -> SpoolBody:
        """The file is complete: the body to be sent, which frees its file and its room when it is stored."""
        self._place.leaves = True
        self._spool.room.resize(self._place, size)
        return SpoolBody(self, FileBody(self.path, size, digests))

    async def discard(self) -> None:
        """Remove the file and free its room. Idempotent; not cut short by a cancellation."""
        await self._spool._remove(self.path, self._place)

    def keep(self) -> Path:
        """Hand the file over to the caller for good; its room is free."""
        self._spool._hand_over(self.path, self._place)
        return self.path


class SpoolBody:
    """A complete file of the spool, as a body."""

    def __init__(self, file: SpoolFile, body: FileBody) -> None:
        self._file = file
        self._body = body

    @property
    def local_path(self) -> Path | None:
        """The file, for a backend that takes files; until ``release``."""
        return self._body.path

    def take_over(self) -> Path:
        """The file, for a backend that makes it its own by a link: nobody writes to it any more, and ``release`` only removes this name."""
        return self._body.path

    @property
    def size(self) -> int:
        """Bytes."""
        return self._body.size

    @property
    def digests(self) -> Mapping[str, str]:
        """Of the whole file."""
        return self._body.digests

    def open(self, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Chunks from byte ``start``."""
        return self._body.open(start)

    async def digest(self, kind: str) -> str | None:
        """As the file's."""
        return await self._body.digest(kind)

    async def release(self) -> None:
        """The body is stored, or will never be: its file and its room are freed. Idempotent."""
        await self._file.discard()


def _make_folder(parent: Path | None) -> tuple[Path, Path, int]:
    """A new folder, 0700 whatever the umask, where its file system is mounted, and the bytes that are free there."""
    folder = Path(tempfile.mkdtemp("", "asyncdup-", parent))
    return folder, mount_point(folder), shutil.disk_usage(folder).free


def _remove_all(folder: Path, files: tuple[Path, ...]) -> None:
    for path in files:
        with suppress(OSError):
            os.unlink(path)
    with suppress(OSError):  # a file that was handed over is still in it
        folder.rmdir()
