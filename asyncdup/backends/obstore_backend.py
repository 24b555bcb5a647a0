"""The backend for ``gs://bucket/prefix`` and ``azure://container/prefix``: objects in a bucket, moved by obstore, an extra.

Its calls run in threads of its own, in Rust. A body above ``_PART`` goes up in parts, which obstore plans and assembles; an object appears
whole or not at all. Its own retries are off: the engine's are the only ones.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any

import anyio

from asyncdup.backends.base import Body, Capabilities, ObjectInfo
from asyncdup.backends.http.pieces import PIECE, Pieces, nothing, pump
from asyncdup.backends.names import check_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location
from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, Precondition, RetryableError, UsageError, ungrouped

_CAPABILITIES = Capabilities(atomic_put=True, put_if_absent=True, ranged_get=True)
_PART = 8 << 20  # bytes of a part; with two parts at once a put holds about 24 MiB
_PARTS_AT_ONCE = 2
_FOREVER = timedelta(days=7)  # the engine's clocks are the ones that count; obstore's would end a large object after 30 s
_NO_RETRIES = {"max_retries": 0, "retry_timeout": timedelta(seconds=0)}

# What obstore is told of the environment, which it would otherwise read by itself.
_GOOGLE = {
    "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
    "GOOGLE_SERVICE_ACCOUNT": "service_account",
    "GOOGLE_SERVICE_ACCOUNT_PATH": "service_account",
    "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
}
# Of a connection string, as Azure's portal shows it.
_AZURE = {"accountname": "account_name", "accountkey": "account_key", "blobendpoint": "endpoint", "sharedaccesssignature": "sas_key"}
_SLOWER = ("429", "toomanyrequests", "serverbusy", "slowdown", "rate limit")
_LOGIN = ("credential", "oauth", "token", "unauthenticated", "authenticationfailed", "invalid_grant")


def from_gs_url(location: Location, options: BackendOptions) -> ObstoreBackend:
    """The factory of ``gs://``. Raises UsageError without a bucket or without obstore."""
    _need_container(location, "bucket")
    config = {key: options.environ[name] for name, key in _GOOGLE.items() if options.environ.get(name)}
    store = _store("GCSStore", location.host, config, options)
    return ObstoreBackend(store, location.path, location.description)


def from_azure_url(location: Location, options: BackendOptions) -> ObstoreBackend:
    """The factory of ``azure://``; AZURE_CONNECTION_STRING as for stock. Raises UsageError without a container, an account or obstore."""
    _need_container(location, "container")
    config = parse_connection_string(options.environ.get("AZURE_CONNECTION_STRING", ""))
    for name in ("account_name", "account_key"):
        if options.environ.get(f"AZURE_STORAGE_{name.upper()}"):
            config.setdefault(name, options.environ[f"AZURE_STORAGE_{name.upper()}"])
    if "account_name" not in config and "endpoint" not in config:
        raise UsageError(
            f"{location.description}: no storage account is named", hint="set AZURE_CONNECTION_STRING, as Azure's portal shows it"
        )
    store = _store("AzureStore", location.host, config, options)
    return ObstoreBackend(store, location.path, location.description, refused="\\")  # which Azure makes a slash of


def parse_connection_string(text: str) -> dict[str, str]:
    """``AccountName=…;AccountKey=…;BlobEndpoint=…;SharedAccessSignature=…;EndpointSuffix=…`` -> what obstore calls them."""
    words = [word.partition("=") for word in text.split(";") if "=" in word]
    given = {key.strip().lower(): value.strip() for key, _, value in words}
    config = {name: given[key] for key, name in _AZURE.items() if given.get(key)}
    if "endpoint" not in config and given.get("endpointsuffix") and given.get("accountname"):
        protocol = given.get("defaultendpointsprotocol", "https")
        config["endpoint"] = f"{protocol}://{given['accountname']}.blob.{given['endpointsuffix']}"
    return config


class ObstoreBackend:
    """The objects of ``store`` (of obstore) below ``prefix``. Calls may run concurrently. ``refused``: characters that it would change."""

    def __init__(self, store: Any, prefix: str, place: str, *, refused: str = "") -> None:
        self._store = store
        self._refused = refused
        self._prefix = "".join(f"{part}/" for part in prefix.split("/") if part)
        self._place = place
        self._obstore = _obstore()

    @property
    def description(self) -> str:
        """The URL."""
        return self._place

    def __repr__(self) -> str:
        return f"ObstoreBackend({self._place!r})"

    def capabilities(self) -> Capabilities:
        """Parts are obstore's business, so an interrupted upload begins anew."""
        return _CAPABILITIES

    def supports_concurrency(self) -> bool:
        """Always."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """In order of names; read whole, since obstore lists one level only in one piece."""
        action = f"list {self._place}"
        with self._errors(action):
            found = await self._obstore.list_with_delimiter_async(self._store, self._prefix or None)
        async with aclosing(self._infos(found["objects"], prefix)) as infos:
            yield infos

    async def stat(self, name: str) -> ObjectInfo:
        """Size and mtime. Raises NotFound."""
        path = self._path(name)
        with self._errors(f"stat {name!r} at {self._place}"):
            return _info(name, await self._obstore.head_async(self._store, path))

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The bytes from ``start``, at most ``length``; NotFound on entering."""
        path, action = self._path(name), f"get {name!r} from {self._place}"
        if (start or length is not None) and (
            (await self.stat(name)).size <= start or length == 0
        ):  # it would be refused, as what is absent
            yield nothing()
            return
        options: dict[str, Any] = {}
        if start or length is not None:
            options["range"] = {"offset": start} if length is None else (start, start + length)
        with self._errors(action):
            found = await self._obstore.get_async(self._store, path, options=options)
        async with aclosing(self._chunks(found, action)) as chunks:
            yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Store ``body``. Raises IntegrityError if it gives fewer or more bytes than its size."""
        return await self._put(name, body, "overwrite")

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """As ``put``, for bodies that fit into memory: parts know no condition. Raises Precondition."""
        return await self._put(name, body, "create")

    async def delete(self, name: str) -> None:
        """Remove it; absent is success."""
        path = self._path(name)
        with suppress(NotFound), self._errors(f"delete {name!r} at {self._place}", ambiguous=True):
            await self._obstore.delete_async(self._store, path)

    async def aclose(self) -> None:
        """Connections go with the store."""

    async def _put(self, name: str, body: Body, mode: str) -> ObjectInfo:
        path, action = self._path(name), f"put {name!r} to {self._place}"
        send, receive = anyio.create_memory_object_stream[bytes](0)
        pieces = Pieces(receive)
        with ungrouped(), send, receive:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pump, body, b"", b"", send)
                try:
                    await self._send(path, body.size, pieces, mode)
                except BackendError:
                    raise
                except Exception:
                    with self._errors(action, ambiguous=pieces.begun, writing=True):
                        raise
        return ObjectInfo(name, body.size)

    async def _send(self, path: str, size: int, pieces: Pieces, mode: str) -> None:
        if size <= _PART or mode == "create":
            data = bytearray()
            async for piece in pieces:
                data += piece
            await self._obstore.put_async(self._store, path, bytes(data), mode=mode, use_multipart=False)
        else:
            part = max(_PART, -(-size // 9_000))
            await self._obstore.put_async(
                self._store, path, pieces, mode=mode, use_multipart=True, chunk_size=part, max_concurrency=_PARTS_AT_ONCE
            )

    async def _infos(self, objects: Iterable[Mapping[str, Any]], prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        for found in objects:
            name = found["path"].removeprefix(self._prefix)
            if name.startswith(prefix) and name not in ("", ".", "..") and "/" not in name:
                yield _info(name, found)

    async def _chunks(self, found: Any, action: str) -> AsyncGenerator[bytes, None]:
        stream = found.stream(min_chunk_size=PIECE)
        while True:
            with self._errors(action):
                try:
                    chunk = bytes(await anext(stream))
                except StopAsyncIteration:
                    return
            for at in range(0, len(chunk), 1 << 20):
                yield chunk[at : at + (1 << 20)]

    def _path(self, name: str) -> str:
        check_name(name)
        if any(char in name for char in self._refused):
            raise BadRequest(f"{name!r} cannot be the name of an object at {self._place}")
        try:
            name.encode()
        except UnicodeEncodeError as exc:
            raise BadRequest(f"{name!r} is not UTF-8, which {self._place} cannot name") from exc
        return self._prefix + name

    @contextmanager
    def _errors(self, action: str, *, ambiguous: bool = False, writing: bool = False) -> Iterator[None]:
        """Let obstore's errors out as BackendErrors; what is no error of the store passes."""
        kinds = self._obstore.exceptions
        try:
            yield
        except (kinds.BaseError, OSError, ValueError) as exc:
            raise _classify(exc, kinds, action, ambiguous, writing) from exc


def _classify(exc: Exception, kinds: Any, action: str, ambiguous: bool, writing: bool) -> BackendError:
    message = f"{action}: {str(exc).strip().splitlines()[0][:500] if str(exc).strip() else type(exc).__name__}"
    words = str(exc).lower()
    if isinstance(exc, FileNotFoundError):
        return OperatorError(message, hint="make the bucket first") if writing else NotFound(message)
    if isinstance(exc, (kinds.AlreadyExistsError, kinds.PreconditionError)):
        return Precondition(message)
    if isinstance(exc, (kinds.PermissionDeniedError, kinds.UnauthenticatedError)):
        return OperatorError(message, hint="check the credentials, and what they may do there")
    if isinstance(exc, kinds.InvalidPathError):
        return BadRequest(message)
    if any(word in words for word in _SLOWER):
        return RetryableError(message, scope="lane", throttle=True)
    if any(word in words for word in _LOGIN):
        return OperatorError(message, hint="check the credentials: GOOGLE_APPLICATION_CREDENTIALS, AZURE_CONNECTION_STRING")
    return RetryableError(message, ambiguous=ambiguous)


def _info(name: str, found: Mapping[str, Any]) -> ObjectInfo:
    modified = found.get("last_modified")
    return ObjectInfo(name, found["size"], None if modified is None else modified.timestamp())


def _need_container(location: Location, what: str) -> None:
    if not location.host:
        raise UsageError(f"{location.description} names no {what}", hint=f"write {location.scheme}://{what.upper()}/folder")


def _store(kind: str, container: str, config: dict[str, str], options: BackendOptions) -> Any:
    obstore = _obstore()
    client = {"timeout": _FOREVER, "connect_timeout": timedelta(seconds=options.timeout)}
    if config.get("endpoint", "").startswith("http://"):
        client["allow_http"] = True  # type: ignore[assignment]
    make = getattr(importlib.import_module("obstore.store"), kind)
    try:
        return make(container, config=config, client_options=client, retry_config=_NO_RETRIES)
    except (obstore.exceptions.BaseError, OSError, ValueError) as exc:
        raise UsageError(f"{container}: {str(exc).splitlines()[0]}", hint="check the credentials in the environment") from exc


def _obstore() -> Any:
    try:
        return importlib.import_module("obstore")
    except ImportError as exc:
        raise UsageError("gs:// and azure:// need the package obstore", hint="pip install 'asyncdup[objstore]'") from exc
