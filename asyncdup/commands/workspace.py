"""The private temporary folder of a run: spooled volumes, deltas. What killed runs left behind is swept by the next one, but for sealed volumes
that a journal speaks of: the run that goes on from that journal sends them (X5).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asyncdup.archive.checkpoint import PREFIX as JOURNALS
from asyncdup.errors import AsyncdupError

PREFIX = "asyncdup-run-"
OWNER = "archive-folder"  # a file that holds the path of the archive folder, whose journals may speak of what is in here


@contextmanager
def workspace(parent: Path | None, owner: Path | None = None) -> Iterator[Path]:
    """A folder 0700 below ``parent`` (default: the system's), gone afterwards. It is locked while it is in use, so a dead one is known by its lock.

    ``owner``: the archive folder of a run that makes volumes.
    """
    base = parent or Path(tempfile.gettempdir())
    for path in dead_folders(base):
        if not _is_spoken_of(path):
            with suppress(OSError):
                _remove_if_dead(path)
    path, lock = _create(base)
    try:
        if owner is not None:
            (path / OWNER).write_bytes(os.fsencode(owner.absolute()))
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


class Inherited:
    """Folders of killed runs, locked by this one. What is ``claimed`` goes at the end, whatever became of its volumes meanwhile."""

    def __init__(self) -> None:
        self._locks: dict[Path, int] = {}
        self._claimed: set[Path] = set()

    def take(self, folder: Path) -> bool:
        """Whether ``folder`` is a dead run's of ours; then no other run touches it."""
        if folder not in self._locks:
            with suppress(OSError):
                if folder.name.startswith(PREFIX):
                    self._locks[folder] = _lock_dead(folder)
        return folder in self._locks

    def claim(self, folders: Iterable[Path], keep: Collection[Path]) -> None:
        """The run goes on with the files ``keep``: all else in ``folders`` goes now. Journals are as they shall be by then."""
        for folder in filter(self.take, folders):
            kept = {path for path in keep if path.is_relative_to(folder)}
            for path in folder.rglob("*"):
                if path not in kept and path.name != OWNER and not path.is_dir():
                    path.unlink(missing_ok=True)
            if kept:
                self._claimed.add(folder)
            else:
                self._remove(folder)

    def close(self) -> None:
        """Remove what was claimed; leave the rest as it was. Idempotent."""
        for folder in self._claimed & self._locks.keys():
            self._remove(folder)
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(self._locks.pop(folder))


def dead_folders(base: Path) -> list[Path]:
    """Those of runs of this user, that were killed, below ``base``."""
    dead = []
    for path in base.glob(PREFIX + "*"):
        with suppress(OSError):  # its run is alive, or it is another user's
            os.close(_lock_dead(path))
            dead.append(path)
    return dead


def is_of(folder: Path, archive: Path) -> bool:
    """Whether ``folder`` was that of a run of the archive folder ``archive``, or of a run that made no volumes."""
    owner = _owner(folder)
    return owner is None or owner == archive.absolute()


def _owner(folder: Path) -> Path | None:
    try:
        return Path(os.fsdecode((folder / OWNER).read_bytes()))
    except OSError:
        return None


def _is_spoken_of(folder: Path) -> bool:
    """Whether a journal of the archive that ``folder`` belongs to names it. Its name is random, so that nothing else does."""
    if (owner := _owner(folder)) is None:
        return False
    try:
        journals = [path.read_bytes() for path in owner.glob(JOURNALS + "*") if "." not in path.name]
    except OSError:
        return True  # nobody may know what it is good for
    return any(folder.name.encode() in journal.rpartition(b"\n")[0] for journal in journals)  # a torn line speaks of nothing


def _create(base: Path) -> tuple[Path, int]:
    while True:
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            hint = "make the folder, or name another one: --tempdir, or TMPDIR"
            raise AsyncdupError(f"no temporary files can be made in {base}: {error.strerror}", hint=hint) from error
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another run swept it, since it was not locked yet
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():  # else it was swept after it was opened
            return path, lock
        os.close(lock)


def _remove_if_dead(path: Path) -> None:
    lock = _lock_dead(path)
    try:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def _lock_dead(path: Path) -> int:
    """Its lock. Raises OSError: its run is alive, or it is not this user's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{path} is another user's")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its run is alive
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
