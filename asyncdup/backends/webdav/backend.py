"""The backend for ``webdav://`` and ``webdavs://``: objects are files of one folder on a WebDAV server (RFC 4918), moved by aiohttp.

A put goes to a temporary name, its size is confirmed by the server, and MOVE renames it (P5, P6). A get is one ranged request, a list one
PROPFIND whose answer is read as it comes. A call holds about 0.5 MiB.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio

from asyncdup.backends.base import UNKNOWN_SIZE, Body, Capabilities, LinkSigns, ObjectInfo
from asyncdup.backends.http.errors import http_errors
from asyncdup.backends.http.pieces import PIECE, nothing
from asyncdup.backends.http.transfer import range_header, read_range
from asyncdup.backends.names import check_name, temp_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location
from asyncdup.backends.webdav.http import Server, whole
from asyncdup.backends.webdav.xml import PROPFIND, Entry, MultiStatus
from asyncdup.errors import BackendError, FormatError, NotFound, OperatorError, RetryableError, UsageError

_CAPABILITIES = Capabilities(atomic_put=True, ranged_get=True, server_move=True)
_CLEANUP = 10.0  # seconds to remove a temporary name
_UNTIL_IT_IS_THERE = (0, 0.05, 0.3)  # seconds between tries to remove it


def from_url(location: Location, options: BackendOptions) -> WebdavBackend:
    """The factory for the registry. Connects at the first call.

    Raises:
        UsageError: no host, ``--webdav-headers`` makes no sense, or a file of certificates is not there.
    """
    if not location.host:
        raise UsageError(f"{location.description} names no host", hint="write webdavs://[user@]host[:port]/folder")
    for name in ("ssl_cacert_file", "ssl_cacert_path"):
        path = options.settings.get(name)
        if path and not Path(path).exists():
            raise UsageError(f"--{name.replace('_', '-')}: there is no {path}")
    return WebdavBackend(location, options)


class WebdavBackend:
    """The folder ``location.path`` on the server ``location.host``. Calls may run concurrently."""

    def __init__(self, location: Location, options: BackendOptions) -> None:
        self._place = location.description
        self._server = Server(location, options)
        self._has_ranges = True  # until the server is seen to ignore them
        self._has_folder = False
        self._making_folder = anyio.Lock()

    @property
    def description(self) -> str:
        """The URL without its password."""
        return self._place

    def __repr__(self) -> str:
        return f"WebdavBackend({self._place!r})"

    def capabilities(self) -> Capabilities:
        """``atomic_put``: a server may remove what a MOVE replaces first (I3), but a name never shows half of an object."""
        return _CAPABILITIES if self._has_ranges else replace(_CAPABILITIES, ranged_get=False)

    def supports_concurrency(self) -> bool:
        """Always."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """Files, in the order of the server, while its answer comes."""
        async with aclosing(self._listed(prefix)) as infos:
            yield infos

    async def stat(self, name: str) -> ObjectInfo:
        """Size and mtime. Raises NotFound, also for a folder."""
        entry = await self._look_at(check_name(name), f"stat {name!r} at {self._place}")
        if entry.is_folder:
            raise NotFound(f"{name!r} at {self._place} is no file")
        return _info(name, entry)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The bytes from ``start``, at most ``length``; NotFound on entering. A server that ignores ranges sends all, and is cut off."""
        action = f"get {check_name(name)!r} from {self._place}"
        if length == 0:
            await self.stat(name)
            yield nothing()
            return
        async with self._server.request("GET", name, action, headers=range_header(start, length)) as response:
            if response.status == 416:  # nothing from there on
                yield nothing()
                return
            if response.status not in (200, 206):
                raise self._server.refused(await whole(response, action), action)
            if response.status == 200 and (start or length is not None):
                self._has_ranges = False
            async with aclosing(read_range(response, start, length, action)) as chunks:
                yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body``: temporary name, size confirmed by the server, MOVE.

        Raises:
            RetryableError: ``ambiguous`` if the connection was lost after the body began.
            OperatorError: ``space`` if the server has no room.
            IntegrityError: the body gave fewer or more bytes than its size.
        """
        action = f"put {check_name(name)!r} to {self._place}"
        await self._need_folder(action)
        temp = temp_name()
        try:
            await self._send(temp, body, action)
            entry = await self._look_at(temp, action)
            if entry.size not in (None, body.size):
                raise RetryableError(f"{action}: the server has {entry.size} bytes of {body.size}")
            await self._move(temp, name, action)
        except BaseException:
            await self._abandon(temp)
            raise
        return ObjectInfo(name, body.size, entry.mtime)

    async def move(self, source: str, target: str) -> None:
        """Rename, replacing ``target``. Raises NotFound."""
        action = f"move {check_name(source)!r} at {self._place}"
        check_name(target)
        await self._look_at(source, action)  # some servers remove what is to be replaced before they look (observed: rclone 1.75.2)
        await self._move(source, target, action)

    async def delete(self, name: str) -> None:
        """Remove it; absent is success."""
        action = f"delete {check_name(name)!r} at {self._place}"
        answer = await self._server.ask("DELETE", name, action, ambiguous=True)
        if answer.status not in (200, 202, 204, 404, 410):
            raise self._server.refused(answer, action)

    def link_signs(self) -> Sequence[LinkSigns]:
        """As the protocol says."""
        return self._server.signs()

    def drop_connections(self) -> None:
        """As the protocol says."""
        self._server.drop_connections()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._server.aclose()

    async def _listed(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        action = f"list {self._place}"
        reader = MultiStatus()
        async with self._server.request("PROPFIND", "", action, headers={"Depth": "1"}, data=PROPFIND) as response:
            if response.status == 404:
                return
            if response.status != 207:
                raise self._server.refused(await whole(response, action), action)
            more = True
            while more:
                with http_errors(action):
                    data = await response.content.read(PIECE)
                more = bool(data)
                for entry in _parsed(reader, data, action):
                    name = _name_of(entry.href)
                    if name.startswith(prefix) and not entry.is_folder and _is_name(name):
                        yield _info(name, entry)

    async def _look_at(self, name: str, action: str) -> Entry:
        """What the server says of ``name``; "" is the folder."""
        answer = await self._server.ask("PROPFIND", name, action, headers={"Depth": "0"}, data=PROPFIND)
        if answer.status != 207:
            raise self._server.refused(answer, action)
        reader = MultiStatus()
        entries = [*_parsed(reader, answer.content, action), *_parsed(reader, b"", action)]
        if not entries:
            raise NotFound(f"{action}: the server does not say what it is")
        return entries[0]

    async def _need_folder(self, action: str) -> None:
        """Make the folder, once, if it is not there. As the first request of many it also brings the login about before a body is sent."""
        async with self._making_folder:
            if self._has_folder:
                return
            try:
                await self._look_at("", action)
            except NotFound:
                await self._make_folder(self._server.folder, action)
            self._has_folder = True

    async def _make_folder(self, path: str, action: str) -> None:
        answer = await self._server.ask("MKCOL", path, action)
        if answer.status in (404, 409) and path.rstrip("/"):
            await self._make_folder(path.rstrip("/").rpartition("/")[0] + "/", action)
            answer = await self._server.ask("MKCOL", path, action)
        if answer.status not in (200, 201, 405):  # 405: it is there
            error = self._server.refused(answer, f"{action}: making its folder")
            if isinstance(error, NotFound):
                raise OperatorError(str(error), hint="make the folder on the server") from error
            raise error

    async def _send(self, temp: str, body: Body, action: str) -> None:
        answer = await self._server.send(temp, body, action)
        if answer.status in (404, 409):  # somebody has removed the folder
            self._has_folder = False
            await self._need_folder(action)
            answer = await self._server.send(temp, body, action)
        if answer.status not in (200, 201, 204):
            error = self._server.refused(answer, action)
            raise OperatorError(str(error), hint="the folder is not there") if isinstance(error, NotFound) else error

    async def _move(self, source: str, target: str, action: str) -> None:
        headers = {"Destination": str(self._server.url(target)), "Overwrite": "T"}
        answer = await self._server.ask("MOVE", source, action, headers=headers, ambiguous=True)
        if answer.status not in (200, 201, 204):
            raise self._server.refused(answer, action)

    async def _abandon(self, temp: str) -> None:
        """Remove what may be there. The server may hear of the cut connection after the first DELETE, and make the file until then."""
        with anyio.move_on_after(_CLEANUP, shield=True), suppress(BackendError):
            for pause in _UNTIL_IT_IS_THERE:
                await anyio.sleep(pause)
                if (await self._server.ask("DELETE", temp, "clean up")).status < 300:
                    return


def _parsed(reader: MultiStatus, data: bytes, action: str) -> Sequence[Entry]:
    try:
        return reader.feed(data) if data else reader.finish()
    except FormatError as exc:
        raise RetryableError(f"{action}: {exc}", hint="is this the address of a WebDAV folder?") from exc


def _name_of(href: str) -> str:
    """The last part of a path or URL as an object's name; "" of a folder."""
    return unquote(urlsplit(href).path.rpartition("/")[2], errors="surrogateescape")


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name  # what no server of good will sends (P16)


def _info(name: str, entry: Entry) -> ObjectInfo:
    return ObjectInfo(name, UNKNOWN_SIZE if entry.size is None else entry.size, entry.mtime)
