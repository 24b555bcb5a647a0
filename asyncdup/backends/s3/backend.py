"""The backend for ``s3://bucket/prefix``: objects under one prefix of a bucket, of Amazon's or of any server that speaks the same.

A put is one request, whole or not at all; large objects come from the engine in parts. What the server is told to check, it checks before it
stores: a digest that the body has already, else a CRC-32.
"""

from __future__ import annotations

import base64
import builtins
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import TypeVar

import aiohttp

from asyncdup.backends.base import Body, Capabilities, LinkSigns, ObjectInfo, Part, PartLimits, SupportsDigest, Upload
from asyncdup.backends.bodies import CHUNK, SlicedBody
from asyncdup.backends.checksums import crc32_of
from asyncdup.backends.names import check_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.s3.access import Access
from asyncdup.backends.s3.errors import Refusal, translate
from asyncdup.backends.s3.options import S3Options, read_options
from asyncdup.backends.s3.wire import Call, Spoiled, Wire
from asyncdup.backends.s3.xml import (
    BadAnswer,
    PartsPage,
    is_fault,
    read_fault,
    read_objects,
    read_parts,
    read_upload_id,
    read_uploads,
    write_complete,
)
from asyncdup.backends.urls import Location
from asyncdup.errors import BackendError, IntegrityError, NotFound, RetryableError, Unsupported
from asyncdup.threads import in_thread

T = TypeVar("T")

_LARGEST_PART = 5 << 30  # bytes; of a single put, too
_MOST_PARTS = 10_000
_HEAVY = 64 << 10  # bytes of XML that are read in a thread
_META = "x-amz-meta-asyncdup-"  # what we say of an object that was put in parts, of which the server knows only the parts' checksums
_CHECKSUMS = ("sha256", "sha1")


def from_url(location: Location, options: BackendOptions) -> S3Backend:
    """The factory for the registry. Connects at the first call.

    Raises:
        UsageError: the URL or the settings make no sense.
    """
    return S3Backend(read_options(location, options), options)


class S3Backend:
    """The objects of ``where.bucket`` whose keys are ``where.prefix`` and a name. Calls may run concurrently.

    Args:
        options: what every backend is given.
        now: the wall clock, which signatures are dated by.
    """

    def __init__(
        self,
        where: S3Options,
        options: BackendOptions | None = None,
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251 - the edge where the wall clock is handed in
    ) -> None:
        options = options or BackendOptions()
        self._where = where
        self._wire = Wire(Access(where), concurrency=options.concurrency, timeout=options.timeout, now=now, notify=options.notify)
        # CRC-32s (base64) of the parts that were put, by upload and number, until it is completed: at most 10,000 of some 100 bytes each.
        self._checksums: dict[str, dict[int, str]] = {}
        self._capabilities = Capabilities(
            atomic_put=True,
            put_if_absent=True,
            ranged_get=True,
            checksums=_CHECKSUMS,
            parts=PartLimits(where.part_size, _LARGEST_PART, _MOST_PARTS),
        )

    @property
    def description(self) -> str:
        """``s3://bucket/prefix``."""
        return self._where.description

    def __repr__(self) -> str:
        return f"S3Backend({self.description!r})"

    def capabilities(self) -> Capabilities:
        """``checksums``: those that the object was put with; ``parts``: at least as large as ``--s3-multipart-chunk-size``."""
        return self._capabilities

    def supports_concurrency(self) -> bool:
        """Always."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """Objects in the order of their names; what lies deeper, behind another ``/``, is not listed."""
        async with aclosing(self._listed(prefix)) as infos:
            yield infos

    async def stat(self, name: str) -> ObjectInfo:
        """Size, mtime, and the digest that the object was put with. Raises NotFound."""
        # Telling a checksum of an encrypted object needs the right to decrypt, which one who only stores may not have.
        headers = {} if self._where.encryption == "aws:kms" else {"x-amz-checksum-mode": "ENABLED"}
        async with self._wire.call(self._call("HEAD", name, headers=headers)) as answer:
            return _info(name, answer)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The bytes from ``start``, at most ``length``, in chunks of at most 1 MiB; NotFound on entering."""
        if length == 0:
            await self.stat(name)
            async with aclosing(_nothing()) as chunks:
                yield chunks
            return
        whole = start == 0 and length is None
        last = "" if length is None else start + length - 1
        call = self._call("GET", name, headers={} if whole else {"range": f"bytes={start}-{last}"}, accepted=(200, 206, 416))
        async with self._wire.call(call) as answer:
            if answer.status == 200 and not whole:
                raise Unsupported(f"{call.doing}: the server gives no part of an object")
            # From the end on there is nothing, which the server calls an error.
            async with aclosing(_nothing() if answer.status == 416 else _chunks(answer, call)) as chunks:
                yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body`` in one request. The server has checked its length and its digest, or does not answer with success.

        Raises:
            RetryableError: ``ambiguous`` if the connection was lost after the body began.
            IntegrityError: the body gave fewer or more bytes than its size.
        """
        return await self._put(name, body, {})

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """As ``put``; raises Precondition if the name exists."""
        return await self._put(name, body, {"if-none-match": "*"})

    async def delete(self, name: str) -> None:
        """Remove it; absent is success."""
        with suppress(NotFound):
            await self._wire.document(self._call("DELETE", name))

    async def begin_parts(self, name: str, body: Body) -> str:
        """A new upload, with CRC-32s of its parts; the digests of the whole go with the object as metadata."""
        headers = self._where.stored_as(name) | {"x-amz-checksum-algorithm": "CRC32"}
        headers |= {_META + kind: digest for kind, digest in body.digests.items() if kind in _CHECKSUMS}
        call = self._call("POST", name, query=(("uploads", ""),), headers=headers)
        return await self._read(call, read_upload_id)

    async def put_part(self, name: str, upload: str, number: int, body: Body) -> Part:
        """Store one part, which the server checks against its CRC-32."""
        crc32 = base64.b64encode(bytes.fromhex(await _crc32(body))).decode()
        query = ("partNumber", str(number)), ("uploadId", upload)
        call = self._call("PUT", name, query=query, headers={"x-amz-checksum-crc32": crc32}, body=body)
        async with self._wire.call(call) as answer:
            await self._wire.read(answer, call)
            self._checksums.setdefault(upload, {})[number] = crc32
            return Part(number, body.size, answer.headers.get("ETag", ""))

    async def complete_parts(self, name: str, upload: str, parts: Sequence[Part], body: Body) -> ObjectInfo:
        """Make the object, then ask the server what it has. An error may come in an answer of status 200.

        Raises:
            IntegrityError: the parts are not as long as the body.
        """
        if sum(part.size for part in parts) != body.size:
            raise IntegrityError(
                f"the parts of {name} at {self.description} are {sum(part.size for part in parts)} bytes and not {body.size}"
            )
        call = self._call(
            "POST", name, query=(("uploadId", upload),), body=write_complete(parts, await self._checksums_of(name, upload, parts, body))
        )
        answer = await self._wire.document(call)
        if is_fault(answer):
            raise Refusal(call.doing, 200, read_fault(answer)).error()
        self._checksums.pop(upload, None)
        try:
            return await self.stat(name)
        except RetryableError as error:
            error.ambiguous = True
            raise

    async def abort_parts(self, name: str, upload: str) -> None:
        """Forget the upload; an unknown one is success."""
        self._checksums.pop(upload, None)
        with suppress(NotFound):
            await self._wire.document(self._call("DELETE", name, query=(("uploadId", upload),)))

    async def list_uploads(self, prefix: str = "") -> builtins.list[Upload]:
        """Those of names that begin with ``prefix``."""
        found: list[Upload] = []
        marker: tuple[str, str] | None = ("", "")
        while marker is not None:
            query = [("uploads", ""), ("prefix", self._where.prefix + prefix), ("delimiter", "/"), ("encoding-type", "url")]
            query += [(key, value) for key, value in zip(("key-marker", "upload-id-marker"), marker, strict=True) if value]
            page = await self._read(self._bucket_call(tuple(query)), read_uploads)
            found += [upload._replace(name=name) for upload in page.uploads if (name := self._name(upload.name)) is not None]
            marker = page.next
        return found

    async def list_parts(self, name: str, upload: str) -> builtins.list[Part]:
        """What is stored of an upload, by number. Raises NotFound for an unknown one."""
        return sorted(part for page in await self._pages_of_parts(name, upload) for part in page.parts)

    def link_signs(self) -> Sequence[LinkSigns]:
        """As the protocol says."""
        return self._wire.signs()

    def drop_connections(self) -> None:
        """As the protocol says."""
        self._wire.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    def _call(
        self,
        method: str,
        name: str,
        *,
        query: tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        accepted: tuple[int, ...] = (200, 204, 206),
    ) -> Call:
        key = self._where.prefix + check_name(name)
        doing = f"{method} {name} at {self.description}"
        return Call(method=method, doing=doing, key=key, query=query, headers=headers or {}, body=body, accepted=accepted)

    def _bucket_call(self, query: tuple[tuple[str, str], ...]) -> Call:
        return Call(method="GET", doing=f"list {self.description}", query=query)

    async def _put(self, name: str, body: Body, condition: Mapping[str, str]) -> ObjectInfo:
        said = {_META + kind: digest for kind in _CHECKSUMS if (digest := body.digests.get(kind))}  # for servers that tell no checksum (I2)
        headers = {**self._where.stored_as(name), **said, **await _checksum(body), **condition}
        call = self._call("PUT", name, headers=headers, body=body)
        try:
            async with self._wire.call(call) as answer:
                await self._wire.read(answer, call)
                return ObjectInfo(name, body.size, None, _digests(answer))
        except Spoiled:
            # It has the digest that it was put with, by which a later look (I2) would take it for what was sent.
            with suppress(BackendError):
                await self.delete(name)
            raise

    async def _pages_of_parts(self, name: str, upload: str) -> builtins.list[PartsPage]:
        pages: list[PartsPage] = []
        marker: str | None = ""
        while marker is not None:
            query = (("uploadId", upload), *([("part-number-marker", marker)] if marker else []))
            pages.append(await self._read(self._call("GET", name, query=query), read_parts))
            marker = pages[-1].next
        return pages

    async def _checksums_of(self, name: str, upload: str, parts: Sequence[Part], body: Body) -> Mapping[int, str]:
        """CRC-32s of all parts: of those that an earlier process has put from the server, and from ``body`` if it does not tell (SeaweedFS)."""
        known = dict(self._checksums.get(upload, {}))
        if any(part.number not in known for part in parts):
            with suppress(Unsupported):
                for page in await self._pages_of_parts(name, upload):
                    known = page.checksums | known
        start = 0
        for part in parts:
            if part.number not in known:
                known[part.number] = _base64(await _crc32(SlicedBody(body, start, part.size)))
            start += part.size
        return known

    async def _read(self, call: Call, read: Callable[[bytes], T]) -> T:
        data = await self._wire.document(call)
        try:
            return await in_thread(read, data) if len(data) > _HEAVY else read(data)
        except BadAnswer as exc:
            raise RetryableError(f"{call.doing}: the server's answer makes no sense: {exc}") from exc

    async def _listed(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        asked = ("list-type", "2"), ("prefix", self._where.prefix + prefix), ("delimiter", "/"), ("encoding-type", "url")
        token: str | None = ""
        while token is not None:
            page = await self._read(self._bucket_call((*asked, ("continuation-token", token)) if token else asked), read_objects)
            for info in page.objects:
                if (name := self._name(info.name)) is not None:
                    yield ObjectInfo(name, info.size, info.mtime)
            if page.next == token:
                raise RetryableError(f"list {self.description}: the server gives the same page again")
            token = page.next

    def _name(self, key: str) -> str | None:
        """The name of the object ``key``; None if it is none of ours, as the marker of a folder is (P16)."""
        name = key.removeprefix(self._where.prefix)
        return name if name and key.startswith(self._where.prefix) and "/" not in name and name not in (".", "..") else None


async def _chunks(answer: aiohttp.ClientResponse, call: Call) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            chunk = await answer.content.readany()
        except (aiohttp.ClientError, OSError, EOFError) as exc:
            raise translate(exc, call.doing, begun=False) from exc
        if not chunk:
            return
        for at in range(0, len(chunk), CHUNK):
            yield chunk[at : at + CHUNK] if len(chunk) > CHUNK else chunk


async def _nothing() -> AsyncGenerator[bytes, None]:
    none: tuple[bytes, ...] = ()
    for chunk in none:
        yield chunk


async def _checksum(body: Body) -> dict[str, str]:
    """The header by which the server checks ``body``: a digest that it has, so that nothing is read twice, else a CRC-32."""
    for kind in _CHECKSUMS:
        if digest := body.digests.get(kind):
            return {f"x-amz-checksum-{kind}": _base64(digest)}
    crc32 = await body.digest("crc32") if isinstance(body, SupportsDigest) else None
    return {"x-amz-checksum-crc32": _base64(crc32)} if crc32 else {}


async def _crc32(body: Body) -> str:
    """Of a part, which has no digest; its bytes are read for it, from the page cache as a rule. In hex."""
    crc32 = await body.digest("crc32") if isinstance(body, SupportsDigest) else None
    return crc32 or await crc32_of(body)


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _digests(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """Digests of the whole object that the server tells, in hex."""
    found = {}
    for kind in _CHECKSUMS:
        told = answer.headers.get(f"x-amz-checksum-{kind}", "")
        with suppress(ValueError):  # of an object in parts it is a checksum of checksums, "…-3"
            if told and "-" not in told:
                found[kind] = base64.b64decode(told, validate=True).hex()
        said = answer.headers.get(_META + kind)
        if said and kind not in found:
            found[kind] = said
    return found


def _info(name: str, answer: aiohttp.ClientResponse) -> ObjectInfo:
    try:
        size = int(answer.headers.get("Content-Length", ""))
    except ValueError:
        raise RetryableError(f"{name}: the server does not say how large it is") from None
    mtime = None
    with suppress(TypeError, ValueError):
        mtime = parsedate_to_datetime(answer.headers.get("Last-Modified", "")).timestamp()
    return ObjectInfo(name, size, mtime, _digests(answer))
