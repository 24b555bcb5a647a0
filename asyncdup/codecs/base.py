"""What a codec is: the protocols, what encryption needs to know, and the file that a sealer writes. No compression and no gpg in here."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeAlias

import anyio

from asyncdup.errors import UsageError
from asyncdup.threads import in_thread

PIECE = 1 << 20  # bytes; what one thread hop takes: at 64 KiB the hop costs more than the work
# The disk refused a write with the error; awaited, it calls the function (in a thread) until that succeeds, or raises.
Refused: TypeAlias = Callable[[OSError, Callable[[], None]], Awaitable[None]]
MAX_PASSPHRASE = 4096  # bytes; a pipe holds them all, so handing them over never blocks


@dataclass(frozen=True, slots=True)
class Sealed:
    """A stored file that is complete: its ``size`` in bytes and its ``sha1`` in hex."""

    size: int
    sha1: str


class Sealer(Protocol):
    """One stored file in the making. Used by one task at a time.

    ``written``: stored bytes so far (of gpg: bytes handed to it); ``pending``: plain bytes accepted and not yet counted there. Both change
    only inside the methods, so what they say at a given place depends on the data alone and not on how fast the threads are.
    """

    @property
    def written(self) -> int: ...
    @property
    def pending(self) -> int: ...

    async def feed(self, piece: bytes) -> None:
        """Take the next piece of the plain bytes (about 1 MiB). Returns when it is accepted; at most two pieces are being worked on."""
        ...

    async def drain(self) -> None:
        """Wait until all that was fed is compressed and written: ``pending`` is then 0."""
        ...

    async def finish(self) -> Sealed:
        """The plain bytes are complete. Returns when the file is. Call once."""
        ...


class Chunks(Protocol):
    """The plain bytes of a stored file, in order: an asynchronous iterator, or poured into a function where each thread hop counts."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...

    async def pour(self, take: Callable[[bytes], bool], size: int) -> bool:
        """Give ``take`` chunk after chunk, in one call in a thread, until it returns False or has had ``size`` bytes.

        Returns whether there may be more; False is as the end of the iterator. Raises what the iterator or ``take`` raises.
        """
        ...


class Codec(Protocol):
    """Plain bytes <-> stored files.

    ``suffix``: of the names of volumes and signature archives (``""``, ``".gz"``, ``".gpg"``); ``manifest_suffix``: of manifests.
    """

    suffix: str
    manifest_suffix: str
    encrypted: bool

    def seal(self, path: Path, *, compress: bool = True, refused: Refused | None = None) -> AbstractAsyncContextManager[Sealer]:
        """A sealer that writes ``path`` (0600), which must not exist. Left without ``finish``, it takes the file away again.

        ``refused`` sees to it that a write which the disk refused is made again, and nothing is lost; so for the making of the file.

        Several may be open in one task, and be left in any order: the next gpg starts while the last one still works.

        Raises:
            CodecError: gpg failed (also from the sealer's methods).
            OSError: the local disk did (also from the sealer's methods).
        """
        ...

    def open(self, path: Path, *, chunk: int = PIECE, name: str | None = None) -> AbstractAsyncContextManager[Chunks]:
        """The plain bytes of a stored file, in chunks of at most ``chunk`` bytes, verified by the time the iterator ends.

        Who leaves earlier has unverified bytes. Errors call the file ``name`` (default: that of ``path``).

        Raises:
            FormatError: the file is damaged (from the iterator).
            CodecError, SignatureMismatch: gpg could not open it, or it is not signed as it must be (from the iterator).
        """
        ...

    async def pack(self, data: bytes) -> bytes:
        """A small object, such as a manifest, as stored. Manifests are never gzipped (format specification, section 2)."""
        ...

    async def unpack(self, data: bytes, *, name: str = "an encrypted object") -> bytes:
        """The inverse of ``pack``. Raises as ``open`` does."""
        ...


@dataclass(frozen=True, slots=True)
class Encryption:
    """Keys and passphrases, and how to call gpg. Its ``repr`` shows no passphrase (P15).

    Attributes:
        passphrase: of symmetric encryption (no recipients), or of the secret key when reading. None: gpg asks its agent.
        sign_passphrase: of ``sign_key``; None: ``passphrase`` serves for it, too.
        recipients, hidden_recipients: keys to encrypt to, as gpg takes them.
        sign_key: signs all that is written; all that is read must be signed by it (P17).
        gpg_options: further arguments, after ours.
    """

    passphrase: str | None = field(default=None, repr=False)
    sign_passphrase: str | None = field(default=None, repr=False)
    recipients: tuple[str, ...] = ()
    hidden_recipients: tuple[str, ...] = ()
    sign_key: str | None = None
    gpg_binary: str = "gpg"
    gpg_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, secret in (("passphrase", self.passphrase), ("passphrase of the signing key", self.sign_passphrase)):
            _check_passphrase(what, secret)
        for key in (*self.recipients, *self.hidden_recipients, *((self.sign_key,) if self.sign_key is not None else ())):
            if not key or key.startswith("-") or "\n" in key or "\0" in key:
                raise UsageError(f"{key!r} is not a key", hint="give a key's fingerprint")

    @property
    def symmetric(self) -> bool:
        """Whether a passphrase encrypts, and not a key."""
        return not (self.recipients or self.hidden_recipients)


def _check_passphrase(what: str, secret: str | None) -> None:
    if secret is None:
        return
    if any(sign in secret for sign in "\n\r\0"):  # gpg reads one line
        raise UsageError(f"the {what} has a line break or a NUL in it", hint="gpg cannot take it; choose one without")
    if len(secret.encode("utf-8", "surrogateescape")) > MAX_PASSPHRASE:
        raise UsageError(f"the {what} is longer than {MAX_PASSPHRASE} bytes")


@dataclass(slots=True)
class StoredFile:
    """A new file, open for writing. ``complete`` decides whether it is kept."""

    path: Path
    file: FileIO
    refused: Refused | None = None
    complete: bool = False
    _rest: memoryview = field(default_factory=lambda: memoryview(b""))  # what an OSError has left unwritten

    def write(self, data: bytes) -> None:
        """Write all of ``data``. After an OSError ``flush`` goes on with what is left of it."""
        self._rest = memoryview(data)
        self.flush()

    def flush(self) -> None:
        """Write what the last ``write`` could not."""
        while self._rest:
            self._rest = self._rest[self.file.write(self._rest) or 0 :]

    async def repeat(self, error: OSError, again: Callable[[], None]) -> None:
        """See ``Refused``. Raises ``error`` where nobody helps, or where it came from closing the file."""
        if self.refused is None or self.file.closed:
            raise error
        await self.refused(error, again)


@asynccontextmanager
async def new_file(path: Path, refused: Refused | None = None) -> AsyncGenerator[StoredFile, None]:
    """A file at ``path``, readable by nobody else, which must not exist; deleted at the end unless ``complete`` was set."""
    stored = StoredFile(path, await _created(path, refused), refused)
    try:
        yield stored
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(_let_go, stored)


async def _created(path: Path, refused: Refused | None) -> FileIO:
    """A disk may lack the inode, too."""
    try:
        return await in_thread(_create, path)
    except OSError as error:
        if refused is None:
            raise
        made: list[FileIO] = []
        try:
            await refused(error, lambda: made.append(_create(path)))
        except BaseException:
            for file in made:  # made, and then we were cancelled
                await in_thread(_let_go, StoredFile(path, file))
            raise
        return made[0]


def _create(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _let_go(stored: StoredFile) -> None:
    stored.file.close()
    if not stored.complete:
        stored.path.unlink(missing_ok=True)


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of ``data``, also where the kernel takes it in parts (a pipe, a disk that fills up)."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]
