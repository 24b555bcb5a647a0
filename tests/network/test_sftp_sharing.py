"""Several connections on one file, and how many round trips calls take, on real servers."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import asyncssh
import psutil
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.sftp import ssh_pool
from asyncdup.backends.sftp.backend import SftpBackend
from asyncdup.errors import NotFound

pytestmark = pytest.mark.realtime
MIB = 1 << 20

# Built by conftest.py, which tests cannot import: where a server is.
Place = Any


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are dialled ahead come up, however slow this machine is."""
    monkeypatch.setattr(ssh_pool, "_LEAST_PATIENCE", 60.0)


@asynccontextmanager
async def closing(backend: SftpBackend) -> AsyncGenerator[SftpBackend, None]:
    try:
        yield backend
    finally:
        await backend.aclose()


async def contents(backend: SftpBackend, name: str) -> bytes:
    async with backend.get(name) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def names(backend: SftpBackend) -> set[str]:
    async with backend.list() as infos:
        return {info.name async for info in infos}


def counting() -> tuple[type[asyncssh.SFTPServer], dict[str, set[object]]]:
    """A server that notes which connections did what."""
    seen: dict[str, set[object]] = {"read": set(), "write": set()}

    class Counting(asyncssh.SFTPServer):
        def read(self, file_obj: object, offset: int, size: int) -> Any:
            seen["read"].add(self.connection)
            return super().read(file_obj, offset, size)

        def write(self, file_obj: object, offset: int, data: bytes) -> Any:
            seen["write"].add(self.connection)
            return super().write(file_obj, offset, data)

    return Counting, seen


async def test_the_first_listing_dials_all_connections_that_were_announced(serve: Any) -> None:
    """Performance, section 9.4: they take many round trips, all of them the same time."""
    async with serve() as place, closing(place.backend(concurrency=5)) as backend:
        await names(backend)

        assert backend.pool.statistics().connections == 5


async def test_connections_that_are_refused_ahead_are_no_error(make_sshd: Callable[..., Place]) -> None:
    async with closing(make_sshd("MaxStartups 2").backend(concurrency=8)) as backend:
        await backend.put("x", BytesBody(b"x"))

        assert await names(backend) == {"x"}


async def test_one_large_file_goes_over_all_connections_both_ways(serve: Any) -> None:
    sftp, seen = counting()
    data = os.urandom(12 * MIB + 5)
    async with serve(sftp=sftp) as place, closing(place.backend(concurrency=3)) as backend:
        await names(backend)
        await backend.put("x", BytesBody(data))

        assert (place.folder / "target/x").read_bytes() == data
        assert await contents(backend, "x") == data
        assert (len(seen["write"]), len(seen["read"])) == (3, 3)
        assert await names(backend) == {"x"}
        assert backend.pool.statistics().unanswered == 0


async def test_many_large_files_at_once_come_back_as_they_went(sshd: Place) -> None:
    bodies = {f"vol{number}": os.urandom(3 * MIB + number) for number in range(6)}
    got: dict[str, bytes] = {}

    async def get(name: str) -> None:
        got[name] = await contents(backend, name)

    async with closing(sshd.backend(concurrency=4)) as backend:
        await names(backend)
        async with anyio.create_task_group() as tasks:
            for name, data in bodies.items():
                tasks.start_soon(backend.put, name, BytesBody(data))
        async with anyio.create_task_group() as tasks:
            for name in bodies:
                tasks.start_soon(get, name)

        assert got == bodies


async def test_a_connection_that_dies_while_it_helps_costs_the_upload_nothing(serve: Any) -> None:
    data = os.urandom(24 * MIB)
    async with serve() as place, closing(place.backend(concurrency=3)) as backend:
        await names(backend)

        async def cut() -> None:
            while True:
                helping = [each for each in backend.pool.connections() if each.unanswered and not each.ops]
                if helping:
                    helping[0].abort()
                    return
                await anyio.sleep(0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut)
            await backend.put("x", BytesBody(data))

        assert (place.folder / "target/x").read_bytes() == data


async def test_a_server_that_lets_nobody_else_write_gets_the_file_from_one(serve: Any) -> None:
    class Jealous(asyncssh.SFTPServer):
        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            if pflags & asyncssh.FXF_WRITE and not pflags & asyncssh.FXF_CREAT:
                raise asyncssh.SFTPFailure("somebody else is writing")
            return super().open(path, pflags, attrs)

    data = os.urandom(6 * MIB)
    async with serve(sftp=Jealous) as place, closing(place.backend(concurrency=3)) as backend:
        await names(backend)
        await backend.put("x", BytesBody(data))

        assert (place.folder / "target/x").read_bytes() == data


async def test_a_get_does_not_wait_for_its_close(serve: Any) -> None:
    class Slow(asyncssh.SFTPServer):
        async def close(self, file_obj: object) -> None:
            super().close(file_obj)
            await anyio.sleep(600)

    async with serve(sftp=Slow) as place, closing(place.backend()) as backend:
        (place.folder / "target").mkdir()
        (place.folder / "target/x").write_bytes(b"x")
        with anyio.fail_after(60):
            assert await contents(backend, "x") == b"x"


@pytest.mark.slow
async def test_puts_and_gets_cut_off_at_any_moment_leave_no_handle_no_temporary_name_and_no_room_taken(
    sshd: Place, shared_sshd: Place
) -> None:
    rng = random.Random(5)
    stored: set[str] = set()

    async def there_and_back(name: str) -> None:
        data = rng.randbytes(rng.choice([0, 10, 300_000, 2_000_000, 5_000_000]))
        with anyio.move_on_after(rng.choice([0.001, 0.02, 0.1, 30, 30])) as putting:
            await backend.put(name, BytesBody(data))
        stored.update(() if putting.cancelled_caught else (name,))
        with anyio.move_on_after(rng.choice([0.001, 0.02, 0.1, 30, 30])):
            try:
                assert await contents(backend, name) == data
            except NotFound:
                assert name not in stored

    async with closing(sshd.backend(concurrency=6)) as backend:
        await names(backend)
        for turn in range(3):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(there_and_back, f"vol{turn}.{number}")
        with anyio.fail_after(60):
            while backend.pool.statistics().unanswered or open_below(shared_sshd, sshd.folder):
                await anyio.sleep(0.02)

        assert not [name for name in await names(backend) if name.startswith(".asyncdup-")]
        assert stored <= await names(backend)
        assert backend.pool.statistics().ops == 0


def open_below(server: Place, folder: os.PathLike[str]) -> list[str]:
    """What the server's processes have open below ``folder``."""
    processes = psutil.Process(server.process.pid).children(recursive=True)
    found: list[str] = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += [file.path for file in process.open_files() if file.path.startswith(os.fspath(folder))]
    return found
