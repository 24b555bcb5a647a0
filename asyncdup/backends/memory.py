"""``memory://name``: objects in the memory of this process, for tests and embedding. No thread, no clock, no disk."""

from __future__ import annotations

import builtins
import hashlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from anyio.lowlevel import checkpoint

from asyncdup.backends.base import Body, Capabilities, ObjectInfo, Part, PartLimits, Upload
from asyncdup.backends.bodies import CHUNK, BytesBody
from asyncdup.backends.names import check_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location
from asyncdup.errors import IntegrityError, NotFound, Precondition

_CHECKSUMS = ("sha256", "sha1")
_CAPABILITIES = Capabilities(
    atomic_put=True,
    put_if_absent=True,
    ranged_get=True,
    server_move=True,
    checksums=_CHECKSUMS,
    parts=PartLimits(least=1, most=5 << 30, number=10_000),
)
_HASHED_AT_ONCE = 1 << 16  # bytes between two turns of the loop: about 0.2 ms, and a thread would make the order of events a matter of luck


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object: what ``stat`` says of it, and its bytes."""

    info: ObjectInfo
    data: bytes


@dataclass(slots=True)
class StoredUpload:
    """An upload in parts: what ``list_uploads`` says of it, and its parts with their bytes, by number."""

    upload: Upload
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


Store = dict[str, StoredObject]
Uploads = dict[str, StoredUpload]  # by id

_stores: dict[str, tuple[Store, Uploads]] = {}
_upload_ids = itertools.count(1)


def from_url(location: Location, _: BackendOptions) -> MemoryBackend:
    """The factory of ``memory://``: every backend of one name shares one store, which lives as long as the process."""
    name = f"{location.host}/{location.path}".strip("/")
    store, uploads = _stores.setdefault(name, ({}, {}))
    return MemoryBackend(store, name=name, uploads=uploads)


class MemoryBackend:
    """Objects in ``store``, which may be shared, looked at and changed by the owner between calls.

    Args:
        store: None = one of our own.
        name: for ``description``.
        now: the wall clock that dates objects; None = they have no time.
        uploads: those in parts that were not ended; None = our own.
    """

    def __init__(
        self, store: Store | None = None, *, name: str = "", now: Callable[[], float] | None = None, uploads: Uploads | None = None
    ) -> None:
        # Changed only in ``_keep``, ``move`` and ``delete``, each in one step: a reader sees an object whole or not at all.
        self.store: Store = {} if store is None else store
        self.uploads: Uploads = {} if uploads is None else uploads
        self._name = name
        self._now = now

    @property
    def description(self) -> str:
        """The URL."""
        return f"memory://{self._name}"

    def capabilities(self) -> Capabilities:
        """Everything, and SHA-256 and SHA-1 of each object."""
        return _CAPABILITIES

    def supports_concurrency(self) -> bool:
        """True."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """In order of names, as the store was on entering."""
        await checkpoint()
        found = [stored.info for name, stored in sorted(self.store.items()) if name.startswith(prefix)]
        async with aclosing(_each(found)) as infos:
            yield infos

    async def stat(self, name: str) -> ObjectInfo:
        """With digests."""
        await checkpoint()
        return self._stored(name).info

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The object as it was on entering, whatever is put meanwhile."""
        await checkpoint()
        data = self._stored(name).data
        end = len(data) if length is None else min(len(data), start + length)
        async with aclosing(_slices(data, start, end)) as chunks:
            yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Visible once the whole body was read."""
        check_name(name)
        return self._keep(name, *await _read(name, body))

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """As ``put``; raises Precondition if the name exists when the body was read."""
        check_name(name)
        data, digests = await _read(name, body)
        if name in self.store:
            raise Precondition(f"{name!r} exists already in {self.description}")
        return self._keep(name, data, digests)

    async def move(self, source: str, target: str) -> None:
        """Atomic."""
        check_name(target)
        await checkpoint()
        stored = self._stored(source)
        del self.store[source]
        self._keep(target, stored.data, dict(stored.info.digests))

    async def delete(self, name: str) -> None:
        """Absent is success."""
        check_name(name)
        await checkpoint()
        self.store.pop(name, None)

    async def begin_parts(self, name: str, body: Body) -> str:
        """Nothing is visible before ``complete_parts``."""
        check_name(name)
        await checkpoint()
        upload = Upload(name, f"upload-{next(_upload_ids)}", self._now() if self._now else None)
        self.uploads[upload.id] = StoredUpload(upload)
        return upload.id

    async def put_part(self, name: str, upload: str, number: int, body: Body) -> Part:
        """``etag`` is the part's SHA-1."""
        self._upload(name, upload)
        data, digests = await _read(name, body)
        part = Part(number, len(data), digests["sha1"])
        self._upload(name, upload).parts[number] = part, data  # asked again: it may have been ended meanwhile
        return part

    async def complete_parts(self, name: str, upload: str, parts: Sequence[Part], body: Body) -> ObjectInfo:
        """Atomic. Raises IntegrityError if ``parts`` are not what is stored, or not as long as ``body``."""
        stored = self._upload(name, upload).parts
        if [part.number for part in parts] != sorted({part.number for part in parts}) or not all(
            part.number in stored and stored[part.number][0] == part for part in parts
        ):
            raise IntegrityError(f"the parts of {name!r} are not those that were put")
        whole = BytesBody(b"".join(stored[part.number][1] for part in parts))
        if whole.size != body.size:
            raise IntegrityError(f"the parts of {name!r} are {whole.size} bytes; their object has {body.size}")
        data, digests = await _read(name, whole)
        self._upload(name, upload)
        del self.uploads[upload]
        return self._keep(name, data, digests)

    async def abort_parts(self, name: str, upload: str) -> None:
        """An unknown one is success."""
        await checkpoint()
        self.uploads.pop(upload, None)

    async def list_uploads(self, prefix: str = "") -> builtins.list[Upload]:
        """In the order of their beginning."""
        await checkpoint()
        return [stored.upload for stored in self.uploads.values() if stored.upload.name.startswith(prefix)]

    async def list_parts(self, name: str, upload: str) -> builtins.list[Part]:
        """By number."""
        await checkpoint()
        return [part for _, (part, _) in sorted(self._upload(name, upload).parts.items())]

    async def aclose(self) -> None:
        """The store stays."""

    def _upload(self, name: str, upload: str) -> StoredUpload:
        stored = self.uploads.get(upload)
        if stored is None or stored.upload.name != name:
            raise NotFound(f"there is no upload {upload!r} of {name!r} in {self.description}")
        return stored

    def _stored(self, name: str) -> StoredObject:
        try:
            return self.store[check_name(name)]
        except KeyError:
            raise NotFound(f"{name!r} is not in {self.description}") from None

    def _keep(self, name: str, data: bytes, digests: dict[str, str]) -> ObjectInfo:
        info = ObjectInfo(name, len(data), self._now() if self._now else None, digests)
        self.store[name] = StoredObject(info, data)
        return info


async def _read(name: str, body: Body) -> tuple[bytes, dict[str, str]]:
    data = bytearray()
    hashes = [hashlib.new(algorithm, usedforsecurity=False) for algorithm in _CHECKSUMS]
    async with body.open() as chunks:
        async for chunk in chunks:
            data += chunk
            for at in range(0, len(chunk), _HASHED_AT_ONCE):
                for digest in hashes:
                    digest.update(chunk[at : at + _HASHED_AT_ONCE])
                await checkpoint()
    if len(data) != body.size:
        raise IntegrityError(f"the body of {name!r} has {len(data)} bytes; its size says {body.size}")
    return bytes(data), {digest.name: digest.hexdigest() for digest in hashes}


async def _each(infos: list[ObjectInfo]) -> AsyncGenerator[ObjectInfo, None]:
    for info in infos:
        yield info


async def _slices(data: bytes, start: int, end: int) -> AsyncGenerator[bytes, None]:
    for at in range(start, end, CHUNK):
        await checkpoint()
        yield data[at : min(end, at + CHUNK)]
