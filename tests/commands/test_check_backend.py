"""``asyncdup check-backend``: promises, speed, exit code; and that it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.base import Backend, Body, LinkSigns, ObjectInfo, Part
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend, Store
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend, register_backend
from asyncdup.backends.tcp import Controls
from asyncdup.cli.main import main
from asyncdup.cli.report_backends import check_backend_json, check_backend_lines
from asyncdup.commands.backends import ABILITIES, list_backends
from asyncdup.commands.check_backend import check_backend
from asyncdup.commands.options import Control
from asyncdup.errors import BackendError, Drained, OperatorError, Unsupported
from asyncdup.testing.slow import SlowBackend


class Forgetful(MemoryBackend):
    """Says that it honours ranges, and sends everything."""

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        async with super().get(name) as chunks:
            yield chunks


class WithoutLists(MemoryBackend):
    """As some S3 servers: parts, but no way to ask for them."""

    async def list_parts(self, name: str, upload: str) -> list[Part]:
        raise Unsupported("there is no such call")


class Locked(MemoryBackend):
    def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        raise OperatorError("no entry", hint="find the key")

    async def put(self, name: str, body: object) -> ObjectInfo:
        raise OperatorError("no entry", hint="find the key")


class FarAway(MemoryBackend):
    """Over connections that lose a packet in a hundred, far from here."""

    looks = 0

    async def put(self, name: str, body: Body) -> ObjectInfo:
        await anyio.sleep(0.1)
        return await super().put(name, body)

    def link_signs(self) -> Sequence[LinkSigns]:
        self.looks += 1
        return [LinkSigns(window=1 << 16, rtt=0.1, least_rtt=0.1, sent=100 * self.looks, sent_again=self.looks, congestion="cubic")]


@pytest.fixture(autouse=True)
def a_small_speed_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_MIB": 1 << 16, "_MOST": 24, "_MEASURE": 1.0}.items():
        monkeypatch.setattr(f"asyncdup.commands.check_backend.{name}", value)


@pytest.fixture
def store() -> Store:
    """What every backend of the test's scheme sees."""
    return {}


def register(make: type[MemoryBackend], store: Store, *, latency: float = 0.0) -> None:
    def factory(location: object, options: BackendOptions) -> Backend:
        backend: Backend = make(store)
        return SlowBackend(backend, latency=latency) if latency else backend

    register_backend("tried", factory)


async def test_a_good_place_keeps_all_promises_and_is_left_as_it_was(store: Store) -> None:
    register(MemoryBackend, store, latency=0.05)
    other = MemoryBackend(store)
    await other.put("duplicity-full.20231114T221320Z.vol1.difftar.gpg", BytesBody(b"of a backup"))
    before = dict(store)
    told: list[str] = []

    found = await check_backend("tried://x", on_check=lambda name, outcome: told.append(outcome))

    assert store == before
    assert found.broken == () and len(found.passed) > 20 and len(told) == len(found.passed) + len(found.skipped)
    assert found.rtt == pytest.approx(0.05, abs=0.03)
    assert [rates.in_flight for rates in found.rates] == [1, 4, 16]
    one, four, _ = found.rates
    assert one.up and four.up and four.up > 3 * one.up  # the latency is hidden
    assert "promises kept" in list(check_backend_lines(found))[-1]
    assert json.loads(check_backend_json(found))["rates"][0]["in_flight"] == 1


async def test_a_broken_promise_is_named_with_what_was_seen(store: Store) -> None:
    register(Forgetful, store)

    found = await check_backend("tried://x")

    assert [name for name, _ in found.broken] == ["a range is what was asked for"]
    assert any(line.strip().startswith("BROKEN  a range is what was asked for") for line in check_backend_lines(found))
    assert store == {}


async def test_what_a_server_says_that_it_has_not_is_no_broken_promise(store: Store) -> None:
    register(WithoutLists, store)

    found = await check_backend("tried://x")

    assert found.broken == () and "parts become one object when they are completed" in dict(found.lacking)
    assert any(line.strip().startswith("not offered by this server: parts become") for line in check_backend_lines(found))
    assert json.loads(check_backend_json(found))["lacking"][0]["seen"].endswith("there is no such call")


async def test_a_place_without_entry_is_no_broken_promise(store: Store) -> None:
    register(Locked, store)

    with pytest.raises(OperatorError):
        await check_backend("tried://x")


@pytest.mark.parametrize("moment", [0.0, 0.31, 2.0, 7.0, 20.0, 40.0])
async def test_cancelled_at_any_moment_it_leaves_nothing(moment: float, store: Store) -> None:
    register(MemoryBackend, store, latency=0.1)

    with anyio.move_on_after(moment):
        await check_backend("tried://x")

    assert store == {}


async def test_the_first_ctrl_c_ends_it_between_two_checks(store: Store) -> None:
    register(MemoryBackend, store)
    control = Control()

    with pytest.raises(Drained):
        await check_backend("tried://x", control=control, on_check=lambda *_: control.drain())

    assert store == {}


async def test_speed_alone_tries_no_promise_and_tells_what_to_set(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    register(FarAway, store)
    monkeypatch.setattr("asyncdup.commands.check_backend.read_controls", lambda: Controls(("cubic", "bbr"), ("bbr",)))
    told: list[str] = []

    found = await check_backend("tried://x", speed_only=True, on_check=lambda name, outcome: told.append(name))

    assert told == [] and found.passed == found.broken == () and store == {}
    assert found.congestion == ("cubic",) and found.advice.loss == pytest.approx(0.01)
    shown = "\n".join(check_backend_lines(found))
    assert "promises" not in shown
    assert (
        "--concurrency" in shown
        and "% of the packets on the way up were lost" in shown
        and "--tcp-congestion=bbr" in shown
        and "sysctl net.ipv4" in shown
    )
    assert json.loads(check_backend_json(found))["advice"]["congestion"] == "bbr"


def test_exit_codes_and_json_of_the_command_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncdup.commands.check_backend._MEASURE", 0.05)  # of the real clock
    assert main(["check-backend", "--json", f"file://{tmp_path}/place"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == [] and found["capabilities"]["atomic_put"] is True
    assert list((tmp_path / "place").iterdir()) == []

    register(Forgetful, store)
    assert main(["check-backend", "tried://x"]) == 1
    assert "BROKEN  a range" in capsys.readouterr().out

    register(Locked, store)
    assert main(["check-backend", "tried://x"]) == BackendError.exit_code
    assert "find the key" in capsys.readouterr().err


def test_backends_are_listed_with_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    table = capsys.readouterr().out
    assert "file://" in table and "conditional put" in table and "the same as webdav://" in table

    assert main(["backends", "--json"]) == 0
    kinds = {kind["schemes"][0]: kind for kind in json.loads(capsys.readouterr().out)["kinds"]}
    assert kinds["sftp"]["missing"] == "" and "ranges" in kinds["sftp"]["abilities"]


def test_what_is_not_installed_comes_with_the_command_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    kinds = {kind.schemes[0]: kind for kind in list_backends({"PATH": str(tmp_path)})}

    assert kinds["rclone"].missing == "rclone" and "apt install rclone" in kinds["rclone"].install
    assert kinds["gs"].missing == "obstore" and "asyncdup[objstore]" in kinds["gs"].install
    assert kinds["file"].missing == ""


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("file:///x", {}),
        ("memory://x", {}),
        ("sftp://host/x", {}),
        ("webdav://host/x", {}),
        ("rclone://remote:/x", {}),
        ("s3:///bucket/x", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}),
        ("azure://container/x", {"AZURE_CONNECTION_STRING": "AccountName=me;AccountKey=c2VjcmV0;BlobEndpoint=http://127.0.0.1:1/me"}),
    ],
)
def test_the_table_says_what_the_backend_itself_says(
    url: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The table is written down, so that no module has to be imported for it."""
    if url.startswith("azure"):
        pytest.importorskip("obstore", reason="pip install obstore")
    program = tmp_path / "rclone"
    program.touch(mode=0o755)
    scheme = url.partition(":")[0]
    (kind,) = [kind for kind in list_backends({}) if scheme in kind.schemes]

    backend = open_backend(url, BackendOptions(environ={"PATH": str(tmp_path), **environ}))

    able = backend.capabilities()
    has = (backend.supports_concurrency(), able.ranged_get, able.parts is not None, able.put_if_absent, bool(able.checksums))
    assert dict(zip(ABILITIES, has, strict=True)) == {ability: ability in kind.abilities for ability in ABILITIES}
