"""What the folder backend does beyond the conformance suite: P6, permissions, strange things in the folder, errors of the kernel."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncdup.backends import local
from asyncdup.backends.bodies import CHUNK, BytesBody, FileBody
from asyncdup.backends.local import LocalBackend
from asyncdup.backends.oserrors import classify
from asyncdup.errors import BadRequest, IntegrityError, NotFound, OperatorError, Precondition, RetryableError
from asyncdup.threads import in_thread

BODY = BytesBody(b"body")


async def names(backend: LocalBackend, prefix: str = "") -> list[str]:
    async with backend.list(prefix) as infos:
        return sorted([info.name async for info in infos])


async def read(backend: LocalBackend, name: str) -> bytes:
    async with backend.get(name) as chunks:
        return b"".join([chunk async for chunk in chunks])


def spy(monkeypatch: pytest.MonkeyPatch, log: list[str], function: str, label: Callable[..., str]) -> None:
    real: Callable[..., Any] = getattr(os, function)

    def logged(*args: Any, **options: Any) -> Any:
        log.append(label(*args))
        return real(*args, **options)

    monkeypatch.setattr(os, function, logged)


def failing(monkeypatch: pytest.MonkeyPatch, function: str, code: int) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)


async def test_a_put_flushes_the_file_renames_it_and_flushes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6."""
    log: list[str] = []
    spy(monkeypatch, log, "fsync", lambda handle: "flush folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "flush file")
    spy(monkeypatch, log, "rename", lambda source, target: f"rename {source[:10]} {target}")

    await LocalBackend(tmp_path).put("x", BODY)

    assert log == ["flush file", "rename .asyncdup- x", "flush folder"]


async def test_the_folder_is_made_on_put_private_and_flushed_into_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6, P15: folders 0700, files 0600, whatever the umask."""
    flushed: list[str] = []
    spy(monkeypatch, flushed, "fsync", lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    before = os.umask(0)
    try:
        await LocalBackend(tmp_path / "a" / "b").put("x", BODY)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "x").stat().st_mode) == 0o600
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(flushed)


async def test_delete_and_move_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(tmp_path)
    await backend.put("x", BODY)
    flushed: list[str] = []
    spy(monkeypatch, flushed, "fsync", lambda handle: os.readlink(f"/proc/self/fd/{handle}"))

    await backend.move("x", "y")
    await backend.delete("y")

    assert flushed == [str(tmp_path)] * 2


async def test_a_location_that_is_not_there_is_empty_and_is_not_made_by_reading(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "absent")

    assert await names(backend) == []
    await backend.delete("x")
    with pytest.raises(NotFound):
        await backend.stat("x")
    with pytest.raises(NotFound):
        await read(backend, "x")
    assert not (tmp_path / "absent").exists()


async def test_a_target_that_is_a_file_needs_the_operator(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        backend = LocalBackend(folder)
        with pytest.raises(OperatorError, match="put 'x' in file://"):
            await backend.put("x", BODY)
        with pytest.raises(OperatorError):
            await names(backend)


async def test_only_regular_files_are_objects(tmp_path: Path) -> None:
    """A FIFO must not block us, a folder is no object, a link to nothing is absent."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    backend = LocalBackend(tmp_path)
    await backend.put("x", BODY)
    (tmp_path / "loop").unlink()

    assert await names(backend) == ["x"]
    for name in ("fifo", "folder", "dangling"):
        with pytest.raises(NotFound):
            await backend.stat(name)
        with pytest.raises(NotFound):
            await read(backend, name)


async def test_a_symbolic_link_is_read_through_but_never_written_through(tmp_path: Path) -> None:
    """Old volumes may have been moved to another disk and linked; a planted link must not make us write elsewhere."""
    (tmp_path / "elsewhere").write_bytes(b"precious")
    folder = tmp_path / "target"
    folder.mkdir()
    for name in ("replaced", "deleted", "kept"):
        (folder / name).symlink_to(tmp_path / "elsewhere")
    backend = LocalBackend(folder)

    assert await read(backend, "kept") == b"precious"
    assert (await backend.stat("kept")).size == 8
    await backend.put("replaced", BODY)
    await backend.delete("deleted")

    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert not (folder / "replaced").is_symlink()
    assert await names(backend) == ["kept", "replaced"]


async def test_names_that_are_no_utf8_are_kept_as_bytes(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    name = os.fsdecode(b"caf\xe9")

    await backend.put(name, BODY)

    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9"]
    assert await names(backend) == [name]
    assert await read(backend, name) == b"body"


async def test_a_long_listing_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_BATCH", 4)
    for number in range(12):
        (tmp_path / f"x{number:02}").write_bytes(b"")
    (tmp_path / "y").write_bytes(b"")

    assert await names(LocalBackend(tmp_path), "x") == [f"x{number:02}" for number in range(12)]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
async def test_put_if_absent_works_where_there_are_no_hard_links(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "link", code)
    backend = LocalBackend(tmp_path)

    await backend.put_if_absent("lock", BODY)
    with pytest.raises(Precondition):
        await backend.put_if_absent("lock", BytesBody(b"other"))

    assert await read(backend, "lock") == b"body"
    assert os.listdir(tmp_path) == ["lock"]


async def test_a_file_system_that_cannot_flush_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)

    assert (await LocalBackend(tmp_path).put("x", BODY)).size == 4


@pytest.mark.parametrize(
    ("function", "code", "error", "space"),
    [
        ("fsync", errno.ENOSPC, OperatorError, True),
        ("fsync", errno.EIO, RetryableError, False),
        ("rename", errno.EDQUOT, OperatorError, True),
        ("open", errno.EROFS, OperatorError, True),
        ("open", errno.EACCES, OperatorError, False),
    ],
)
async def test_a_put_that_fails_leaves_nothing_and_says_why(
    function: str, code: int, error: type[Exception], space: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, function, code)
        with pytest.raises(error, match="put 'x' in file://") as caught:
            await LocalBackend(tmp_path).put("x", BODY)

    assert getattr(caught.value, "space", False) is space
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(tmp_path) == []


async def test_a_full_disk_in_the_middle_of_a_put_gives_its_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P11."""
    real = local._Unfinished.write

    def write(self: local._Unfinished, chunk: bytes) -> None:
        if self._file is not None and self._file.tell() >= CHUNK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, chunk)

    monkeypatch.setattr(local._Unfinished, "write", write)

    with pytest.raises(OperatorError) as caught:
        await LocalBackend(tmp_path).put("x", BytesBody(bytes(3 * CHUNK)))

    assert caught.value.space and caught.value.exit_code == 53
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, OperatorError),
        (errno.EDQUOT, OperatorError),
        (errno.EROFS, OperatorError),
        (errno.EACCES, OperatorError),
        (errno.EPERM, OperatorError),
        (errno.ENOTDIR, OperatorError),
        (errno.ENAMETOOLONG, BadRequest),
        (errno.EINVAL, BadRequest),
        (errno.EIO, RetryableError),
        (errno.ESTALE, RetryableError),
        (errno.EMFILE, RetryableError),
        (errno.ECONNRESET, RetryableError),
        (errno.ETIMEDOUT, RetryableError),
    ],
)
def test_errors_of_the_kernel_are_classed_by_what_can_be_done(code: int, error: type[Exception]) -> None:
    """Engine semantics, section 3."""
    assert type(classify(OSError(code, os.strerror(code)), "put 'x'")) is error


def test_absence_depends_on_the_question_and_reach_on_the_cause() -> None:
    gone = FileNotFoundError(errno.ENOENT, "gone")

    assert type(classify(gone, "get", absent=True)) is NotFound
    assert type(classify(gone, "put")) is OperatorError
    for unreachable in (ConnectionRefusedError(errno.ECONNREFUSED, "no"), socket.gaierror(socket.EAI_AGAIN, "no")):
        error = classify(unreachable, "put", ambiguous=False)
        assert isinstance(error, RetryableError) and error.scope == "lane"
    lost = classify(ConnectionResetError(errno.ECONNRESET, "no"), "put", ambiguous=True)
    assert isinstance(lost, RetryableError) and lost.ambiguous and lost.scope == "op"
    assert type(classify(ssl.SSLCertVerificationError("no"), "get")) is OperatorError
    assert str(classify(TimeoutError(), "get 'x'")) == "get 'x': TimeoutError"


@pytest.mark.parametrize("late", [False, True])
async def test_cancelling_at_any_step_of_a_put_leaves_no_file_and_no_handle(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled before and after each call of the kernel: the object is there whole or not at all, and nothing else is."""
    open_before = len(os.listdir("/proc/self/fd"))
    for step in range(20):
        folder = tmp_path / str(step)
        steps_left = step

        async def cancelling(*args: Any, **options: Any) -> Any:
            nonlocal steps_left
            steps_left -= 1
            if steps_left == -1 and not late:
                scope.cancel()
            result = await in_thread(*args, **options)
            if steps_left == -1:
                scope.cancel()
            return result

        monkeypatch.setattr(local, "in_thread", cancelling)
        with anyio.CancelScope() as scope:
            await LocalBackend(folder).put("x", BytesBody(bytes(2 * CHUNK)))
            await anyio.lowlevel.checkpoint()

        left = {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}
        assert left in ({}, {"x": 2 * CHUNK}), f"step {step}"
        if not scope.cancel_called:
            assert left
            break
    assert step >= 3
    assert len(os.listdir("/proc/self/fd")) <= open_before


class GivenUp(FileBody):
    """A body as the spool has them: its file is given up."""

    def take_over(self) -> Path:
        return self.path


async def test_a_file_that_is_given_up_is_linked_and_not_copied(tmp_path: Path) -> None:
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"volume")
    backend = LocalBackend(tmp_path / "target")

    info = await backend.put("x", GivenUp(spooled, 6))

    assert info.size == 6
    assert (tmp_path / "target" / "x").stat().st_ino == spooled.stat().st_ino
    assert await names(backend) == ["x"]


async def test_a_file_that_may_still_change_is_copied(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_bytes(b"volume")
    backend = LocalBackend(tmp_path / "target")

    await backend.put("x", FileBody(own, 6))

    assert (tmp_path / "target" / "x").stat().st_ino != own.stat().st_ino


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
async def test_where_no_link_can_be_made_a_file_that_is_given_up_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"volume")
    backend = LocalBackend(tmp_path / "target")
    failing(monkeypatch, "link", code)

    await backend.put("x", GivenUp(spooled, 6))

    assert await read(backend, "x") == b"volume"
    assert await names(backend) == ["x"]


async def test_a_given_up_file_of_another_size_is_refused(tmp_path: Path) -> None:
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"volum")
    backend = LocalBackend(tmp_path / "target")

    with pytest.raises(IntegrityError):
        await backend.put("x", GivenUp(spooled, 6))

    assert await names(backend) == []


async def test_an_error_names_the_object_and_not_the_spool_file_or_a_temporary_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"body")

    def refused(source: Any, target: Any, **handles: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", source, None, target)

    monkeypatch.setattr(os, "link", refused)

    with pytest.raises(OperatorError) as caught:
        await LocalBackend(tmp_path / "target").put("x", GivenUp(spooled, 4))

    assert isinstance(caught.value.__cause__, PermissionError)
    assert (caught.value.__cause__.filename, caught.value.__cause__.filename2) == (str(tmp_path / "target" / "x"), None)
