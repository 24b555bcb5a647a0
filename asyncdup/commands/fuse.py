"""The bridge to libfuse, by the package mfusepy. Importing it loads the library: ModuleNotFoundError without the package, OSError without libfuse.

FUSE's one thread asks ``Files``, whose OSErrors mfusepy turns into the numbers that the kernel wants.
"""

from __future__ import annotations

from collections.abc import Iterable

import mfusepy

from asyncdup.commands.mount_files import Files
from asyncdup.errors import AsyncdupError

_FOREVER = 10**6  # seconds for which the kernel may remember names and attributes: nothing changes


def serve(files: Files, place: str) -> None:
    """Mount ``files`` on the folder ``place``; returns when that has been unmounted. Raises AsyncdupError if FUSE does not let us."""
    remembered = dict.fromkeys(("entry_timeout", "attr_timeout", "ac_attr_timeout"), _FOREVER)
    try:
        # One thread: ``Files`` needs no lock. It is the caller's, so errors of ``Files`` have an event loop to go to.
        mfusepy.FUSE(
            _Operations(files), place, foreground=True, nothreads=True, ro=True, fsname="asyncdup", kernel_cache=True, **remembered
        )
    except RuntimeError:
        raise AsyncdupError(f"FUSE did not mount on {place}", hint="its own message above says why; fusermount3 must be there") from None


class _Operations:
    """What libfuse may ask, under its names."""

    use_ns = True

    def __init__(self, files: Files) -> None:
        self._files = files

    def init(self, path: str) -> None:
        self._files.ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        return self._files.attributes(_bytes(path))

    def readdir(self, path: str, fh: int) -> Iterable[tuple[str, dict[str, int], int]]:
        return [(_text(name), {"st_mode": mode}, 0) for name, mode in self._files.names(_bytes(path))]

    def readlink(self, path: str) -> str:
        return _text(self._files.link(_bytes(path)))

    def open(self, path: str, flags: int) -> int:
        return self._files.open(_bytes(path))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._files.read(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        self._files.release(fh)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        if self._files.ending:
            mfusepy.fuse_exit()
        return {"f_bsize": 512, "f_frsize": 512, "f_namemax": 255}


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")  # as mfusepy made it of bytes, whatever the locale


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
