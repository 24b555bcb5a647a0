"""The verbs: what one attempt of each does to a backend, and how its outcome is found out when the answer was lost (engine rule I2).

Every function runs inside an attempt, whose clocks it keeps: bytes as they move, and what is not the transport's fault.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO

from asyncdup.backends.base import UNKNOWN_SIZE, Backend, Body, ObjectInfo, SupportsPutIfAbsent, SupportsWaitIdle
from asyncdup.errors import IntegrityError, NotFound, PermanentError, Precondition, RetryableError, Unsupported
from asyncdup.threads import in_thread
from asyncdup.transfer.attempt import Attempt, MeteredBody, current_attempt
from asyncdup.transfer.retry import Done

WRITE = 1 << 20  # bytes collected before a thread writes them: a hop a chunk would cost more than the write
UNSEEN = 256 << 20  # bytes: what an opaque backend may be fetching when nobody knows the size
_WEAK = ("crc", "adler")  # checksums that find accidents but prove nothing about the whole object


def is_opaque(backend: Backend) -> bool:
    """Whether bytes move out of sight, as in the threads of a legacy backend, so that a stall cannot be told from slow work."""
    return isinstance(backend, SupportsWaitIdle)


async def put(backend: Backend, name: str, body: Body) -> ObjectInfo:
    """Store ``body``; the answer's size and digests must be the body's, else it is sent again (P5)."""
    attempt = current_attempt()
    info = await backend.put(name, _metered(backend, body, attempt))
    return _stored(info, body, attempt)


async def put_if_absent(backend: Backend, name: str, body: Body) -> ObjectInfo:
    """Store ``body`` unless ``name`` exists. A refusal of a repeated attempt may mean our own first one, so it is looked at."""
    if not isinstance(backend, SupportsPutIfAbsent):
        raise Unsupported(f"{backend.description} cannot store only if absent")
    attempt = current_attempt()
    try:
        info = await backend.put_if_absent(name, _metered(backend, body, attempt))
    except Precondition:
        done = await is_stored(backend, name, body, absent=False) if attempt.number > 1 else None
        if done is None:
            raise
        return done.value
    return _stored(info, body, attempt)


async def is_stored(backend: Backend, name: str, body: Body, *, absent: bool) -> Done[ObjectInfo] | None:
    """Whether an ambiguous put took effect: size and a strong digest match; or size matches, puts are atomic and the name was absent before."""
    try:
        info = await backend.stat(name)
    except (NotFound, Unsupported):
        return None
    if info.size != body.size:
        return None
    shared = [kind for kind in info.digests if kind in body.digests and not kind.startswith(_WEAK)]
    if any(info.digests[kind] != body.digests[kind] for kind in shared):
        return None
    return Done(info) if shared or (absent and backend.capabilities().atomic_put) else None


async def delete(backend: Backend, name: str) -> None:
    """Remove ``name``; that it is not there is success, since an earlier attempt may have removed it."""
    current_attempt().request_sent()
    try:
        await backend.delete(name)
    except NotFound:
        return


async def stat(backend: Backend, name: str) -> ObjectInfo:
    """What the backend knows of ``name``."""
    current_attempt().request_sent()
    return await backend.stat(name)


async def listing(backend: Backend, prefix: str) -> list[ObjectInfo]:
    """All objects whose name begins with ``prefix``."""
    attempt = current_attempt()
    attempt.request_sent()
    found: list[ObjectInfo] = []
    async with backend.list(prefix) as infos:
        async for info in infos:
            found.append(info)
            attempt.progress()
    return found


async def get_bytes(backend: Backend, name: str, max_size: int) -> bytes:
    """A small object whole. Raises PermanentError as soon as it turns out to be larger than ``max_size``."""
    attempt = current_attempt()
    attempt.request_sent(size=max_size if is_opaque(backend) else 0)
    data = bytearray()
    async with backend.get(name) as chunks:
        async for chunk in chunks:
            attempt.progress(len(chunk))
            data += chunk
            if len(data) > max_size:
                raise PermanentError(f"{name} is larger than {max_size} bytes, which is too much for what it should be")
    return bytes(data)


class Download:
    """An object on its way into a file. Lives across the attempts of one fetch, so that a later one can go on where an earlier one ended.

    It goes on only where the backend reads ranges and a digest of the whole will tell whether the pieces fit; else it starts over.
    """

    def __init__(self, backend: Backend, name: str, path: Path, *, size: int | None = None, digests: Mapping[str, str]) -> None:
        self._backend = backend
        self._name = name
        self._path = path
        self._size = size
        self._expected = {kind: digest for kind, digest in digests.items() if kind in hashlib.algorithms_available}
        self._resumes = backend.capabilities().ranged_get and bool(self._expected) and size is not None
        self._file: BinaryIO | None = None
        self._hashes: dict[str, hashlib._Hash] = {}
        self._written = 0

    async def attempt(self) -> None:
        """Fetch what is missing."""
        attempt = current_attempt()
        with attempt.own_wait():
            await in_thread(self._begin)
        if self._resumes and self._written == self._size:
            return  # only the end was lost; a range that starts there would be refused
        unseen = UNSEEN if self._size is None else self._size
        attempt.request_sent(size=unseen if is_opaque(self._backend) else 0)
        async with self._backend.get(self._name, start=self._written) as chunks:
            await self._receive(chunks, attempt)

    def check(self) -> int:
        """The size of the object. Raises IntegrityError unless size and digests are what was expected (O7)."""
        if self._size is not None and self._written != self._size:
            raise IntegrityError(f"{self._name} is {self._written} bytes, but {self._size} were expected")
        for kind, expected in self._expected.items():
            if (found := self._hashes[kind].hexdigest()) != expected.lower():
                raise IntegrityError(f"{self._name} has the {kind} digest {found}, but {expected} was expected")
        return self._written

    def restart(self) -> None:
        """Nothing of what was received is any good: the next attempt begins at byte 0."""
        self._hashes = {}

    async def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            await in_thread(file.close)

    async def _receive(self, chunks: AsyncIterator[bytes], attempt: Attempt) -> None:
        pieces: list[bytes] = []
        held = 0
        try:
            async for chunk in chunks:
                attempt.progress(len(chunk))
                pieces.append(chunk)
                held += len(chunk)
                if self._size is not None and self._written + held > self._size:
                    raise IntegrityError(f"{self._name} is larger than the {self._size} bytes that were expected")
                if held >= WRITE:
                    await self._flush(pieces, attempt)
                    held = 0
        except RetryableError:
            if self._resumes:
                await self._flush(pieces, attempt)
            raise
        await self._flush(pieces, attempt)

    async def _flush(self, pieces: list[bytes], attempt: Attempt) -> None:
        if not pieces:
            return
        with attempt.own_wait():
            await in_thread(self._write, tuple(pieces))
        if self._resumes:
            attempt.durable(sum(map(len, pieces)))
        pieces.clear()

    def _begin(self) -> None:
        """In a thread: the file at the byte to go on from."""
        if self._file is None:
            self._file = open(self._path, "xb", buffering=0, opener=_private)  # noqa: SIM115 - lives across attempts
        if not self._resumes or not self._hashes:
            self._file.seek(0)
            self._file.truncate()
            self._written = 0
            self._hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in self._expected}

    def _write(self, pieces: tuple[bytes, ...]) -> None:
        assert self._file is not None
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]
            for digest in self._hashes.values():
                digest.update(piece)
            self._written += len(piece)


def _metered(backend: Backend, body: Body, attempt: Attempt) -> MeteredBody:
    opaque = is_opaque(backend)
    if opaque:  # it may take the file whole, without asking for a chunk
        attempt.body_begun = True
        attempt.request_sent(size=body.size)
    return MeteredBody(body, attempt, opaque=opaque)


def _stored(info: ObjectInfo, body: Body, attempt: Attempt) -> ObjectInfo:
    attempt.progress(max(0, body.size - attempt.bytes))  # a backend need not ask for the end of the body
    if info.size not in (UNKNOWN_SIZE, body.size):
        raise RetryableError(f"{info.name} is {info.size} bytes at the target, but {body.size} were sent")
    for kind, digest in body.digests.items():
        if info.digests.get(kind, digest) != digest:
            raise RetryableError(f"{info.name} has another {kind} digest at the target than what was sent")
    return info


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
