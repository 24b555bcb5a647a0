"""What a backend is: the protocol that every place for objects is written against, and the records it speaks in. No behaviour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

UNKNOWN_SIZE = -1  # of an object in a listing, where a legacy backend cannot tell; ``stat`` always tells


class PartLimits(NamedTuple):
    """What an upload in parts keeps to: ``least`` and ``most`` bytes of a part (the last may be smaller), and ``number`` of parts at most."""

    least: int
    most: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do (engine rule Q1). An ability that is not named is absent.

    Attributes:
        max_concurrency: calls that may usefully run at once; None = no limit known.
        atomic_put: an object appears whole under its name or not at all.
        ranged_get: ``get`` honours ``start`` and ``length`` without reading the rest.
        stripes: one ``get`` moves over several connections by itself, so that asking for ranges side by side gains nothing.
        checksums: names of digests that ``stat`` or ``put`` report, strongest first (``hashlib`` names).
        read_after_write: a finished put is seen by the next list, stat and get.
        max_name: longest object name in bytes; None = unknown.
        put_if_absent, server_move: the optional methods of the same name exist (``put_if_absent``, ``move``).
        parts: an object may be put in parts, within these limits (``SupportsParts``).
    """

    max_concurrency: int | None = None
    atomic_put: bool = False
    put_if_absent: bool = False
    ranged_get: bool = False
    stripes: bool = False
    server_move: bool = False
    checksums: tuple[str, ...] = ()
    read_after_write: bool = True
    max_name: int | None = None
    parts: PartLimits | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. ``size`` in bytes, or ``UNKNOWN_SIZE``; ``mtime`` in seconds since the epoch; ``digests``: ``hashlib`` name to hex digest."""

    name: str
    size: int
    mtime: float | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


class Body(Protocol):
    """What a put sends. It opens again for each attempt, from any offset. ``digests`` maps hashlib names to hex digests of the whole."""

    @property
    def size(self) -> int: ...
    @property
    def digests(self) -> Mapping[str, str]: ...
    def open(self, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Chunks (of at most 1 MiB) from byte ``start`` to the end, in order."""
        ...


@runtime_checkable
class SupportsTakeOver(Protocol):
    """A body in a local file that is given up: a backend on the same file system may take the file itself instead of a copy."""

    def take_over(self) -> Path | None:
        """The file to be linked; nobody writes to it any more. None: there is none, so ``open`` is the way, as it is if the link fails."""
        ...


@runtime_checkable
class SupportsDigest(Protocol):
    """A body whose bytes can be looked at without being seen to move."""

    async def digest(self, kind: str) -> str | None:
        """The ``kind`` of checksum (``crc32``) of all its bytes, in hex; None: it cannot tell, so ``open`` is the way."""
        ...


class Backend(Protocol):
    """One place for objects: a flat namespace of names without ``/``, each with bytes.

    Names are text; bytes of a name that are not UTF-8 are lone surrogates (``os.fsdecode``). Every method may be called again after it
    failed in any way. Each raises RetryableError, OperatorError or PermanentError classes only, with the library's error as ``__cause__``.
    ``description`` names the place for people and logs and never holds a secret.
    """

    @property
    def description(self) -> str: ...

    def capabilities(self) -> Capabilities:
        """Known without the network, which it never touches; what turns out to be absent is gone from it from then on (Q2)."""
        ...

    def supports_concurrency(self) -> bool:
        """Whether methods may run concurrently. If False the engine makes one call at a time, whatever the verb."""
        ...

    def list(self, prefix: str = "") -> AbstractAsyncContextManager[AsyncIterator[ObjectInfo]]:
        """Objects whose name begins with ``prefix``, each once, in any order. Temporary names (``.asyncdup-…``) are included.

        A location that does not exist yet lists nothing. Raises OperatorError if it may not be read.
        """
        ...

    async def stat(self, name: str) -> ObjectInfo:
        """Raises NotFound."""
        ...

    def get(self, name: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of ``name`` from ``start``, at most ``length`` of them. Raises NotFound on entering or on the first chunk."""
        ...

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body`` under ``name``, replacing what was there; durable when it returns. All or nothing where ``atomic_put``.

        Creates the location (folder) if it does not exist. The returned size is the server's count, not ours, wherever it can be had.
        Cancelled or failed, it leaves at most a temporary name (``.asyncdup-…``).
        """
        ...

    async def delete(self, name: str) -> None:
        """An absent name is success: it may be a repeated attempt."""
        ...

    async def aclose(self) -> None:
        """Release connections. Idempotent; the backend may not be used afterwards."""
        ...


@runtime_checkable
class SupportsPutIfAbsent(Protocol):
    """Present when ``capabilities().put_if_absent``."""

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """As ``put``, but raises Precondition if ``name`` exists."""
        ...


@runtime_checkable
class SupportsMove(Protocol):
    """Present when ``capabilities().server_move``."""

    async def move(self, source: str, target: str) -> None:
        """Rename, replacing ``target``. Raises NotFound."""
        ...


class Upload(NamedTuple):
    """An upload in parts that was begun and not ended. ``started``: seconds since the epoch."""

    name: str
    id: str
    started: float | None = None


class Part(NamedTuple):
    """One stored part: its number from 1, its size in bytes, and what the server calls its contents."""

    number: int
    size: int
    etag: str


@runtime_checkable
class SupportsParts(Protocol):
    """Present when ``capabilities().parts``. The object appears, whole, when ``complete_parts`` has succeeded."""

    async def begin_parts(self, name: str, body: Body) -> str:
        """The id of a new upload. ``body`` is the whole object, of which only size and digests are looked at."""
        ...

    async def put_part(self, name: str, upload: str, number: int, body: Body) -> Part:
        """Store one part, replacing an earlier one of that number. Raises NotFound for an unknown upload."""
        ...

    async def complete_parts(self, name: str, upload: str, parts: Sequence[Part], body: Body) -> ObjectInfo:
        """Make the object of ``parts``, all of them in order. Raises NotFound for an unknown upload, which may be one that was completed."""
        ...

    async def abort_parts(self, name: str, upload: str) -> None:
        """Forget the upload and its parts. An unknown one is success."""
        ...

    async def list_uploads(self, prefix: str = "") -> list[Upload]:
        """Those of names that begin with ``prefix``."""
        ...

    async def list_parts(self, name: str, upload: str) -> list[Part]:
        """What is stored of an upload, by number. Raises NotFound for an unknown one."""
        ...


@runtime_checkable
class SupportsLocalFiles(Protocol):
    """A backend whose objects are files of this machine, which can be read where they are."""

    @property
    def description(self) -> str: ...

    def local_file(self, name: str) -> Path:
        """The file of ``name``, for reading only. Blocks for one look at it. Raises NotFound."""
        ...


@runtime_checkable
class SupportsWaitIdle(Protocol):
    """A backend whose calls run on in threads after they were cancelled (T5)."""

    async def wait_idle(self) -> None:
        """Return when no cancelled call is running any more: only then its slot is free."""
        ...


@runtime_checkable
class SupportsDropConnections(Protocol):
    """A backend that keeps connections between calls."""

    def drop_connections(self) -> None:
        """Deal none of them out again: the machine was suspended, so the far end may have forgotten them. Calls on them are about to be cancelled."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSigns:
    """What the kernel knows of one connection's way to the other end.

    Attributes:
        window: bytes that may be on their way now (the congestion window).
        rtt, least_rtt: round trips in seconds, the present one smoothed.
        sent, sent_again: packets with data, since the connection began; ``sent`` counts those again, too.
        congestion: the name of the congestion control.
    """

    window: int
    rtt: float
    least_rtt: float
    sent: int = 0
    sent_again: int = 0
    congestion: str = ""


@runtime_checkable
class SupportsLinkSigns(Protocol):
    """A backend with connections of its own over TCP."""

    def link_signs(self) -> Sequence[LinkSigns]:
        """Of each connection that is open now; none where the kernel does not tell. Does not block."""
        ...


class BlockingBackend(Protocol):
    """The legacy interface: plain blocking methods on local paths. ``asyncdup.backends.blocking`` runs it in threads.

    "Not found" is a FileNotFoundError or NotFound; any OSError is retryable unless its errno says otherwise.
    """

    def list(self) -> list[str]: ...
    def get(self, name: str, local: Path) -> None: ...
    def put(self, name: str, local: Path) -> None: ...
    def delete(self, name: str) -> None: ...
