"""The backend for ``sftp://`` and ``scp://``: objects are files of one folder on a server, moved over SFTP by asyncssh.

A put goes to a temporary name in pipelined WRITEs, is made durable where the server offers it, and is renamed when every WRITE was answered
(P5, P6). A get keeps READs in flight ahead of its reader. Blocks of both go over whichever connection has room (``dealer``). A connection is
``connection``'s, their number ``ssh_pool``'s; uploads and downloads have modules of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial

import anyio

from asyncdup.backends.base import UNKNOWN_SIZE, Body, Capabilities, LinkSigns, ObjectInfo
from asyncdup.backends.names import check_name, temp_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.sftp.connection import Connection, dial
from asyncdup.backends.sftp.dealer import Dealer, Handles
from asyncdup.backends.sftp.download import Download
from asyncdup.backends.sftp.early import EarlyDial
from asyncdup.backends.sftp.login import Login, quiet_asyncssh
from asyncdup.backends.sftp.packets import Attributes
from asyncdup.backends.sftp.ssh_options import SshOptions
from asyncdup.backends.sftp.ssh_pool import Pool, connections_for
from asyncdup.backends.sftp.upload import Upload
from asyncdup.backends.urls import Location
from asyncdup.errors import NotFound, OperatorError, RetryableError, ungrouped

_CAPABILITIES = Capabilities(atomic_put=True, ranged_get=True, stripes=True, server_move=True)


class SftpBackend:
    """The folder ``location.path`` on ``location.host``; relative paths begin at the login folder. Calls may run concurrently."""

    def __init__(self, location: Location, options: BackendOptions, ssh: SshOptions, early: EarlyDial | None = None) -> None:
        quiet_asyncssh()
        self._place = location.description
        self._folder = location.path.encode("utf-8", "surrogateescape")
        self._early = early
        login = Login(location, options, ssh, early)
        limit, window = connections_for(options.concurrency)

        async def connect() -> Connection:
            connection = await dial(login, place=self._place, window=window)
            connection.on_room = partial(self._dealer.deal, connection)
            return connection

        self.pool = Pool(connect, limit=limit)
        self._dealer = Dealer(self.pool.connections)
        # Calls that are about to come find their connections: these are dialled while the first listing is on its way.
        self._dial_ahead = min(limit, options.expected or options.concurrency or 1)

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
        ahead, self._dial_ahead = self._dial_ahead, 1
        if ahead > 1:
            with ungrouped():
                async with self.pool.dialling_ahead(ahead):
                    infos = await self._listed(prefix)
        else:
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
        if not status.may_be_file:
            raise NotFound(f"{name} at {self._place} is no file")
        return _info(name, status)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The bytes from ``start``, at most ``length``, in chunks of at most 1 MiB; NotFound on entering."""
        path = self._path(name)
        with ungrouped():
            async with self.pool.acquire() as connection:
                handles = Handles(self._dealer, await connection.open(path), path, for_writing=False)
                async with anyio.create_task_group() as tasks:
                    download = Download(self._dealer, handles, tasks, start, None if length is None else start + length)
                    try:
                        yield download
                    finally:
                        download.close_nowait()
                        tasks.cancel_scope.cancel()

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body``: temporary name, fsync, size confirmed by the server, rename.

        Raises:
            RetryableError: ``ambiguous`` if the connection was lost after the body began.
            OperatorError: ``space`` if the server's file system is full.
            IntegrityError: the body gave fewer or more bytes than its size.
        """
        path = self._path(name)
        with ungrouped():
            async with self.pool.acquire() as connection, self.pool.growing() as look:
                status = await self._store(Upload(self._dealer, connection, self._path(temp_name()), on_progress=look), body, path)
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

    def link_signs(self) -> Sequence[LinkSigns]:
        """As the protocol says."""
        return self.pool.signs()

    def drop_connections(self) -> None:
        """As the protocol says."""
        self._leave_early()
        self.pool.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        self._leave_early()
        await self.pool.aclose()

    def _leave_early(self) -> None:
        if self._early is not None:
            self._early.close()

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
                        if status.is_link:
                            links.append(name)
                        elif status.may_be_file:
                            infos.append(_info(name, status))
        for name in links:
            with suppress(NotFound):
                infos.append(await self.stat(name))
        return infos

    async def _store(self, upload: Upload, body: Body, path: bytes) -> Attributes:
        try:
            await self._create(upload)
            status = await upload.send(body)
            await upload.home.rename(upload.path, path)
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
        return status

    async def _create(self, upload: Upload) -> None:
        try:
            await upload.create()
        except NotFound:
            try:
                await upload.home.make_folder(self._folder.rstrip(b"/") or b"/")
                await upload.create()
            except NotFound as error:
                raise OperatorError(f"the folder of {self._place} cannot be made: {error}", scope="lane") from error

    async def _explained(self, error: RetryableError, upload: Upload) -> RetryableError:
        """``error`` as it is, marked ambiguous, or what lies behind it: a full disk. Asked before anything is removed, which makes room."""
        if upload.home.lost:
            error.ambiguous = upload.began
        elif not isinstance(error, OperatorError) and not await upload.home.has_free_space(self._folder or b"."):
            return OperatorError(f"{error}: no space left on the server", space=True, hint="make room on the server, or raise the quota")
        return error


@contextmanager
def _ambiguous_if_lost(connection: Connection) -> Generator[None, None, None]:
    try:
        yield
    except RetryableError as error:
        error.ambiguous = connection.lost
        raise


def _info(name: str, status: Attributes) -> ObjectInfo:
    mtime = None if status.mtime is None else float(status.mtime)
    return ObjectInfo(name=name, size=UNKNOWN_SIZE if status.size is None else status.size, mtime=mtime)
