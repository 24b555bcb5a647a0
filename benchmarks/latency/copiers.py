"""Small programs that copy ready files with a library, as one would write them: ``python -m benchmarks.latency.copiers NAME put|get ...``.

``asyncdup`` is the engine with a backend; the others are what it is built on or is compared with, by their public interfaces.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio

PIECE = 1 << 20
_MOST = 64  # that asyncdup may come to by itself
_DIALLED_AT_ONCE = 8  # sshd's MaxStartups refuses at random from the tenth that has not logged in


async def at_once(items: Iterable[Any], flight: int, call: Callable[[Any], Awaitable[None]]) -> None:
    """``call`` for each item by ``flight`` workers."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await call(item)

    async with anyio.create_task_group() as tasks:
        for _ in range(flight):
            tasks.start_soon(work)


async def asyncdup(options: argparse.Namespace) -> None:
    """The engine, with files that are ready or wanted."""
    ours = importlib.import_module("asyncdup")
    settings = dict(word.partition("=")[::2] for word in options.set)
    most = _MOST if options.concurrency == "auto" else options.concurrency
    given = ours.BackendOptions(concurrency=most, ssh_options=tuple(options.ssh_options), environ=os.environ, settings=settings)
    backend = ours.open_backend(options.place, given)
    try:
        async with ours.open_engine(concurrency=options.concurrency, spool_dir=options.spool) as engine:
            lane = engine.lane(backend)
            if options.direction == "put":
                async with engine.writer(lane) as writer:
                    for path in _files(options.folder):
                        await writer.put(path.name, ours.FileBody(path, path.stat().st_size))
            else:
                requests = [ours.ReadRequest(info.name, info.size) for info in await engine.list(lane)]
                async with engine.read_ordered(lane, requests) as items:
                    async for item in items:
                        os.replace(item.keep(), options.folder / item.name)
    finally:
        await backend.aclose()


async def asyncssh(options: argparse.Namespace) -> None:
    """As many connections as are asked for, on each one file at a time."""
    ssh = importlib.import_module("asyncssh")
    user, _, rest = options.place.partition("@")
    host, _, rest = rest.partition(":")
    port, _, folder = rest.partition("/")
    dialling = anyio.Semaphore(_DIALLED_AT_ONCE)
    names = iter(_files(options.folder)) if options.direction == "put" else None
    listed: list[str] = []
    ready = anyio.Event()

    async def connection(number: int) -> None:
        nonlocal names
        async with dialling:
            client = await ssh.connect(
                host,
                int(port),
                username=user,
                client_keys=[options.key],
                known_hosts=options.known_hosts,
                config=None,
                encryption_algs=["aes128-gcm@openssh.com"],
            )
        async with client, client.start_sftp_client() as sftp:
            if options.direction == "put":
                for path in names or ():
                    await sftp.put(str(path), f"/{folder}/{path.name}")
                return
            if number == 0:
                listed.extend(name for name in await sftp.listdir(f"/{folder}") if name not in (".", ".."))
                ready.set()
            await ready.wait()
            while listed:
                name = listed.pop()
                await sftp.get(f"/{folder}/{name}", str(options.folder / name))

    async with anyio.create_task_group() as tasks:
        for number in range(options.concurrency):
            tasks.start_soon(connection, number)


async def aiobotocore(options: argparse.Namespace) -> None:
    """One client, one request an object."""
    session = importlib.import_module("aiobotocore.session").get_session()
    config = importlib.import_module("aiobotocore.config").AioConfig(max_pool_connections=options.concurrency)
    async with session.create_client("s3", endpoint_url=options.endpoint, config=config) as client:

        async def put(path: Path) -> None:
            with open(path, "rb") as file:
                await client.put_object(Bucket=options.place, Key=path.name, Body=file)

        async def get(name: str) -> None:
            answer = await client.get_object(Bucket=options.place, Key=name)
            async with answer["Body"] as body:
                with open(options.folder / name, "wb") as file:
                    while piece := await body.read(PIECE):
                        file.write(piece)

        if options.direction == "put":
            await at_once(_files(options.folder), options.concurrency, put)
        else:
            listing = await client.list_objects_v2(Bucket=options.place)
            await at_once([each["Key"] for each in listing["Contents"]], options.concurrency, get)


async def obstore(options: argparse.Namespace) -> None:
    """One request an object, payload unsigned as ours."""
    library, stores = importlib.import_module("obstore"), importlib.import_module("obstore.store")
    store = stores.S3Store(
        options.place,
        endpoint=options.endpoint,
        unsigned_payload=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    async def put(path: Path) -> None:
        await library.put_async(store, path.name, path, use_multipart=False)

    async def get(name: str) -> None:
        answer = await library.get_async(store, name)
        with open(options.folder / name, "wb") as file:
            async for piece in answer.stream(min_chunk_size=PIECE):
                file.write(piece)

    if options.direction == "put":
        await at_once(_files(options.folder), options.concurrency, put)
    else:
        names = [each["path"] for batch in store.list() for each in batch]
        await at_once(names, options.concurrency, get)


COPIERS: dict[str, Callable[[argparse.Namespace], Awaitable[None]]] = {
    each.__name__: each for each in (asyncdup, asyncssh, aiobotocore, obstore)
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy, and end with a traceback where that fails: it is seen in the log."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency.copiers")
    parser.add_argument("copier", choices=COPIERS)
    parser.add_argument("direction", choices=("put", "get"))
    parser.add_argument("folder", type=Path, help="of the files on this side")
    parser.add_argument("place", help="asyncdup: a URL; asyncssh: user@host:port/folder; else a bucket")
    parser.add_argument("--concurrency", type=lambda word: word if word == "auto" else int(word), default=8, help="auto: asyncdup only")
    parser.add_argument("--ssh-options", action="append", default=[])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of asyncdup's backend")
    parser.add_argument("--spool", type=Path, help="asyncdup's folder for files on their way")
    parser.add_argument("--key")
    parser.add_argument("--known-hosts")
    parser.add_argument("--endpoint")
    options = parser.parse_args(arguments)
    asyncio.run(COPIERS[options.copier](options))  # type: ignore[arg-type]
    if options.copier == "obstore":
        os._exit(0)  # about one in eight interpreters that end with its threads aborts (0.12.1), after all was done


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


if __name__ == "__main__":
    main()
