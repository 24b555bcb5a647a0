"""What the SFTP backend promises, on OpenSSH's sshd and on asyncssh's server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncssh
import pytest

from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.sftp.backend import SftpBackend
from asyncdup.errors import BadRequest, IntegrityError, NotFound, OperatorError, RetryableError

pytestmark = pytest.mark.realtime
MIB = 1 << 20

# Built by conftest.py, which tests cannot import: Place is where a server is, Sshd one that can be killed and started again.
Place = Any
Sshd = Any


class SteppedBody:
    """A body that gives one chunk after another, and calls ``between`` before each."""

    def __init__(self, chunks: list[bytes], between: Callable[[int], Awaitable[None]], *, size: int | None = None) -> None:
        self._chunks = chunks
        self._between = between
        self.size = sum(map(len, chunks)) if size is None else size
        self.digests: Mapping[str, str] = {}

    @asynccontextmanager
    async def open(self, start: int = 0) -> AsyncGenerator[AsyncIterator[bytes], None]:
        async def chunks() -> AsyncGenerator[bytes, None]:
            for number, chunk in enumerate(self._chunks):
                await self._between(number)
                yield chunk

        iterator = chunks()
        try:
            yield iterator
        finally:
            await iterator.aclose()


async def contents(backend: SftpBackend, name: str, **part: Any) -> bytes:
    async with backend.get(name, **part) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def listed(backend: SftpBackend, prefix: str = "") -> dict[str, ObjectInfo]:
    async with backend.list(prefix) as infos:
        return {info.name: info async for info in infos}


async def insist(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Call until it succeeds: the knock by which a new server's readiness was seen may still count as one that has not logged in."""
    while True:
        try:
            await call(*args)
        except RetryableError:
            await anyio.sleep(0.01)
        else:
            return


@asynccontextmanager
async def closing(backend: SftpBackend) -> AsyncGenerator[SftpBackend, None]:
    try:
        yield backend
    finally:
        await backend.aclose()


async def test_objects_come_back_as_they_were_put_and_replaced_objects_are_gone(any_server: Callable[[], Any]) -> None:
    data = os.urandom(3 * MIB + 12_345)
    async with any_server() as place, closing(place.backend("made/on the way")) as backend:
        assert await listed(backend) == {}

        first = await backend.put("vol1", BytesBody(b"old"))
        stored = await backend.put("vol1", BytesBody(data))
        await backend.put("empty", BytesBody(b""))

        assert (first.size, stored.size, stored.name) == (3, len(data), "vol1")
        assert {name: info.size for name, info in (await listed(backend)).items()} == {"vol1": len(data), "empty": 0}
        assert set(await listed(backend, "vol")) == {"vol1"}
        assert await contents(backend, "vol1") == data
        assert await contents(backend, "empty") == b""
        assert (await backend.stat("vol1")).size == len(data)


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 0), (0, 1), (1, None), (131_071, 131_074), (MIB, MIB), (2_500_000, None), (2_500_001, 5), (3_000_000, 1)],
)
async def test_a_range_gives_just_its_bytes(sshd: Place, start: int, length: int | None) -> None:
    data = os.urandom(2_500_001)
    async with closing(sshd.backend()) as backend:
        await backend.put("x", BytesBody(data))

        assert await contents(backend, "x", start=start, length=length) == data[start : None if length is None else start + length]


async def test_move_replaces_and_delete_of_what_is_absent_succeeds(any_server: Callable[[], Any]) -> None:
    async with any_server() as place, closing(place.backend()) as backend:
        await backend.put("a", BytesBody(b"new"))
        await backend.put("b", BytesBody(b"old"))

        await backend.move("a", "b")
        await backend.delete("a")
        assert await contents(backend, "b") == b"new"
        await backend.delete("b")
        await backend.delete("b")
        assert await listed(backend) == {}


async def test_what_is_absent_is_not_found_on_entering(any_server: Callable[[], Any]) -> None:
    async with any_server() as place, closing(place.backend()) as backend:
        for folder_exists in (False, True):
            with pytest.raises(NotFound):
                await backend.stat("x")
            with pytest.raises(NotFound):
                async with backend.get("x"):
                    raise AssertionError("entered")
            with pytest.raises(NotFound):
                await backend.move("x", "y")
            await backend.delete("x")
            if not folder_exists:
                await backend.put("other", BytesBody(b""))


async def test_a_server_without_posix_rename_overwrites_all_the_same(bare_sshd: Any) -> None:
    """I3: delete, then rename; a name never shows half an object."""
    async with closing(bare_sshd.backend()) as backend:
        await backend.put("x", BytesBody(b"1"))
        await backend.put("x", BytesBody(b"2"))

        assert await contents(backend, "x") == b"2"
        assert set(await listed(backend)) == {"x"}


async def test_one_slash_is_the_login_folder_and_two_are_absolute(make_sshd: Any, tmp_path: Path) -> None:
    place = make_sshd()
    async with (
        closing(place.backend("")) as login,
        closing(place.backend("a/b/")) as below,
        closing(place.backend(f"/{tmp_path}/abs")) as absolute,
    ):
        for backend in (login, below, absolute):
            await backend.put("x", BytesBody(b"x"))
            assert list(await listed(backend)) == ["x"]

    assert (place.folder / "x").is_file()
    assert (place.folder / "a/b/x").is_file()
    assert (tmp_path / "abs/x").is_file()


async def test_folders_are_no_objects_and_links_to_files_are(sshd: Place) -> None:
    target = sshd.folder / "target"
    (target / "folder").mkdir(parents=True)
    (target / "file").write_bytes(b"12345")
    (target / "link").symlink_to("file")
    (target / "dangling").symlink_to("nowhere")
    (target / "to-folder").symlink_to("folder")
    async with closing(sshd.backend()) as backend:
        assert {name: info.size for name, info in (await listed(backend)).items()} == {"file": 5, "link": 5}
        with pytest.raises(NotFound):
            await backend.stat("folder")


async def test_names_that_are_no_text_go_and_come(sshd: Place) -> None:
    name = os.fsdecode(b"caf\xe9 -rf *\n")
    async with closing(sshd.backend()) as backend:
        await backend.put(name, BytesBody(b"x"))

        assert set(await listed(backend)) == {name}
        assert (sshd.folder / "target" / name).is_file()
        with pytest.raises(BadRequest):
            await backend.put("../x", BytesBody(b"x"))


async def test_a_body_that_breaks_its_word_stores_nothing(sshd: Place) -> None:
    async def nothing(_: int) -> None: ...

    async with closing(sshd.backend()) as backend:
        for chunks, size in (([b"ab"], 3), ([b"ab", b"cd"], 3)):
            with pytest.raises(IntegrityError):
                await backend.put("x", SteppedBody(chunks, nothing, size=size))
        assert await listed(backend) == {}


async def test_an_error_of_the_body_comes_out_as_it_is_and_leaves_nothing(sshd: Place) -> None:
    """C4: a failing spool is not the server's fault."""
    failure = OSError(5, "the local disk")

    async def fail(number: int) -> None:
        if number == 1:
            raise failure

    async with closing(sshd.backend()) as backend:
        with pytest.raises(OSError, match="the local disk") as caught:
            await backend.put("x", SteppedBody([b"a" * MIB, b"b"], fail))

        assert caught.value is failure
        assert await listed(backend) == {}


async def test_a_cancelled_put_leaves_nothing_and_the_connection_lives(sshd: Place) -> None:
    async with closing(sshd.backend()) as backend:
        await backend.put("before", BytesBody(b""))
        for step in range(3):
            with anyio.CancelScope() as scope:

                async def cancel(number: int, scope: anyio.CancelScope = scope, step: int = step) -> None:
                    if number == step:
                        scope.cancel()
                        await anyio.sleep(0)

                await backend.put("x", SteppedBody([b"a" * MIB] * 3, cancel))
            assert scope.cancelled_caught
            assert set(await listed(backend)) == {"before"}
        assert backend.pool.statistics().connections == 1


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 13, 21])
async def test_a_put_cancelled_at_any_turn_leaves_at_most_a_temporary_name(sshd: Place, turns: int) -> None:
    async with closing(sshd.backend()) as backend:
        await backend.put("before", BytesBody(b""))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.put, "x", BytesBody(b"a" * MIB))
            for _ in range(turns):
                await anyio.sleep(0)
            tasks.cancel_scope.cancel()

        assert {name for name in await listed(backend) if not name.startswith(".asyncdup-")} <= {"before", "x"}
        await backend.put("x", BytesBody(b"again"))
        assert await contents(backend, "x") == b"again"


async def test_leaving_a_get_early_gives_the_connection_back_and_errors_of_its_reader_come_out_bare(sshd: Place) -> None:
    data = os.urandom(4 * MIB)
    async with closing(sshd.backend()) as backend:
        await backend.put("x", BytesBody(data))

        async with backend.get("x") as chunks:
            assert data.startswith(await anext(aiter(chunks)))
        with pytest.raises(ZeroDivisionError):
            async with backend.get("x") as chunks:
                async for _ in chunks:
                    raise ZeroDivisionError

        assert await contents(backend, "x") == data
        assert backend.pool.statistics().connections == 1


async def test_a_get_holds_no_more_than_its_read_ahead(sshd: Place) -> None:
    """P9: a slow reader does not let the file pile up in memory."""
    async with closing(sshd.backend()) as backend:
        await backend.put("x", BytesBody(bytes(8 * MIB)))
        async with backend.get("x") as chunks:
            iterator = aiter(chunks)
            sizes = [len(await anext(iterator))]
            await anyio.sleep(0.1)
            sizes.append(len(await anext(iterator)))

            assert max(sizes) <= MIB


async def test_a_lost_server_is_retryable_and_the_same_backend_works_when_it_is_back(make_sshd: Any) -> None:
    """P11, C2: ambiguous, since the body had begun; nothing but a temporary name stays."""
    place: Sshd = make_sshd()

    async def kill(number: int) -> None:
        if number == 2:
            place.kill()

    async with closing(place.backend(concurrency=2)) as backend:
        with pytest.raises(RetryableError) as caught:
            await backend.put("x", SteppedBody([b"a" * MIB] * 6, kill))
        assert caught.value.ambiguous
        assert not isinstance(caught.value, OperatorError)
        with pytest.raises(RetryableError) as refused:
            await backend.put("x", BytesBody(b"b"))
        assert (refused.value.scope, refused.value.ambiguous) == ("lane", False)

        place.start()
        await backend.put("x", BytesBody(b"b"))

        assert await contents(backend, "x") == b"b"
        assert all(name == "x" or name.startswith(".asyncdup-") for name in await listed(backend))


async def test_a_get_that_loses_its_server_is_retryable(make_sshd: Any) -> None:
    place: Sshd = make_sshd()
    async with closing(place.backend()) as backend:
        await backend.put("x", BytesBody(bytes(8 * MIB)))
        with pytest.raises(RetryableError):
            async with backend.get("x") as chunks:
                async for _ in chunks:
                    if place.process is not None:
                        place.kill()


async def test_a_read_only_server_needs_an_operator(make_sshd: Any) -> None:
    place: Sshd = make_sshd(sftp_flags="-R")
    (place.folder / "target").mkdir()
    (place.folder / "target" / "x").write_bytes(b"x")
    async with closing(place.backend()) as backend:
        for call in (backend.put("y", BytesBody(b"y")), backend.delete("x"), backend.move("x", "z")):
            with pytest.raises(OperatorError) as caught:
                await call
            assert caught.value.scope == "lane"
        assert await contents(backend, "x") == b"x"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_is_told_from_other_failures_and_leaves_room_again(sshd: Place, small_disk: Path) -> None:
    """OpenSSH says "Failure" only; ``statvfs@openssh.com`` tells why (engine-semantics, section 3)."""
    async with closing(sshd.backend(f"/{small_disk}")) as backend:
        with pytest.raises(OperatorError) as caught:
            await backend.put("big", BytesBody(bytes(4 * MIB)))

        assert caught.value.space
        assert os.listdir(small_disk) == []
        await backend.put("small", BytesBody(bytes(MIB)))


def holding(until: Callable[[set[object]], bool]) -> tuple[type[asyncssh.SFTPServer], anyio.Event, set[object]]:
    """A server that answers no WRITE before ``until`` is true of the connections that sent one, or the event is set."""
    connections: set[object] = set()
    go = anyio.Event()

    class Holding(asyncssh.SFTPServer):
        async def write(self, file_obj: object, offset: int, data: bytes) -> int:  # type: ignore[override]
            connections.add(self.connection)
            if until(connections):
                go.set()
            await go.wait()
            return super().write(file_obj, offset, data)  # type: ignore[return-value]

    return Holding, go, connections


@pytest.mark.parametrize(("concurrency", "window"), [(5, MIB), (1, 2 * MIB)])
async def test_what_is_unanswered_on_a_connection_is_bounded(serve: Any, concurrency: int, window: int) -> None:
    """Performance, section 10.1: bytes given to a connection that stalls cannot go over another one."""
    sftp, go, _ = holding(lambda connections: False)
    async with serve(sftp=sftp) as place, closing(place.backend(concurrency=concurrency)) as backend:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(backend.put, "x", BytesBody(bytes(5 * MIB)))
                while backend.pool.statistics().unanswered < 0.7 * window:
                    await anyio.sleep(0.005)
                await anyio.sleep(0.02)
                assert backend.pool.statistics().unanswered <= window
                go.set()

        assert backend.pool.statistics().unanswered == 0
        assert (await backend.stat("x")).size == 5 * MIB


async def test_concurrency_n_is_n_connections_at_once(serve: Any) -> None:
    """No WRITE is answered before all of them have begun, each on its own connection."""
    sftp, _, connections = holding(lambda connections: len(connections) == 5)
    async with serve(sftp=sftp) as place, closing(place.backend(concurrency=5)) as backend:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(backend.put, f"vol{number}", BytesBody(b"x"))

        assert len(connections) == 5
        assert len(await listed(backend)) == 5


async def test_more_calls_than_connections_share_them(serve: Any) -> None:
    """Two calls that need each other, as a copy within one place, never wait for each other's connection."""
    async with serve() as place, closing(place.backend(concurrency=1)) as backend:
        await backend.put("a", BytesBody(b"a" * MIB))

        class Other:
            size, digests = MIB, {}

            def open(self, start: int = 0) -> Any:
                return backend.get("a", start=start)

        with anyio.fail_after(60):
            await backend.put("b", Other())  # type: ignore[arg-type]
        assert (await backend.stat("b")).size == MIB
        assert backend.pool.statistics().connections == 1


async def test_a_refused_connection_lowers_the_ceiling_and_is_no_error(make_sshd: Any) -> None:
    """sshd drops what is above MaxStartups while it has not logged in."""
    async with closing(make_sshd("MaxStartups 1").backend(concurrency=4)) as backend:
        await insist(backend.put, "first", BytesBody(b""))
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(backend.put, f"vol{number}", BytesBody(bytes(100_000)))

        assert len(await listed(backend)) == 9
        assert 1 <= backend.pool.statistics().ceiling < 4


async def test_eight_parallel_puts_and_gets_keep_their_bytes_apart(sshd: Place) -> None:
    bodies = {f"vol{number}": os.urandom(700_000 + number) for number in range(8)}
    got: dict[str, bytes] = {}

    async def there_and_back(name: str, data: bytes) -> None:
        await backend.put(name, BytesBody(data))
        got[name] = await contents(backend, name)

    async with closing(sshd.backend(concurrency=4)) as backend:
        async with anyio.create_task_group() as tasks:
            for name, data in bodies.items():
                tasks.start_soon(there_and_back, name, data)
        assert backend.pool.statistics().connections <= 4

    assert got == bodies


async def test_a_short_answer_in_mid_file_is_not_its_end(serve: Any) -> None:
    class Stingy(asyncssh.SFTPServer):
        def read(self, file_obj: object, offset: int, size: int) -> Any:
            return super().read(file_obj, offset, min(size, 50_000))

    data = os.urandom(700_000)
    async with serve(sftp=Stingy) as place, closing(place.backend()) as backend:
        await backend.put("x", BytesBody(data))

        assert await contents(backend, "x") == data


async def test_what_was_written_is_durable_before_it_gets_its_name(serve: Any) -> None:
    """P6: ``fsync@openssh.com``, then ``posix-rename@openssh.com``."""
    done: list[str] = []

    class Noting(asyncssh.SFTPServer):
        def fsync(self, file_obj: object) -> Any:
            done.append("fsync")
            return super().fsync(file_obj)

        def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
            done.append("rename")
            return super().posix_rename(oldpath, newpath)

    async with serve(sftp=Noting) as place, closing(place.backend()) as backend:
        await backend.put("x", BytesBody(b"12345"))

    assert done == ["fsync", "rename"]


async def test_a_size_that_the_server_denies_is_no_success(serve: Any) -> None:
    """P5: the size is confirmed by the server before the name appears."""

    class Lossy(asyncssh.SFTPServer):
        def write(self, file_obj: object, offset: int, data: bytes) -> Any:
            return super().write(file_obj, offset, data[:-1])

    async with serve(sftp=Lossy) as place, closing(place.backend()) as backend:
        with pytest.raises(RetryableError):
            await backend.put("x", BytesBody(b"12345"))
        assert await listed(backend) == {}
