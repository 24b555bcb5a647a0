"""The operator's hour: the disk of a real SFTP server is full in the middle of a backup, a person is told, makes room, and the run goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from asyncdup.errors import InterruptedByOperator
from asyncdup.events import AttemptFinished, AttemptStarted, EpisodeClosed, EpisodeOpened, Event, GateChanged, Notice, VolumeStored
from asyncdup.transfer import RetryPolicy
from tests.network.conftest import Sshd
from tests.network.test_main_job import VOLUME, Job

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

VOLUMES, FULL_AT = 60, 37
CONCURRENCY = 4
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


class Hour:
    """The backup and what the operator sees of it."""

    def __init__(self, server: Sshd, folder: Path, **options: object) -> None:
        self.flag = folder / "flag"
        self.filler = server.folder / "target" / "in-the-way"
        self.hooked = folder / "hooked"
        policy = RetryPolicy(mode="intervention")
        command = ("sh", "-c", f"cat > {self.hooked}.tmp && mv {self.hooked}.tmp {self.hooked}")
        options = {"concurrency": CONCURRENCY, "retry": policy, "retry_flag": self.flag, "on_intervention": command} | options
        self.job = Job(folder, server, "target", **options)
        rng = random.Random(5)
        for number in range(VOLUMES):
            self.job.write(f"more{number:02}", rng.randbytes(VOLUME - 22_000))
        self.filler.write_bytes(bytes((VOLUMES - FULL_AT) * VOLUME + SPARE))
        self.record: dict[str, object] = {}

    async def run(self, act: Callable[[], None]) -> None:
        async def operator() -> None:
            while not self.flag.exists():
                await anyio.sleep(0.01)
            self.record = json.loads(self.flag.read_text())
            while not self.hooked.exists():
                await anyio.sleep(0.01)
            await anyio.sleep(1)  # what was in flight ends; nothing else may start
            act()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(operator)
            await self.job.back_up()

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.job.seen if type(event) is kind]

    def between(self) -> list[Event]:
        """From the first failure to the operator's word."""
        first = next(at for at, event in enumerate(self.job.seen) if isinstance(event, AttemptFinished) and event.outcome == "error")
        probing = next((at for at, event in enumerate(self.job.seen) if isinstance(event, GateChanged) and event.state == "PROBING"), None)
        return self.job.seen[first:probing]


async def test_a_full_disk_is_told_once_and_the_same_process_ends_the_backup(server: Sshd, tmp_path: Path) -> None:
    """G2, G6, G7, N2, N3, R1, C8."""
    hour = Hour(server, tmp_path)

    def make_room() -> None:
        nonlocal stored
        stored = len(hour.of(VolumeStored))
        hour.filler.unlink()
        hour.flag.unlink()

    stored = 0
    await hour.run(make_room)

    (opened,) = hour.of(EpisodeOpened)
    (closed,) = hour.of(EpisodeClosed)
    waiting = hour.between()
    assert opened.t - waiting[0].t < 1, "within a second of the first failure"
    assert [event for event in waiting if isinstance(event, AttemptStarted)] == [], "puts after the first failure: only those in flight"
    failed = [event for event in waiting if isinstance(event, AttemptFinished) and event.outcome == "error"]
    assert 1 <= len(failed) <= CONCURRENCY
    assert closed.by == "flag removed"  # type: ignore[attr-defined]
    assert (hour.record["class"], hour.record["pid"]) == ("operator", os.getpid())
    assert "room" in str(hour.record["hint"]) and f"rm {hour.flag}" in hour.record["resume"]  # type: ignore[operator]
    assert json.loads(hour.hooked.read_text())["message"] == hour.record["message"]
    assert not hour.flag.exists() and hour.of(Notice) == []
    total = len(hour.of(VolumeStored))
    assert total >= VOLUMES and 0.5 < stored / total < 0.7, "in the middle, as volume 37 of 60 is"
    await hour.job.check()


async def test_a_wait_that_nobody_ends_is_over_after_its_time_and_the_next_run_goes_on(server: Sshd, tmp_path: Path) -> None:
    """G8: exit code 61, a state that the same command resumes."""
    hour = Hour(server, tmp_path, intervention_timeout=1.5)

    with pytest.raises(ExceptionGroup) as caught:
        await hour.run(lambda: None)
    (error,) = caught.value.exceptions
    assert isinstance(error, InterruptedByOperator) and error.exit_code == 61
    assert not hour.flag.exists()

    hour.filler.unlink()
    await hour.job.back_up()
    await hour.job.check()


async def test_s11_a_full_temporary_folder_waits_and_the_archive_is_right(
    small_disk: Callable[[Path, int], None], server: Sshd, tmp_path: Path
) -> None:
    """The producer waits at the gate of its own disk, and goes on where the write was refused."""
    spool = tmp_path / "spool"
    small_disk(spool, 1 << 20)
    hour = Hour(server, tmp_path, tempdir=spool, spool=10 * VOLUME, compression=False)
    hour.filler.unlink()
    filler = spool / "in-the-way"
    filler.write_bytes(bytes((1 << 20) - VOLUME // 2))  # half a volume fits

    def make_room() -> None:
        filler.unlink()
        hour.flag.write_text("resume")

    await hour.run(make_room)

    (opened,) = hour.of(EpisodeOpened)
    assert opened.lane == f"the disk at {spool}" and f"make room on {spool}" in opened.hint  # type: ignore[attr-defined]
    await hour.job.check()
