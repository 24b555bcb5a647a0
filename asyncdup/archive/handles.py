"""Folders opened one below the other: names are looked up in the handle of the folder they were listed in, never through a symlink.

Used by the walk and by a restore. Neither trusts a path twice: what was a folder a moment ago may be a link now (P7, P13).
"""

from __future__ import annotations

import errno
import os
from typing import Final

MAX_OPEN: Final = 96  # handles of one descent; the usual limit of a process is 1024 and several descents may run at once

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(name: bytes, parent: int) -> int:
    """A handle of the folder ``name`` in the folder ``parent``.

    Raises:
        OSError: it is a symlink, no folder, or may not be read.
    """
    return os.open(name, FOLDER, dir_fd=parent)


class Descent:
    """The handles from a root down to the present folder. The lowest ``most`` are open; those above are opened again on the way up."""

    def __init__(self, most: int | None = None) -> None:
        self._most = MAX_OPEN if most is None else most
        self._handles: list[int] = []  # -1: closed
        self._known: list[tuple[int, int]] = []  # device and inode of the closed ones: a prefix of _handles

    def down(self, handle: int) -> None:
        """Go on in the folder ``handle``: the root, then always one in the present one. Takes the handle over."""
        self._handles.append(handle)
        first = len(self._known)
        if len(self._handles) - first > self._most:
            status = os.fstat(self._handles[first])
            self._known.append((status.st_dev, status.st_ino))
            os.close(self._handles[first])
            self._handles[first] = -1

    def up(self) -> int:
        """Leave the present folder; the handle of the one above, or -1 above the root.

        Raises:
            OSError: the folder above is not where it was. The descent is one level higher all the same, with a handle that opens nothing.
        """
        left = self._handles.pop()
        try:
            if self._handles and self._handles[-1] < 0:
                self._handles[-1] = self._reopen(left, self._known.pop())
        finally:
            if left >= 0:
                os.close(left)
        return self._handles[-1] if self._handles else -1

    def close(self) -> None:
        """Close all handles. Idempotent."""
        while self._handles:
            handle = self._handles.pop()
            if handle >= 0:
                os.close(handle)

    @staticmethod
    def _reopen(below: int, known: tuple[int, int]) -> int:
        handle = open_folder(b"..", below)
        status = os.fstat(handle)
        if (status.st_dev, status.st_ino) != known:
            os.close(handle)
            raise OSError(errno.ESTALE, "the folder above was moved")
        return handle
