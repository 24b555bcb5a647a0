"""An object on its way into a file, written in threads, hashed as it is written, and checked before anybody sees it (engine rule O7)."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path

import anyio

from asyncdup.backends.base import Backend
from asyncdup.errors import IntegrityError, RetryableError
from asyncdup.threads import in_thread
from asyncdup.transfer.attempt import Attempt, current_attempt
from asyncdup.transfer.limits import CLEANUP, DiskRefused
from asyncdup.transfer.verbs import UNSEEN, is_opaque

WRITE = 1 << 20  # bytes collected before a thread writes them: a hop a chunk would cost more than the write


class Download:
    """Lives across the attempts of one fetch, so that a later one can go on where an earlier one ended.

    It goes on only where the backend reads ranges and a digest of the whole will tell whether the pieces fit; else it starts over.

    ``at``: only the ``size`` bytes from there on are fetched, to the same place of the file; whoever fetches the rest checks the whole.
    """

    def __init__(
        self, backend: Backend, name: str, path: Path, *, size: int | None = None, digests: Mapping[str, str], at: int | None = None
    ) -> None:
        self._backend = backend
        self._name = name
        self._path = path
        self._size = size
        self._expected = known_digests(digests)
        self._resumes = backend.capabilities().ranged_get and size is not None and (bool(self._expected) or at is not None)
        self._piece = at is not None
        self._at = at or 0
        # Changed in threads, one at a time, and looked at between them.
        self._file: FileIO | None = None
        self._hashes: dict[str, hashlib._Hash] = {}
        self._written: int | None = None  # bytes that are in the file and in the hashes; None: it is to begin anew

    async def attempt(self) -> None:
        """Fetch what is missing."""
        attempt = current_attempt()
        if not self._resumes:
            self._written = None
        if self._written is not None and self._written == self._size:
            return  # only the end was lost; a range that starts there would be refused
        unseen = UNSEEN if self._size is None else self._size
        attempt.request_sent(size=unseen if is_opaque(self._backend) else 0)
        done = self._written or 0
        length = self._size - done if self._piece and self._size is not None else None
        async with self._backend.get(self._name, start=self._at + done, length=length) as chunks:
            await self._receive(chunks, attempt)

    def check(self) -> int:
        """The size of the object. Raises IntegrityError unless size and digests are what was expected."""
        what = f"{self._name} from byte {self._at} on" if self._piece else self._name
        return check_object(what, self._written or 0, self._hashes, size=self._size, expected=self._expected)

    def restart(self) -> None:
        """Nothing of what was received is any good: the next attempt begins at byte 0."""
        self._written = None

    async def close(self) -> None:
        """Close the file; not cut short by a cancellation."""
        file, self._file = self._file, None
        if file is not None and not file.closed:
            with anyio.move_on_after(CLEANUP, shield=True):
                await in_thread(file.close, abandon_on_cancel=True)

    async def _receive(self, chunks: AsyncIterator[bytes], attempt: Attempt) -> None:
        pieces: list[bytes] = []
        held = 0  # bytes in pieces
        try:
            async for chunk in chunks:
                attempt.progress(len(chunk))
                await attempt.move("down", len(chunk))
                pieces.append(chunk)
                held += len(chunk)
                if self._size is not None and (self._written or 0) + held > self._size:
                    raise IntegrityError(f"{self._name} is larger than the {self._size} bytes that were expected")
                if held >= WRITE:
                    await self._flush(pieces, attempt)
                    held = 0
        except RetryableError:
            if self._resumes and pieces:
                await self._flush(pieces, attempt)
            raise
        await self._flush(pieces, attempt, last=True)

    async def _flush(self, pieces: list[bytes], attempt: Attempt, *, last: bool = False) -> None:
        left = deque(pieces)
        with attempt.own_wait():
            try:
                await in_thread(self._write, left, last)
            except OSError as error:
                raise DiskRefused(error, partial(self._write, left)) from error
        if self._resumes and pieces:
            attempt.durable(sum(map(len, pieces)))
        pieces.clear()

    def _write(self, pieces: deque[bytes], last: bool = False) -> None:
        """In a thread: one hop for all there is to do. After an OSError it may be called again with what is left of ``pieces``."""
        try:
            file = self._opened()
            while pieces:
                view = memoryview(pieces[0])
                while view:
                    view = view[file.write(view) :]
                for digest in self._hashes.values():
                    digest.update(pieces[0])
                self._written = (self._written or 0) + len(pieces.popleft())
            if last:
                file.close()
        except OSError:
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()  # it is opened again at the end of what was written whole
            raise

    def _opened(self) -> FileIO:
        """The file, at the byte to go on from."""
        if self._file is None or self._file.closed:
            self._file = FileIO(self._path, "r+", opener=_private)
            self._file.seek(self._at + (self._written or 0))
        if self._written is None:
            self._file.seek(self._at)
            if not self._piece:
                self._file.truncate()
            self._written = 0
            self._hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in self._expected}
        return self._file


def known_digests(digests: Mapping[str, str]) -> dict[str, str]:
    """Those that can be checked here."""
    return {kind: digest.lower() for kind, digest in digests.items() if kind in hashlib.algorithms_available}


def check_object(name: str, read: int, hashes: Mapping[str, hashlib._Hash], *, size: int | None, expected: Mapping[str, str]) -> int:
    """``read``, the size of the object. Raises IntegrityError unless it and the digests are what was expected."""
    if size is not None and read != size:
        raise IntegrityError(f"{name} is {read} bytes, but {size} were expected")
    for kind, digest in expected.items():
        if (found := hashes[kind].hexdigest()) != digest:
            raise IntegrityError(f"{name} has the {kind} digest {found}, but {digest} was expected")
    return read


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
