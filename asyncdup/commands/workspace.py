"""The private temporary folder of a run: spooled volumes, deltas. What killed runs left behind is swept by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "asyncdup-run-"


@contextmanager
def workspace(parent: Path | None) -> Iterator[Path]:
    """A folder 0700 below ``parent`` (default: the system's), gone afterwards. It is locked while it is in use, so a dead one is known by its lock."""
    base = parent or Path(tempfile.gettempdir())
    _sweep(base)
    path, lock = _create(base)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _create(base: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():  # else another run swept it between the two lines above
            return path, lock
        os.close(lock)


def _sweep(base: Path) -> None:
    for path in base.glob(PREFIX + "*"):
        with suppress(OSError):
            _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its run is alive
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
