"""The backend for ``sftp://`` and ``scp://``: objects are files of one folder on a server, moved over SFTP by asyncssh.

A put goes to a temporary name in pipelined WRITEs, is made durable where the server offers it, and is renamed when every WRITE was answered
(P5, P6). A get keeps READs in flight ahead of its reader. Both hold about 2 MiB. Connections and errors are ssh_pool's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import TypeAlias

import anyio
import asyncssh
from anyio.abc import TaskGroup

from asyncdup.backends.base import UNKNOWN_SIZE, Body, Capabilities, ObjectInfo
from asyncdup.backends.names import check_name, temp_name
from asyncdup.backends.registry import BackendOptions
from asyncdup.backends.ssh_options import Login, parse_ssh_options, quiet_asyncssh
from asyncdup.backends.ssh_pool import CLEANUP_DEADLINE, Connection, Pool, connections_for, dial
from asyncdup.backends.urls import Location
from asyncdup.errors import BackendError, IntegrityError, NotFound, OperatorError, RetryableError, UsageError

_READ_AHEAD = 1 << 20  # bytes asked for or come, and not yet taken (performance, section 10.6)
_CHUNK = 1 << 20  # bytes handed on at once, at most

_CAPABILITIES = Capabilities(atomic_put=True, ranged_get=True, server_move=True)

_File: TypeAlias = asyncssh.SFTPClientFile


def from_url(location: Location, options: BackendOptions) -> SftpBackend:
    """The factory for the registry. Connects at the first call.

    Raises:
        UsageError: no host, or ``--ssh-options`` makes no sense.
    """
    if not location.host:
        raise UsageError(f"{location.description} names no host", hint="write sftp://[user@]host[:port]/folder")
    quiet_asyncssh()
    return SftpBackend(location, options)


class SftpBackend:
    """The folder ``location.path`` on ``location.host``; relative paths begin at the login folder. Calls may run concurrently."""

    def __init__(self, location: Location, options: BackendOptions) -> None:
        self._place = location.description
        self._folder = location.path.encode("utf-8", "surrogateescape")
        login = Login(location, options, parse_ssh_options(options.ssh_options))
        limit, window = connections_for(options.concurrency)

        async def connect() -> Connection:
            return await dial(login, place=self._place, window=window)

        self.pool = Pool(connect, limit=limit)

    @property
    def description(self) -> str:
        """The URL without its password."""
        return self._place

    def __repr__(self) -> str:
        return f"SftpBackend({self._place!r})"

    def capabilities(self) -> Capabilities:
        """``atomic_put``: without ``posix-rename@openssh.com`` the old object is gone for a moment (I3), but a name never shows half of one."""
        return _CAPABILITIES

    def supports_concurrency(self) -> bool:
        """Always."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """Files, and links to files, whose name begins with ``prefix``. No connection is held while they are looked at."""
        infos = await self._listed(prefix)

        async def each() -> AsyncGenerator[ObjectInfo, None]:
            for info in infos:
                yield info

        async with aclosing(each()) as iterator:
            yield iterator

    async def stat(self, name: str) -> ObjectInfo:
        """Size and mtime. Raises NotFound, also for what is no file."""
        path = self._path(name)
        async with self.pool.acquire(brief=True) as connection:
            status = await connection.status(path)
        if not _may_be_file(status):
            raise NotFound(f"{name} at {self._place} is no file")
        return _info(name, status)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The bytes from ``start``, at most ``length``, in chunks of at most 1 MiB; NotFound on entering."""
        path = self._path(name)
        with _ungrouped():
            async with self.pool.acquire() as connection:
                file = await _open_or_leave(connection, path)
                try:
                    async with anyio.create_task_group() as tasks:
                        yield _Blocks(connection, file, tasks, start, None if length is None else start + length)
                        tasks.cancel_scope.cancel()
                finally:
                    await _tidy(connection, file)

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body``: temporary name, fsync, size confirmed by the server, rename. One connection, about 2 MiB of memory.

        Raises:
            RetryableError: ``ambiguous`` if the connection was lost after the body began.
            OperatorError: ``space`` if the server's file system is full.
            IntegrityError: the body gave fewer or more bytes than its size.
        """
        path = self._path(name)
        async with self.pool.acquire() as connection:
            upload = _Upload(connection, self._path(temp_name()))
            try:
                await self._create(upload)
                status = await upload.send(body)
                await connection.rename(upload.path, path)
            except RetryableError as error:
                try:
                    failure = await self._explained(error, upload)
                finally:
                    await upload.abandon()
                if failure is error:
                    raise
                raise failure from error.__cause__
            except BaseException:
                await upload.abandon()
                raise
        return _info(name, status)

    async def delete(self, name: str) -> None:
        """Remove it; absent is success."""
        path = self._path(name)
        with suppress(NotFound):
            async with self.pool.acquire(brief=True) as connection:
                with _ambiguous_if_lost(connection):
                    await connection.remove(path)

    async def move(self, source: str, target: str) -> None:
        """Rename, replacing ``target``. Raises NotFound."""
        old, new = self._path(source), self._path(target)
        async with self.pool.acquire(brief=True) as connection:
            with _ambiguous_if_lost(connection):
                await connection.rename(old, new)

    def drop_connections(self) -> None:
        """As the protocol says."""
        self.pool.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pool.aclose()

    def _path(self, name: str) -> bytes:
        encoded = check_name(name).encode("utf-8", "surrogateescape")
        if not self._folder:
            return encoded
        return self._folder + (b"" if self._folder.endswith(b"/") else b"/") + encoded

    async def _listed(self, prefix: str) -> Sequence[ObjectInfo]:
        start = prefix.encode("utf-8", "surrogateescape")
        infos: deque[ObjectInfo] = deque()
        links: deque[str] = deque()
        async with self.pool.acquire(brief=True) as connection:
            with suppress(NotFound):
                async with aclosing(connection.listing(self._folder or b".")) as entries:
                    async for raw, status in entries:
                        name = raw.decode("utf-8", "surrogateescape")
                        if not raw.startswith(start) or "/" in name or "\0" in name:  # what no server of good will sends (P16)
                            continue
                        if status.type == asyncssh.FILEXFER_TYPE_SYMLINK:
                            links.append(name)
                        elif _may_be_file(status):
                            infos.append(_info(name, status))
        for name in links:
            with suppress(NotFound):
                infos.append(await self.stat(name))
        return infos

    async def _create(self, upload: _Upload) -> None:
        try:
            await upload.create()
        except NotFound:
            try:
                await upload.connection.make_folder(self._folder.rstrip(b"/") or b"/")
                await upload.create()
            except NotFound as error:
                raise OperatorError(f"the folder of {self._place} cannot be made: {error}", scope="lane") from error

    async def _explained(self, error: RetryableError, upload: _Upload) -> RetryableError:
        """``error`` as it is, marked ambiguous, or what lies behind it: a full disk. Asked before anything is removed, which makes room."""
        if upload.connection.lost:
            error.ambiguous = upload.began
        elif not isinstance(error, OperatorError) and not await upload.connection.has_room(self._folder or b"."):
            return OperatorError(f"{error}: no space left on the server", space=True, hint="make room on the server, or raise the quota")
        return error


class _Upload:
    """One temporary file being written. ``began``: bytes of the body may have reached the server."""

    def __init__(self, connection: Connection, path: bytes) -> None:
        self.connection = connection
        self.path = path
        self.began = False
        self._file: _File | None = None
        self._opening = False
        self._sent = 0
        self._error: BackendError | None = None

    async def create(self) -> None:
        """Open the temporary file, which must not be there yet."""
        self._opening = True
        try:
            self._file = await self.connection.create(self.path)
        except BackendError:
            self._opening = False
            raise
        self._opening = False

    async def send(self, body: Body) -> asyncssh.SFTPAttrs:
        """Write the whole body, sync, ask for the size and close, all in flight together; the status when everything was answered (P5)."""
        assert self._file is not None
        with _ungrouped():
            async with anyio.create_task_group() as tasks:
                async with body.open() as chunks:
                    async for chunk in chunks:
                        await self._send_chunk(self._file, chunk, tasks)
                self._check()
                status = await self._finish(self._file)
        self._check()
        if self._sent != body.size:
            raise IntegrityError(f"the body gave {self._sent} bytes and not {body.size}")
        if status.size is not None and status.size != self._sent:
            raise RetryableError(f"{self.connection.place}: the server has {status.size} bytes of {self._sent}")
        status.size = self._sent
        return status

    async def abandon(self) -> None:
        """Remove what may be there, within a deadline, whatever the caller's state; give the connection up if it does not answer."""
        if self.connection.lost or (self._file is None and not self._opening):
            return
        with anyio.move_on_after(CLEANUP_DEADLINE, shield=True) as scope:
            with suppress(BackendError):
                if self._file is not None:
                    await self.connection.close(self._file)
            with suppress(BackendError):
                await self.connection.remove(self.path)
        if scope.cancelled_caught or self._opening:
            self.connection.give_up()  # it does not answer, or has a file open whose handle nobody knows

    async def _send_chunk(self, file: _File, chunk: bytes, tasks: TaskGroup) -> None:
        size = len(chunk)
        step = -(-size // max(1, -(-size // self.connection.block)))  # even blocks: no small one at the end of each chunk
        for at in range(0, size, step or 1):
            block = chunk if step == size else chunk[at : at + step]
            await self.connection.reserve(len(block))
            if self._error is not None:
                self.connection.release(len(block))
                raise self._error
            self.began = True
            tasks.start_soon(self._write, file, block, self._sent)
            self._sent += len(block)

    async def _write(self, file: _File, block: bytes, offset: int) -> None:
        try:
            await self.connection.write(file, block, offset)
        except BackendError as error:
            self._error = self._error or error
        finally:
            self.connection.release(len(block))

    async def _finish(self, file: _File) -> asyncssh.SFTPAttrs:
        # Tasks send in the order in which they were started: behind the last WRITE, in the same flight (performance, section 10.7).
        statuses: list[asyncssh.SFTPAttrs] = []

        async def ask() -> None:
            statuses.append(await self.connection.file_status(file))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.connection.sync, file)
            tasks.start_soon(ask)
            tasks.start_soon(self.connection.close, file)
        return statuses[0]

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


class _Blocks:
    """The bytes of an open file from ``start`` to ``end`` in order, with READs in flight ahead of the reader.

    Holds ``_READ_AHEAD`` bytes, and one chunk that it hands out. The tasks are the caller's, and end with its task group.
    """

    def __init__(self, connection: Connection, file: _File, tasks: TaskGroup, start: int, end: int | None) -> None:
        self._connection = connection
        self._file = file
        self._tasks = tasks
        self._next = start
        self._end = end
        self._blocks: deque[_Block] = deque()
        tasks.start_soon(self._learn_end)
        self._read_ahead()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._blocks:
            raise StopAsyncIteration
        await self._blocks[0].answered.wait()
        pieces = self._take()
        self._read_ahead()
        if not pieces:
            raise StopAsyncIteration
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self) -> list[bytes]:
        """What has come, in order: a bigger chunk costs its reader fewer steps than several small ones."""
        pieces: list[bytes] = []
        size = 0
        while self._blocks and self._blocks[0].answered.is_set() and size + self._blocks[0].size <= _CHUNK:
            block = self._blocks[0]
            if block.error is not None:
                if pieces:
                    break
                raise block.error
            self._blocks.popleft()
            pieces += [block.data] if block.data else []
            size += len(block.data)
            if len(block.data) < block.size:  # the end of the file
                self._end = 0
                self._blocks.clear()
        return pieces

    def _read_ahead(self) -> None:
        largest = self._connection.read_block
        while len(self._blocks) < _READ_AHEAD // largest and (self._end is None or self._next < self._end):
            size = largest if self._end is None else min(largest, self._end - self._next)
            block = _Block(self._next, size)
            self._blocks.append(block)
            self._next += size
            self._tasks.start_soon(self._fetch, block)

    async def _fetch(self, block: _Block) -> None:
        try:
            data = await self._connection.read(self._file, block.size, block.offset)
            # A server may answer with less than was asked for anywhere in the file, not only at its end.
            while data and len(data) < block.size and (self._end is None or block.offset + len(data) < self._end):
                more = await self._connection.read(self._file, block.size - len(data), block.offset + len(data))
                if not more:
                    break
                data += more
            block.data = data
        except BackendError as error:
            block.error = error
        block.answered.set()

    async def _learn_end(self) -> None:
        with suppress(BackendError):  # then a READ finds the end, or the error
            size = (await self._connection.file_status(self._file)).size
            if size is not None:
                self._end = size if self._end is None else min(self._end, size)


class _Block:
    """One READ: ``data`` or ``error`` once it is ``answered``."""

    __slots__ = ("answered", "data", "error", "offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        self.data = b""
        self.error: BackendError | None = None
        self.answered = anyio.Event()


async def _open_or_leave(connection: Connection, path: bytes) -> _File:
    """Open for reading; if that is cut off, a handle that nobody knows may be open: the connection goes with it."""
    try:
        return await connection.open(path)
    except BackendError:
        raise
    except BaseException:
        connection.give_up()
        raise


async def _tidy(connection: Connection, file: _File) -> None:
    if connection.lost:
        return
    with anyio.move_on_after(CLEANUP_DEADLINE, shield=True) as scope:
        with suppress(BackendError):
            await connection.close(file)
    if scope.cancelled_caught:
        connection.give_up()


@contextmanager
def _ungrouped() -> Generator[None, None, None]:
    """The first error out of a task group instead of the group; its own chain stays as it is (C3, C6)."""
    first: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        first = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if first is not None:
        raise first


@contextmanager
def _ambiguous_if_lost(connection: Connection) -> Generator[None, None, None]:
    try:
        yield
    except RetryableError as error:
        error.ambiguous = connection.lost
        raise


def _may_be_file(status: asyncssh.SFTPAttrs) -> bool:
    return status.type in (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN)


def _info(name: str, status: asyncssh.SFTPAttrs) -> ObjectInfo:
    mtime = None if status.mtime is None else float(status.mtime)
    return ObjectInfo(name=name, size=UNKNOWN_SIZE if status.size is None else status.size, mtime=mtime)
