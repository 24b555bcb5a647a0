"""An object that rests in a local file: read and checked where it is, as a download would be, and linked into the spool instead of copied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

from asyncdup.backends.base import SupportsLocalFiles
from asyncdup.backends.oserrors import os_errors
from asyncdup.threads import in_thread
from asyncdup.transfer.attempt import current_attempt
from asyncdup.transfer.download import check_object, known_digests

STEP = 4 << 20  # bytes a thread hop: half a megabyte is hashed in a millisecond, and a cancellation waits for the hop
_BUFFER = 1 << 18  # what is hashed is still in the processor's cache


class InPlace:
    """Has the face of a ``Download``. ``path`` becomes a symbolic link to the object's own file, which is for reading only."""

    def __init__(self, backend: SupportsLocalFiles, name: str, path: Path, *, size: int | None = None, digests: Mapping[str, str]) -> None:
        self._backend = backend
        self._name = name
        self._path = path
        self._size = size
        self._expected = known_digests(digests)
        self._hashes: dict[str, hashlib._Hash] = {}
        self._read = 0
        self._buffer = memoryview(bytearray(_BUFFER))

    async def attempt(self) -> None:
        """Read the object from its beginning."""
        attempt = current_attempt()
        with os_errors(f"read {self._name!r} in {self._backend.description}", absent=True):
            file = await in_thread(self._begin)
            try:
                while count := await in_thread(self._step, file):
                    attempt.progress(count)
            finally:
                file.close()

    def check(self) -> int:
        """As of a download."""
        return check_object(self._name, self._read, self._hashes, size=self._size, expected=self._expected)

    def restart(self) -> None:
        """Every attempt begins anew."""

    async def close(self) -> None:
        """Nothing is held between attempts."""

    def _begin(self) -> FileIO:
        target = self._backend.local_file(self._name)
        self._path.unlink(missing_ok=True)
        self._path.symlink_to(target)
        self._read = 0
        self._hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in self._expected}
        return FileIO(target, "rb")

    def _step(self, file: FileIO) -> int:
        """Hash the next bytes; how many there were."""
        before = self._read
        while self._read - before < STEP and (count := file.readinto(self._buffer)):
            self._read += count
            for digest in self._hashes.values():
                digest.update(self._buffer[:count])
        return self._read - before
