"""A run that is steered over its control socket: X1 who may, X2 what may be said, X3 that it answers in every state; R1 by ``job resume``."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import asyncdup
from asyncdup import RetryPolicy, events
from asyncdup.cli import job as client
from asyncdup.cli.orders import parse_order
from asyncdup.commands.control import MOST_CLIENTS, control_socket, is_allowed, peer_uid
from asyncdup.commands.options import Control
from asyncdup.commands.sockets import LONGEST_PATH, folders, live_sockets, socket_path, temporary
from asyncdup.errors import AsyncdupError, UsageError
from asyncdup.events import EventHub, Notice
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise, disk_full
from asyncdup.threads import in_thread
from tests.commands.conftest import Stage, tree

pytestmark = pytest.mark.realtime

JSON_PAGE = Path(__file__).parents[2] / "docs" / "json.md"

Far = tuple[Stage, FaultyBackend]
Talk = Callable[[Callable[..., Awaitable[None]]], Awaitable[Any]]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path: pytest's own may be too long for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="x"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(client, "folders", lambda environ: folders(environ)[:1])  # not those of others on this machine
    yield folder
    shutil.rmtree(folder)


def say(*words: str) -> str:
    """What ``asyncdup job`` prints."""
    order = parse_order(["job", *words])
    assert order is not None
    out = io.StringIO()
    assert client.send_order(order, out) == 0
    return out.getvalue()


async def ask(*words: str) -> str:
    return await in_thread(say, *words)


async def status() -> dict[str, Any]:
    """X3: within 0.2 s; a busy machine gets more."""
    began = time.monotonic()
    answer: dict[str, Any] = json.loads(await ask("status", "--json"))
    assert time.monotonic() - began < 10
    return answer


async def until(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    with anyio.fail_after(60):
        while True:
            try:
                answer = await status()
            except AsyncdupError:  # not there yet
                answer = {}
            if answer and wanted(answer):
                return answer
            await anyio.sleep(0.01)


async def steered(stage: Stage, steer: Callable[[], Awaitable[None]], **changes: Any) -> Any:
    """A backup, with ``steer`` beside it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steer)
        return await stage.backup(control=Control(socket=True), concurrency=2, **changes)


@pytest.fixture
def near(far: Far) -> Far:
    stage, backend = far
    backend.inner.latency = 0.1  # type: ignore[attr-defined]
    stage.fill(10)
    return far


async def test_x2_x3_a_run_is_looked_at_paused_resumed_and_changed(near: Far, runtime: Path) -> None:
    stage, _ = near
    seen: list[dict[str, Any]] = []

    async def steer() -> None:
        await until(lambda answer: answer["volumes"]["stored"] >= 1)
        await ask("pause", "--now")
        seen.append(await until(lambda answer: answer["lanes"][0]["running"] == 0))
        await anyio.sleep(0.2)
        seen.append(await status())
        assert "paused (command)" in await ask("status")
        await ask("set-concurrency", "7")
        await ask("set-rate", "up=64M", "down=08:00,1M 20:00,off", "requests=500")
        seen.append(await status())
        await ask("resume")

    result = await steered(stage, steer)

    paused, later, changed = seen
    assert paused["state"] == later["state"] == "paused" and later["lanes"][0]["pauses"] == ["command"]
    assert paused["volumes"]["stored"] == later["volumes"]["stored"] < result.volumes
    assert changed["concurrency"] == changed["lanes"][0]["concurrency"] == 7
    assert changed["limits"] == {"upload": "64M", "download": "08:00,1M 20:00,off", "requests": 500}
    assert paused["action"] == "backup" and paused["pid"] == os.getpid() and paused["target"].startswith("far://")
    assert paused["spool"]["files"] >= 1 and paused["spool"]["bytes"] > 0
    (example,) = [json.loads(line) for line in JSON_PAGE.read_text("utf-8").splitlines() if '"command": "job status"' in line]
    assert (list(paused), list(paused["lanes"][0])) == (list(example), list(example["lanes"][0]))
    assert [(event.old, event.new) for event in stage.of(events.LimitChanged) if event.old] == [(2, 7)]
    assert list(runtime.rglob("*sock*")) == []
    assert tree(await stage.restore()) == tree(stage.source)


async def test_a7_the_operator_switches_auto_on_and_off(near: Far, runtime: Path) -> None:
    stage, _ = near
    seen: list[bool] = []

    async def steer() -> None:
        await until(lambda answer: answer["volumes"]["stored"] >= 1)
        await ask("pause")
        for number in ("auto", "3", "auto"):
            seen.append((await status())["auto"])
            await ask("set-concurrency", number)
        seen.append((await status())["auto"])
        await ask("resume")

    await steered(stage, steer)

    assert seen == [False, True, False, True]
    assert tree(await stage.restore()) == tree(stage.source)


async def test_r1_job_resume_ends_the_wait_and_is_among_the_ways_and_x3_status_answers_meanwhile(near: Far, runtime: Path) -> None:
    """The spool is full and the lane waits: status tells the cause, the hint and how to go on."""
    stage, backend = near
    backend.script("put", *[Raise(disk_full)] * 50)
    flag = stage.folder / "flag"

    async def steer() -> None:
        waiting = await until(lambda answer: answer["state"] == "waiting" and answer["spool"]["files"] >= 4)
        episode = waiting["lanes"][0]["episode"]
        assert waiting["lanes"][0]["gate"] == "WAITING" and "no space left" in episode["error"]
        command = f"asyncdup job resume --job={waiting['job']}"
        assert command in episode["resume"]
        assert command in json.loads(flag.read_bytes())["resume"]
        text = await ask("status")
        assert f"to go on: {command}" in text and "WAITING for you: " in text
        backend.heal()
        await ask("resume")

    await steered(stage, steer, retry=RetryPolicy(mode="intervention"), retry_flag=flag)

    assert [event.by for event in stage.of(events.EpisodeClosed)] == ["asyncdup job resume"]
    assert not flag.exists()


@pytest.mark.parametrize(("orders", "code"), [(["abort"], 61), (["drain"], 60), (["pause", "drain"], 60), (["pause", "abort"], 61)])
async def test_x2_abort_and_drain_end_the_run_and_the_same_command_goes_on(near: Far, runtime: Path, orders: list[str], code: int) -> None:
    stage, _ = near

    async def steer() -> None:
        await until(lambda answer: answer["volumes"]["stored"] >= 2)
        for order in orders:
            await ask(order)

    with pytest.raises(ExceptionGroup) as caught:
        await steered(stage, steer)

    (error,) = caught.value.exceptions
    assert asyncdup.exit_code_of(error) == code
    assert list(runtime.rglob("*sock*")) == []
    assert (await stage.backup()).resumed >= 2
    assert tree(await stage.restore()) == tree(stage.source)


async def test_x2_events_are_json_lines_until_the_run_ends(near: Far, runtime: Path) -> None:
    stage, _ = near
    lines: list[str] = []

    async def steer() -> None:
        await until(lambda answer: True)
        lines.extend((await ask("events")).splitlines())

    await steered(stage, steer)

    told = [json.loads(line) for line in lines]
    assert {"VolumeMade", "VolumeStored", "AttemptFinished"} <= {each["event"] for each in told}
    assert [each["seq"] for each in told] == sorted(each["seq"] for each in told)


# The socket by itself.


async def exchange(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """The answers to ``lines``; fewer if the other end hangs up."""
    answers = []
    async with await anyio.connect_unix(path) as stream:
        for line in lines:
            try:
                await stream.send(line)
                answers.append(json.loads(await stream.receive()))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                break
    return answers


def idle(hub: EventHub | None = None, **seams: Any) -> Any:
    return control_socket(Control(), hub or EventHub(job="abc"), environ=os.environ, now=lambda: 5.0, **seams)


async def test_x1_folder_and_socket_are_for_their_owner_alone(runtime: Path) -> None:
    async with idle() as path:
        assert path == runtime / "asyncdup" / "abc.sock"
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]
        assert (await status())["state"] == "starting"
    assert not path.exists()


async def test_x1_another_user_is_sent_away_without_an_answer(runtime: Path) -> None:
    async with idle(peer=lambda connection: os.getuid() + 1) as path:
        assert await exchange(path, b'{"v":1,"cmd":"status"}\n') == []
    async with idle(peer=lambda connection: 0) as path:
        assert len(await exchange(path, b'{"v":1,"cmd":"status"}\n')) == 1, "root"


def test_x1_who_is_allowed() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) in (os.getuid(), None)
    assert [is_allowed(uid, 1000) for uid in (1000, 0, None, 1001)] == [True, True, True, False]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"status\n",
        b"[" * 5000 + b"\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"cmd":"status"}\n',
        b'{"v":2,"cmd":"status"}\n',
        b'{"v":1,"cmd":"explode"}\n',
        b'{"v":1}\n',
        b'{"v":1,"cmd":["status"]}\n',
        b'{"v":1,"cmd":"set-concurrency","concurrency":0}\n',
        b'{"v":1,"cmd":"set-concurrency","concurrency":"4"}\n',
        b'{"v":1,"cmd":"set-rate","upload":5}\n',
        b'{"v":1,"cmd":"set-rate","requests":true}\n',
        b'{"v":1,"cmd":"pause"}\n',
    ],
)
async def test_x2_what_makes_no_sense_is_answered_and_the_next_order_is_served(runtime: Path, line: bytes) -> None:
    async with idle() as path:
        wrong, right = await exchange(path, line, b'{"v":1,"cmd":"status"}\n')
    assert wrong["ok"] is False and wrong["error"]
    assert right["ok"] is True and right["job"] == "abc"


async def test_x1_a_line_without_end_and_a_crowd_are_bounded(runtime: Path) -> None:
    async with idle() as path:
        assert await exchange(path, b"x" * 200_000) == []
        async with anyio.create_task_group() as tasks:
            crowd = [await anyio.connect_unix(path) for _ in range(MOST_CLIENTS)]
            await anyio.sleep(0.05)
            assert await exchange(path, b'{"v":1,"cmd":"status"}\n') == []
            for stream in crowd:
                await stream.aclose()
            with anyio.fail_after(60):
                while not await exchange(path, b'{"v":1,"cmd":"status"}\n'):  # until it has seen them go
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()


async def test_x1_stale_sockets_are_removed_and_live_ones_are_not(runtime: Path) -> None:
    folder = runtime / "asyncdup"
    folder.mkdir(mode=0o700)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "dead.sock"))
    dead.close()

    async with idle() as path, idle(EventHub(job="other")) as other:
        assert live_sockets([folder]) == sorted([path, other])
        assert not (folder / "dead.sock").exists()
        with pytest.raises(UsageError, match="several jobs are running: abc, other"):
            await ask("status")
        assert json.loads(await ask("status", "--json", "--job=ot"))["job"] == "other"
    with pytest.raises(AsyncdupError, match="no job of yours") as caught:
        await ask("status")
    assert caught.value.exit_code == 1


async def test_a_run_goes_on_without_a_socket_where_none_can_be_made(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[asyncdup.Event] = []
    hub = EventHub(job="not/a/name")
    hub.on_event(heard.append)

    async with idle(hub) as path:
        assert path is None

    assert [type(event) for event in heard] == [Notice]


async def test_the_error_of_the_block_is_raised_as_it_is(runtime: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with idle():
            raise KeyError("mine")
    assert live_sockets([runtime / "asyncdup"]) == []


# Where it is.


def test_x1_a_folder_that_others_may_enter_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = runtime / "asyncdup"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    second = runtime / "second"
    monkeypatch.setattr("asyncdup.commands.sockets.folders", lambda environ: [open_to_all, second])

    assert socket_path("abc", os.environ).parent == second
    second.rmdir()
    second.symlink_to(runtime)
    with pytest.raises(PermissionError):
        socket_path("abc", os.environ)


def test_x1_a_path_that_is_too_long_gives_way_to_tmp() -> None:
    long = "/tmp/" + "x" * 90
    assert [str(folder) for folder in folders({"XDG_RUNTIME_DIR": long})] == [f"{long}/asyncdup", f"/tmp/asyncdup-{os.getuid()}"]

    path = socket_path("f" * 32, {"XDG_RUNTIME_DIR": long})

    assert path.parent == Path(f"/tmp/asyncdup-{os.getuid()}")
    assert len(os.fsencode(temporary(path))) <= LONGEST_PATH < 108
