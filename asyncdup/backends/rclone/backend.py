"""The backend for ``rclone://REMOTE:/path``: whatever rclone reaches, by one ``rclone rcd`` of our own and its remote-control calls.

A put is an ``operations/uploadfile``. Where the remote can rename, it goes to a temporary name whose size is looked at first; where it cannot
(object stores) an upload appears whole or not at all. Errors come as text, so classes are told by words (``_classify``).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

import anyio
import yarl

from asyncdup.backends.base import UNKNOWN_SIZE, Body, Capabilities, ObjectInfo
from asyncdup.backends.http.errors import http_errors
from asyncdup.backends.http.pieces import nothing
from asyncdup.backends.http.transfer import range_header, read_answer, read_range, send_body
from asyncdup.backends.names import check_name, temp_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.rclone.daemon import Daemon
from asyncdup.backends.urls import Location
from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, RetryableError, UsageError
from asyncdup.threads import in_thread

_CAPABILITIES = Capabilities(atomic_put=True, ranged_get=True, server_move=True)
_CLEANUP = 10.0  # seconds to remove a temporary name
_ROOT = yarl.URL("http://rclone/")

# Words in rclone's errors, in the order in which they are looked for. Its providers share no codes.
_ABSENT = ("object not found", "directory not found", "bucket not found", "container not found")
_SPACE = ("no space left", "quota exceeded", "quotaexceeded", "storagequota", "insufficient storage", "storage is full", "disk quota")
_SLOWER = ("429", "rate limit", "ratelimit", "too many requests", "slowdown", "slow down")
_LOGIN = ("401", "403", "unauthorized", "forbidden", "accessdenied", "access denied", "permission denied", "invalid_grant", "token expired")
_SETUP = ("didn't find section in config", "unable to decrypt configuration", "failed to load config", "didn't find backend called")


def from_url(location: Location, options: BackendOptions) -> RcloneBackend:
    """The factory for the registry. Starts rclone at the first call.

    Raises:
        UsageError: no remote is named, it is written with its options, or there is no rclone.
    """
    fs = location.path.replace(":/", ":", 1)  # as stock: rclone://REMOTE:/dir is rclone's REMOTE:dir
    remote = fs.removeprefix(":").partition(":")[0]
    if "," in remote and ":" in fs:
        raise UsageError(
            "rclone:// takes no options of a remote in the URL, which would be seen by others",
            hint="make a remote with rclone config, or set RCLONE_CONFIG_NAME_TYPE and the like",
        )
    if not fs or "]" in fs:
        raise UsageError(f"{location.description} names no place that rclone can serve", hint="write rclone://REMOTE:/folder")
    return RcloneBackend(fs, location.description, options)


class RcloneBackend:
    """The folder ``fs`` in rclone's words, ``remote:folder``. Calls may run concurrently."""

    def __init__(self, fs: str, place: str, options: BackendOptions) -> None:
        self._fs = fs.rstrip("/") if fs.rstrip("/") else fs
        self._place = place
        self.daemon = Daemon(options.environ, options.tempdir, timeout=options.timeout)
        self._renames: bool | None = None  # None: not asked yet

    @property
    def description(self) -> str:
        """The URL."""
        return self._place

    def __repr__(self) -> str:
        return f"RcloneBackend({self._place!r})"

    def capabilities(self) -> Capabilities:
        """No checksums: which a remote has is known only when it is asked, and some read the whole object for them."""
        return _CAPABILITIES

    def supports_concurrency(self) -> bool:
        """Always; a provider that objects says so with a throttle."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """In rclone's order. Its answer comes in one piece: about 200 bytes of memory an object while it is read."""
        question = {"fs": self._fs, "remote": "", "opt": {"filesOnly": True, "noMimeType": True}}
        try:
            answer = await self._call("operations/list", question, f"list {self._place}")
        except NotFound:
            answer = {"list": []}
        async with aclosing(_infos(answer.get("list") or [], prefix)) as infos:
            yield infos

    async def stat(self, name: str) -> ObjectInfo:
        """Size and mtime. Raises NotFound, also for a folder."""
        return await self._stat(_checked(name), f"stat {name!r} at {self._place}")

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The bytes from ``start``, at most ``length``; NotFound on entering."""
        action = f"get {_checked(name)!r} from {self._place}"
        if length == 0:
            await self._stat(name, action)
            yield nothing()
            return
        session = await self.daemon.session()
        url = yarl.URL(f"{_ROOT}{quote(f'[{self._fs}]', safe='')}/{quote(name, safe='')}", encoded=True)
        with http_errors(action):
            response = await session.get(url, headers={**range_header(start, length), "Accept-Encoding": "identity"}, allow_redirects=False)
        try:
            if response.status not in (200, 206):
                with http_errors(action):
                    answer = await read_answer(response)
                raise _classify(action, answer.status, answer.content)
            async with aclosing(read_range(response, start, length, action)) as chunks:
                yield chunks
        finally:
            response.close()

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body``; the size is looked at before the object has its name, where there is a rename.

        Raises:
            RetryableError: ``ambiguous`` if rclone died after the body began.
            IntegrityError: the body gave fewer or more bytes than its size.
        """
        action = f"put {_checked(name)!r} to {self._place}"
        if not await self._can_rename(action):
            await self._upload(name, body, action)
            return await self._stored(name, body, action)
        temp = temp_name()
        try:
            await self._upload(temp, body, action)
            info = await self._stored(temp, body, action)
            await self._rename(temp, name, action)
        except BaseException:
            with anyio.move_on_after(_CLEANUP, shield=True), suppress(BackendError):
                await self._remove(temp, action)
            raise
        return ObjectInfo(name, info.size, info.mtime)

    async def move(self, source: str, target: str) -> None:
        """Rename, replacing ``target``; a copy and a delete where the remote has no rename. Raises NotFound."""
        await self._rename(_checked(source), _checked(target), f"move {source!r} at {self._place}")

    async def delete(self, name: str) -> None:
        """Remove it; absent is success."""
        with suppress(NotFound):
            await self._remove(_checked(name), f"delete {name!r} at {self._place}")

    async def aclose(self) -> None:
        """End rclone."""
        await self.daemon.aclose()

    async def _can_rename(self, action: str) -> bool:
        if self._renames is None:
            answer = await self._call("operations/fsinfo", {"fs": self._fs}, action)
            features = answer.get("Features")
            self._renames = bool(isinstance(features, dict) and features.get("Move"))
        return self._renames

    async def _upload(self, name: str, body: Body, action: str) -> None:
        boundary = secrets.token_hex(24)
        lead = (
            f"--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''{quote(name, safe='')}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        answer = await send_body(
            await self.daemon.session(),
            "POST",
            (_ROOT / "operations/uploadfile").with_query({"fs": self._fs, "remote": ""}),
            body,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            action=action,
            lead=lead.encode(),
            tail=f"\r\n--{boundary}--\r\n".encode(),
        )
        if answer.status != 200:
            raise _classify(action, answer.status, answer.content)

    async def _stored(self, name: str, body: Body, action: str) -> ObjectInfo:
        try:
            info = await self._stat(name, action)
        except NotFound as exc:
            raise RetryableError(f"{action}: rclone has taken it, but it is not there", ambiguous=True) from exc
        if info.size not in (UNKNOWN_SIZE, body.size):
            raise RetryableError(f"{action}: {info.size} bytes of {body.size} are there")
        return ObjectInfo(name, body.size, info.mtime)

    async def _stat(self, name: str, action: str) -> ObjectInfo:
        answer = await self._call("operations/stat", {"fs": self._fs, "remote": name, "opt": {"noMimeType": True}}, action)
        item = answer.get("item")
        if not isinstance(item, dict) or item.get("IsDir"):
            raise NotFound(f"{action}: not found")
        return _info(name, item)

    async def _rename(self, source: str, target: str, action: str) -> None:
        question = {"srcFs": self._fs, "srcRemote": source, "dstFs": self._fs, "dstRemote": target}
        await self._call("operations/movefile", question, action, ambiguous=True)

    async def _remove(self, name: str, action: str) -> None:
        await self._call("operations/deletefile", {"fs": self._fs, "remote": name}, action, ambiguous=True)

    async def _call(self, command: str, question: Mapping[str, Any], action: str, *, ambiguous: bool = False) -> dict[str, Any]:
        session = await self.daemon.session()
        with http_errors(action, ambiguous=ambiguous):
            async with session.post(_ROOT / command, json=question, allow_redirects=False) as response:
                status, content = response.status, await response.read()
        if status != 200:
            raise _classify(action, status, content)
        return await in_thread(_parsed, content, action)


def _classify(action: str, status: int, content: bytes) -> BackendError:
    """The BackendError for rclone's words. What it repeats of the question stays out of the message."""
    try:
        said = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        said = f"rclone answers {status}"
    message, words = f"{action}: {said[:500]}", said.lower()
    if any(word in words for word in _ABSENT):
        return NotFound(message)
    if any(word in words for word in _SETUP):
        return OperatorError(message, hint="look at it with rclone config; RCLONE_CONFIG names its file")
    if any(word in words for word in _SPACE):
        return OperatorError(message, space=True, hint="make room at the remote, or raise the quota")
    if any(word in words for word in _SLOWER):
        return RetryableError(message, scope="lane", throttle=True)
    if any(word in words for word in _LOGIN):
        return OperatorError(message, hint="try rclone lsd with the same remote; rclone config reconnect renews a login")
    return NotFound(message) if status == 404 else RetryableError(message)


def _checked(name: str) -> str:
    check_name(name)
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise BadRequest(f"{name!r} is not UTF-8, which rclone cannot name") from exc
    return name


def _parsed(content: bytes, action: str) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError as exc:
        raise RetryableError(f"{action}: rclone's answer is no JSON") from exc
    return answer if isinstance(answer, dict) else {}


async def _infos(items: list[Any], prefix: str) -> AsyncGenerator[ObjectInfo, None]:
    for item in items:
        name = str(item.get("Name", "")) if isinstance(item, dict) else ""
        if name not in ("", ".", "..") and "/" not in name and name.startswith(prefix) and not item.get("IsDir"):
            yield _info(name, item)


def _info(name: str, item: Mapping[str, Any]) -> ObjectInfo:
    size, text = item.get("Size"), str(item.get("ModTime", ""))
    try:
        mtime: float | None = datetime.fromisoformat(text[:19] + "+00:00" if text.endswith("Z") else text).timestamp()
    except ValueError:
        mtime = None
    return ObjectInfo(name, size if isinstance(size, int) and size >= 0 else UNKNOWN_SIZE, mtime)
