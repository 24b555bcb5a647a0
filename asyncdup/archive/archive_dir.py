"""The archive folder: local copies of manifests and signature archives, shared with stock duplicity, under its lock (format, sections 12 and 15).

Everything here blocks: call it in a thread. Every file appears whole under its name. The target is the authority; this is a cache.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from asyncdup.archive.local_disk import writing_in
from asyncdup.errors import LockedError

TEMPORARY = ".asyncdup-"
OPTION = "--archive-dir"

# POSIX record locks do not exclude two holders within one process, so this does (P10).
_held: set[tuple[int, int]] = set()
_held_guard = threading.Lock()


def default_base(environ: Mapping[str, str]) -> Path:
    """Where stock duplicity keeps it: ``$XDG_CACHE_HOME/duplicity`` or ``~/.cache/duplicity``."""
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(cache) / "duplicity"


def folder_name(url: str) -> str:
    """The folder of a target without ``--name``: the MD5 of the URL as it was given."""
    return hashlib.md5(url.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


class ArchiveDir:
    """One target's folder. ``lock`` before anything else that writes."""

    def __init__(self, base: Path, name: str) -> None:
        self.path = base / name
        self._lock: int | None = None
        self._identity = (0, 0)

    def create(self) -> None:
        """The folder, readable by its owner only (P15)."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> None:
        """Exclusive for the whole run, as stock takes it. Raises LockedError at once if another run holds it."""
        self.create()
        with _held_guard:
            while self._lock is None:
                self._lock = self._take(self.path / "lockfile")

    def unlock(self) -> None:
        """Idempotent."""
        if self._lock is not None:
            self._release(self._lock)
            self._lock = None

    def names(self) -> list[str]:
        """Names of the files in it; none if there is no folder yet."""
        try:
            return [entry.name for entry in os.scandir(self.path) if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []

    def has(self, name: str) -> bool:
        """Whether a file of that name is there."""
        return (self.path / name).is_file()

    def temporary(self, name: str) -> Path:
        """Where to build a file before ``adopt`` gives it its name."""
        return self.path / f"{TEMPORARY}{os.getpid()}-{name}"

    def write(self, name: str, data: bytes) -> None:
        """Store ``data`` under ``name``, whole or not at all, durably."""
        temporary = self.temporary(name)
        with (
            writing_in(self.path, OPTION),
            open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file,
        ):
            file.write(data)
        self.adopt(temporary, name)

    def adopt(self, temporary: Path, name: str) -> None:
        """Give a finished file its name, durably."""
        with writing_in(self.path, OPTION):
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.chmod(temporary, 0o600)
            os.rename(temporary, self.path / name)
            self._sync()

    def read(self, name: str) -> bytes:
        """The content of a cached file. Raises FileNotFoundError."""
        return (self.path / name).read_bytes()

    def remove(self, names: Iterable[str]) -> None:
        """Absent names are fine."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove temporary files that dead runs left. Only under the lock."""
        self.remove(name for name in self.names() if name.startswith(TEMPORARY))

    def _take(self, path: Path) -> int | None:
        """The locked descriptor, or None if the file was deleted under us (stock deletes it when it ends): then look again."""
        # Looked at before the file is opened: closing any descriptor of it would drop the lock of the holder in this process.
        if _identity(path) in _held:
            raise _taken(self.path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise _taken(self.path) from None
            raise
        stat = os.fstat(descriptor)
        self._identity = (stat.st_dev, stat.st_ino)
        if _identity(path) != self._identity:
            os.close(descriptor)
            return None
        _held.add(self._identity)
        return descriptor

    def _release(self, descriptor: int) -> None:
        with _held_guard:
            _held.discard(self._identity)
            os.close(descriptor)

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _taken(path: Path) -> LockedError:
    return LockedError(
        f"another run holds the archive folder {path}",
        hint="wait for it to end, or look for it with: fuser " + str(path / "lockfile"),
    )
