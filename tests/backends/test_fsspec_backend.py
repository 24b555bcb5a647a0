"""fsspec's filesystems as backends: what a URL means, which run natively, errors, and the suite on those that need no server."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

fsspec = pytest.importorskip("fsspec")
known_classes: dict[str, Any] = pytest.importorskip("fsspec.registry")._registry

from asyncdup.backends.base import Backend
from asyncdup.backends.bodies import BytesBody, FileBody
from asyncdup.backends.fsspec.backend import FsspecBackend
from asyncdup.backends.fsspec.place import Place, place_of
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.urls import parse_url
from asyncdup.errors import AsyncdupError, BadRequest, IntegrityError, NotFound, OperatorError, RetryableError, UsageError
from asyncdup.testing.conformance import CHECKS, Check
from asyncdup.transfer import RetryPolicy, open_engine

SECRET = "canary-4711"


class Awaited(fsspec.AbstractFileSystem):  # type: ignore[misc,name-defined]
    """An asynchronous filesystem over a dict, with the methods that the backend awaits; ``fail`` is raised by every one."""

    protocol = "awaited"
    async_impl = True
    objects: ClassVar[dict[str, bytes]] = {}
    fail: ClassVar[Exception | None] = None
    pieces: ClassVar[list[int]] = []

    def _look(self, path: str) -> bytes:
        if self.fail is not None:
            raise self.fail
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    async def _ls(self, path: str, detail: bool) -> list[dict[str, Any]]:
        if self.fail is not None:
            raise self.fail
        entries = [await self._info(name) for name in self.objects if name.startswith(path + "/")]
        others = [(path + "/folder", "directory"), (path + "/", "file"), (path + "/..", "file")]
        return [*entries, *({"name": name, "type": kind, "size": 0} for name, kind in others)]

    async def _info(self, path: str) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": len(self._look(path))}

    async def _cat_file(self, path: str, start: int, end: int) -> bytes:
        self.pieces.append(end - start)
        return self._look(path)[start:end]

    async def _pipe_file(self, path: str, data: bytes) -> None:
        if self.fail is not None:
            raise self.fail
        self.objects[path] = data

    async def _put_file(self, local: str, path: str) -> None:
        self.objects[path] = Path(local).read_bytes()

    async def _rm_file(self, path: str) -> None:
        self._look(path)
        del self.objects[path]


@pytest.fixture
def awaited(monkeypatch: pytest.MonkeyPatch) -> type[Awaited]:
    fsspec.register_implementation("awaited", Awaited, clobber=True)
    monkeypatch.setattr(Awaited, "objects", {})
    monkeypatch.setattr(Awaited, "pieces", [])
    monkeypatch.setattr(Awaited, "fail", None)
    return Awaited


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("protocol", ["awaited", "memory", "file"])
async def test_every_promise_is_kept(check: Check, protocol: str, awaited: type[Awaited], tmp_path: Path) -> None:
    """M7."""
    backend = open_backend(f"fsspec+{protocol}://{tmp_path}/made/on-demand", BackendOptions(tempdir=tmp_path))

    @asynccontextmanager
    async def make() -> AsyncIterator[Backend]:
        try:
            yield backend
        finally:
            await backend.aclose()

    await check.run(make, many=20, big=(9 << 20) + 7 if protocol == "awaited" and "range" in check.name else (2 << 20) + 7)

    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("asyncdup-")] == []


async def test_a_large_object_comes_in_pieces_that_grow_to_eight_mebibytes(awaited: type[Awaited]) -> None:
    backend = open_backend("fsspec+awaited://x")
    awaited.objects["x/big"] = bytes(20 << 20)
    async with backend.get("big", start=1) as chunks:
        assert sum([len(chunk) async for chunk in chunks]) == (20 << 20) - 1
    assert awaited.pieces == [1 << 20, 2 << 20, 4 << 20, 8 << 20, (5 << 20) - 1]


async def test_an_object_that_shrinks_while_it_is_read_is_no_end(awaited: type[Awaited]) -> None:
    backend = open_backend("fsspec+awaited://x")
    awaited.objects["x/big"] = bytes(9 << 20)  # several pieces
    with pytest.raises(IntegrityError, match="asked for"):
        async with backend.get("big") as chunks:
            async for _ in chunks:
                awaited.objects["x/big"] = b""


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (FileNotFoundError("x"), NotFound),
        (PermissionError("x"), OperatorError),
        (OSError(28, "no space"), OperatorError),
        (TimeoutError(), RetryableError),
        (RuntimeError("HTTP 503"), RetryableError),
        (type("NoCredentialsError", (Exception,), {})("no credentials"), OperatorError),
        (TypeError("a bug"), TypeError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
async def test_errors_are_ours(raised: Exception, kind: type[Exception], awaited: type[Awaited]) -> None:
    backend = open_backend("fsspec+awaited://x")
    awaited.fail = raised
    with pytest.raises(Exception) as caught:
        await backend.stat("name")
    assert type(caught.value) is kind
    if isinstance(caught.value, AsyncdupError):
        assert caught.value.__cause__ is raised


class Sftp(fsspec.AbstractFileSystem):  # type: ignore[misc,name-defined]
    """Reads URLs as fsspec's class for SFTP does, which needs paramiko."""

    protocol = "sftp"

    @staticmethod
    def _get_kwargs_from_urls(url: str) -> dict[str, Any]:
        parts = fsspec.utils.infer_storage_options(url)
        return {name: parts[name] for name in ("host", "port", "username", "password") if name in parts}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(fsspec.utils.infer_storage_options(path)["path"])


@pytest.fixture
def sftp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_classes, "sftp", Sftp)


def place(url: str, **options: Any) -> Place:
    return place_of(parse_url(url), BackendOptions(**options))


def test_options_come_from_the_query_before_the_url_before_the_table(sftp: None, tmp_path: Path) -> None:
    table = tmp_path / "options.toml"
    table.write_text(f'[sftp]\nport = 1\ncompress = true\npassword = "{SECRET}"\n[sftp.deep]\na = 1\n')
    made = place("fsspec+sftp://me@host:22/data?timeout=5&deep.b=x&look=false&key=007", settings={"fsspec_options": str(table)})
    assert {name: made.arguments[name] for name in ("port", "compress", "password", "timeout", "deep", "look", "key")} == {
        "port": 22,
        "compress": True,
        "password": SECRET,
        "timeout": 5,
        "deep": {"a": 1, "b": "x"},
        "look": False,
        "key": "007",
    }
    assert (made.root, made.renames) == ("/data", True)
    assert SECRET not in repr(made)


def test_variables_of_fsspec_are_heard(sftp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """``FSSPEC_SFTP_COMPRESS=…``, which fsspec reads when it is imported."""
    monkeypatch.setitem(fsspec.config.conf, "sftp", {"compress": "yes"})
    assert place("fsspec+sftp://me@host/data").open().storage_options["compress"] == "yes"


def test_a_file_without_tables_for_protocols_is_one_table(tmp_path: Path) -> None:
    table = tmp_path / "options.toml"
    table.write_text("auto_mkdir = true\n")
    assert place("fsspec+file:///x", settings={"fsspec_options": str(table)}).arguments["auto_mkdir"] is True


@pytest.mark.parametrize("text", ["no toml", "file = 1\n", None])
def test_a_table_that_is_none_is_refused(text: str | None, tmp_path: Path) -> None:
    table = tmp_path / "options.toml"
    if text:
        table.write_text(text)
    with pytest.raises(UsageError, match="fsspec-options"):
        place("fsspec+file:///x", settings={"fsspec_options": str(table)})


def test_the_password_comes_from_the_environment_and_is_never_shown(sftp: None) -> None:
    made = place("fsspec+sftp://me@host/data", environ={"BACKEND_PASSWORD": SECRET})
    assert made.arguments["password"] == SECRET
    assert SECRET not in repr(made) + made.description
    assert SECRET not in place(f"fsspec+sftp://me:{SECRET}@host/data?passphrase={SECRET}").description


def test_a_class_that_trusts_any_host_key_is_told_of(sftp: None) -> None:
    said: list[str] = []
    place("fsspec+sftp://me@host/data", notify=said.append)
    assert len(said) == 1 and "host key" in said[0]


def test_sshfs_checks_host_keys_as_ssh_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own default is to trust any."""
    double = type("SshDouble", (Sftp,), {"__module__": "sshfs.spec", "async_impl": True})
    monkeypatch.setitem(known_classes, "ssh", double)
    assert place("fsspec+ssh://host/x").arguments["known_hosts"] == ()
    assert place("fsspec+ssh://host/x", known_hosts=Path("/known")).arguments["known_hosts"] == "/known"
    assert not place("fsspec+ssh://host/x").is_native, "it blocks while it connects"


def test_asynchronous_filesystems_are_awaited_and_others_run_in_threads(awaited: type[Awaited]) -> None:
    assert isinstance(open_backend("fsspec+awaited://x"), FsspecBackend)
    serial = open_backend("fsspec+memory://x")
    assert not isinstance(serial, FsspecBackend) and not serial.supports_concurrency()
    assert open_backend("fsspec+memory://x", BackendOptions(backend_concurrency=3)).capabilities().max_concurrency == 3


def test_an_unknown_protocol_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="fsspec knows no protocol nonsense"):
        open_backend("fsspec+nonsense://x")
    monkeypatch.setitem(sys.modules, "paramiko", None)
    monkeypatch.setitem(sys.modules, "smbclient", None)
    with pytest.raises(UsageError, match="smb"):
        open_backend("fsspec+smb://host/x")


def test_without_fsspec_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match="needs the package fsspec") as caught:
        open_backend("fsspec+memory://x")
    assert caught.value.hint == "pip install 'asyncdup[fsspec]'"


async def test_a_name_that_is_no_text_is_refused(awaited: type[Awaited]) -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        await open_backend("fsspec+awaited://x").put("\udcff", BytesBody(b""))


async def test_t1_pieces_shrink_where_they_take_long(awaited: type[Awaited], monkeypatch: pytest.MonkeyPatch) -> None:
    """On virtual time: the engine gives a stall up after a minute, and sees nothing of what goes on inside a piece."""

    async def slow(self: Awaited, path: str, start: int, end: int) -> bytes:
        await anyio.sleep((end - start) / 200_000)
        self.pieces.append(end - start)
        return bytes(end - start)

    monkeypatch.setattr(Awaited, "_cat_file", slow)
    awaited.objects["x/big"] = bytes(8 << 20)
    async with open_backend("fsspec+awaited://x").get("big") as chunks:
        assert sum([len(chunk) async for chunk in chunks]) == 8 << 20
    assert max(awaited.pieces) == 1 << 20


async def test_t3_the_engine_allows_for_bytes_that_it_does_not_see(
    awaited: type[Awaited], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A volume of 8 MiB at 40 KiB/s: three and a half minutes in one call."""

    async def slow(self: Awaited, local: str, path: str) -> None:
        await anyio.sleep(os.path.getsize(local) / 40_960)
        self.objects[path] = Path(local).read_bytes()

    monkeypatch.setattr(Awaited, "_put_file", slow)
    path = tmp_path / "volume"
    path.write_bytes(bytes(8 << 20))
    async with open_engine(policy=RetryPolicy(max_attempts=1), spool_dir=tmp_path) as engine:
        await engine.run(engine.lane(open_backend("fsspec+awaited://x")), "put", "big", FileBody(path, 8 << 20))
    assert len(awaited.objects["x/big"]) == 8 << 20
