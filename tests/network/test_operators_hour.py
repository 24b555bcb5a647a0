"""The operator's hour: the disk of a real SFTP server is full in the middle of a backup, a person is told, makes room, and the run goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from asyncdup.cli.interrupts import Interrupts
from asyncdup.commands.options import Control
from asyncdup.errors import Drained, InterruptedByOperator
from asyncdup.events import AttemptFinished, AttemptStarted, EpisodeClosed, EpisodeOpened, Event, Notice, VolumeStored
from asyncdup.transfer import RetryPolicy
from tests.interop.stock import Stock, find_python
from tests.network.conftest import Sshd
from tests.network.test_main_job import Job

E = TypeVar("E", bound=Event)

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

VOLUME = 114_000  # bytes that a volume comes to when 200,000 are asked for
VOLUMES, FULL_AT = 60, 37
MORE = 51  # files of a volume each, beside those of every job
CONCURRENCY = 4
SPOOL = 1 << 20  # bytes of the disk under the spool
SPARE = 4 << 20  # bytes: folders, names, signatures


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], None]]:
    """Makes a folder that is a disk of its own, of so many bytes."""
    mounted: list[Path] = []

    def make(folder: Path, size: int) -> None:
        if os.geteuid() or shutil.which("mount") is None:
            pytest.skip("only root can mount a small disk")
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def server(make_sshd: Callable[..., Sshd], small_disk: Callable[[Path, int], None]) -> Sshd:
    """A server whose target is a disk of its own."""
    server = make_sshd()
    small_disk(server.folder / "target", VOLUMES * VOLUME + SPARE)
    return server


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in the middle, and how a person mends it. ``cause``: what the error says; ``remedy``: what the hint says."""

    name: str
    cause: str
    remedy: str
    begin: Callable[[Hour], None]
    at_volume: Callable[[Hour], None]
    mend: Callable[[Hour], None]


class Hour:
    """The backup and what the operator sees of it."""

    def __init__(self, server: Sshd, folder: Path, trouble: Trouble, **options: object) -> None:
        self.server = server
        self.trouble = trouble
        self.flag = folder / "flag"
        self.filler = server.folder / "target" / "in-the-way"
        self.hooked = folder / "hooked"
        self.record: dict[str, Any] = {}
        self.status = ""
        self.stored = 0  # volumes, when the operator came
        policy = RetryPolicy(mode="intervention", base=0.1, cap=0.2)
        command = ("sh", "-c", f"cat > {self.hooked}.tmp && mv {self.hooked}.tmp {self.hooked}")
        options = {"concurrency": CONCURRENCY, "retry": policy, "retry_flag": self.flag, "on_intervention": command} | options
        self.job = Job(folder, server, "target", **options)
        rng = random.Random(5)
        for number in range(MORE):
            self.job.write(f"more{number:02}", rng.randbytes(VOLUME))
        self.job.stored_at = FULL_AT - 1
        self.job.when_stored = partial(trouble.at_volume, self)
        trouble.begin(self)

    async def run(self, act: Callable[[], Awaitable[object]]) -> None:
        async def operator() -> None:
            while not self.flag.exists():
                await anyio.sleep(0.01)
            self.record = json.loads(self.flag.read_text())
            while not self.hooked.exists():
                await anyio.sleep(0.01)
            await anyio.sleep(0.5)  # what was in flight ends; nothing else may start
            self.status = (await self.order("status")).decode()
            self.stored = len(self.of(VolumeStored))
            await act()

        scope = anyio.CancelScope()
        with Interrupts(self.job.control, scope, grace=10, say=print, status=str):  # as the program itself has it
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(operator)
                await self.job.back_up()

    async def order(self, word: str) -> bytes:
        """Named, since others on this machine may have jobs, too."""
        return await shell(f"asyncdup job {word} --job={self.record['job']}")

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.job.seen if type(event) is kind]

    def between(self) -> list[Event]:
        """From the first failure that a person has to see to, to the operator's word."""
        seen = self.job.seen
        first = next(at for at, event in enumerate(seen) if isinstance(event, AttemptFinished) and self.trouble.cause in event.error)
        probing = next((at for at in range(first, len(seen)) if getattr(seen[at], "state", "") == "PROBING"), None)
        return seen[first:probing]


async def shell(command: str) -> bytes:
    """What an operator types, with asyncdup on the path."""
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return (await anyio.run_process(["sh", "-c", command], env=environ, stderr=None)).stdout


def fill_disk(hour: Hour) -> None:
    hour.filler.write_bytes(bytes((VOLUMES - FULL_AT) * VOLUME + SPARE))


def make_room(hour: Hour) -> None:
    hour.filler.unlink()


def forbid(hour: Hour) -> None:
    """The user's key is taken from the server, and every session ends."""
    hour.server.kill()
    hour.server.keys = replace(hour.server.keys, authorized=hour.server.state / "authorized")
    hour.server.keys.authorized.write_text("")
    hour.server.start()


def allow(hour: Hour) -> None:
    hour.server.keys.authorized.write_text(hour.server.keys.user.with_suffix(".pub").read_text())


def nothing(hour: Hour) -> None:
    """Not yet, or not here."""


FULL_DISK = Trouble("full disk", "no space left", "make room", fill_disk, nothing, make_room)
NO_TROUBLE = Trouble("none at the server", "", "", nothing, nothing, nothing)
BAD_KEY = Trouble("wrong credentials", "Permission denied", "name a key", nothing, forbid, allow)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sockets in a folder of the test's own, with a short path: pytest's may be too long for one."""
    with tempfile.TemporaryDirectory(prefix="x") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    python = find_python(Path(__file__).parents[2], os.environ)
    if python is None:
        if os.environ.get("CI"):
            pytest.fail("stock duplicity is not here; CI must not skip this")
        pytest.skip("stock duplicity 3.2.1 is not here: scripts/test installs it, ASYNCDUP_STOCK may name a python that has it")
    program = Stock(python, tmp_path_factory.mktemp("stock"))
    yield program
    program.close()


@pytest.mark.interop
@pytest.mark.parametrize(
    ("trouble", "way", "by"),
    [
        (FULL_DISK, "rm ", "flag removed"),
        (FULL_DISK, "asyncdup job resume", "asyncdup job resume"),
        (FULL_DISK, "kill -USR1", "SIGUSR1"),
        (FULL_DISK, "", "api"),
        (BAD_KEY, "rm ", "flag removed"),
    ],
    ids=lambda value: value.name if isinstance(value, Trouble) else str(value).strip() or "resume()",
)
async def test_trouble_is_told_once_and_the_same_process_ends_the_backup(
    server: Sshd, tmp_path: Path, runtime: None, stock: Stock, trouble: Trouble, way: str, by: str
) -> None:
    """G2, G6, G7, N2, N3, R1, C8. The operator does what the flag says, to the letter."""
    hour = Hour(server, tmp_path, trouble)

    async def act() -> None:
        trouble.mend(hour)
        if way:
            (command,) = (told for told in hour.record["resume"] if told.startswith(way))
            await shell(command)
        else:
            hour.job.control.resume()

    await hour.run(act)

    (opened,), (closed,) = hour.of(EpisodeOpened), hour.of(EpisodeClosed)
    waiting = hour.between()
    assert opened.t - waiting[0].t < 60, "soon after the first failure"
    assert [event for event in waiting if isinstance(event, AttemptStarted)] == [], "puts after the first failure: only those in flight"
    failed = [event for event in waiting if isinstance(event, AttemptFinished) and event.outcome == "error"]
    assert 1 <= len(failed) <= CONCURRENCY
    assert closed.by == by
    assert (hour.record["class"], hour.record["pid"]) == ("operator", os.getpid())
    assert trouble.cause in hour.record["message"] and trouble.remedy in hour.record["hint"]
    assert "; waiting, " in hour.status and f"WAITING for you: {hour.record['message']}" in hour.status
    assert all(f"to go on: {command}\n" in hour.status for command in hour.record["resume"])
    assert json.loads(hour.hooked.read_text())["message"] == hour.record["message"]
    assert not hour.flag.exists() and hour.of(Notice) == []
    assert VOLUMES <= len(hour.of(VolumeStored)) < VOLUMES + 5 and FULL_AT - 5 < hour.stored < FULL_AT + CONCURRENCY
    restored = tmp_path / "restored"
    stock("restore", "--no-encryption", f"file://{server.folder / 'target'}", str(restored))
    assert contents(restored) == contents(hour.job.source), "byte for byte, by stock duplicity"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_x3_a_drain_ends_the_wait_and_the_next_run_goes_on(server: Sshd, tmp_path: Path, runtime: None) -> None:
    """Exit code 60, the flag is gone, and the volumes up to the first that is missing are not sent again."""
    hour = Hour(server, tmp_path, FULL_DISK)

    with pytest.raises(ExceptionGroup) as caught:
        await hour.run(partial(hour.order, "drain"))
    (error,) = caught.value.exceptions
    assert isinstance(error, Drained) and error.exit_code == 60
    assert not hour.flag.exists()
    assert [event.by for event in hour.of(EpisodeClosed)] == ["drain"]

    earlier = {event.number for event in hour.of(VolumeStored)}
    hour.filler.unlink()
    hour.job.control = Control()
    hour.job.seen.clear()
    await hour.job.back_up()
    later = {event.number for event in hour.of(VolumeStored)}
    missing = min(set(range(1, VOLUMES)) - earlier)
    assert later == set(range(missing, max(later) + 1)), "from the first volume that is not there"
    await hour.job.check()


async def test_a_wait_that_nobody_ends_is_over_after_its_time_and_the_next_run_goes_on(server: Sshd, tmp_path: Path, runtime: None) -> None:
    """G8: exit code 61, a state that the same command resumes."""
    hour = Hour(server, tmp_path, FULL_DISK, intervention_timeout=2)

    with pytest.raises(InterruptedByOperator) as caught:
        await hour.job.back_up()
    assert caught.value.exit_code == 61
    assert not hour.flag.exists()

    hour.filler.unlink()
    await hour.job.back_up()
    await hour.job.check()


async def test_s11_a_full_temporary_folder_waits_and_the_archive_is_right(
    small_disk: Callable[[Path, int], None], server: Sshd, tmp_path: Path, runtime: None
) -> None:
    """The producer waits at the gate of its own disk, and goes on where the write was refused."""
    spool = tmp_path / "spool"
    small_disk(spool, SPOOL)
    hour = Hour(server, tmp_path, NO_TROUBLE, tempdir=spool, spool=10 * VOLUME, compression=False)
    filler = spool / "in-the-way"
    filler.write_bytes(bytes(SPOOL - VOLUME // 2))  # half a volume fits

    async def make_room() -> None:
        filler.unlink()
        hour.flag.write_text("resume")

    await hour.run(make_room)

    (opened,) = hour.of(EpisodeOpened)
    assert opened.lane == f"the disk at {spool}" and f"make room on {spool}" in opened.hint  # type: ignore[attr-defined]
    await hour.job.check()
