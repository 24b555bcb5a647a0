"""The main job over a real sshd: chains, a server that dies and comes back, an operator who is asked."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.commands.backup import backup
from asyncdup.commands.options import Control, Options
from asyncdup.commands.restore import restore
from asyncdup.commands.verify import verify
from asyncdup.events import EpisodeClosed, EpisodeOpened, Event, EventHub, RetryScheduled, VolumeStored
from asyncdup.transfer import RetryPolicy
from tests.network.conftest import Place, Sshd

E = TypeVar("E", bound=Event)

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

VOLUME = 200_000  # bytes


class Job:
    """A source, a target and the options to bring the one to the other."""

    def __init__(self, folder: Path, server: Place, path: str, **options: object) -> None:
        self.source = folder / "source"
        self.folder = folder
        self.url = f"sftp://{server.user}@127.0.0.1:{server.port}/{path}"
        self.seen: list[Event] = []
        self.when_stored: Callable[[], None] = lambda: None  # called once, in the middle of the end of volume ``stored_at``
        self.stored_at = 1
        self.control = Control(signals=True, socket=True)
        self._options = options
        self.backend = BackendOptions(known_hosts=server.keys.known_hosts, ssh_options=(f"-F none -i {server.keys.user}",), timeout=20.0)
        self._time = 1_700_000_000
        self._rng = random.Random(3)
        self.source.mkdir()
        for number in range(12):
            self.write(f"file{number:02}", self._rng.randbytes(60_000 + 5_000 * number))

    def write(self, name: str, data: bytes) -> None:
        path = self.source / name
        path.write_bytes(data)
        os.utime(path, (1_600_000_000 + self._time % 1000, 1_600_000_000 + self._time % 1000))

    def options(self) -> Options:
        """Each run has a time of its own."""
        self._time += 10
        now = float(self._time)
        settings = {
            "encryption": None,
            "volume_size": VOLUME,
            "archive_dir": self.folder / "cache",
            "tempdir": self.folder,
            **self._options,
        }
        return Options(backend=self.backend, now=lambda: now, **settings)  # type: ignore[arg-type]

    async def back_up(self) -> None:
        hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
        hub.on_event(self._on_event)
        with anyio.fail_after(240):
            await backup(self.source, self.url, self.options(), events=hub, control=self.control)

    def _on_event(self, event: Event) -> None:
        self.seen.append(event)
        if isinstance(event, VolumeStored) and self.count(VolumeStored) == self.stored_at:
            self.when_stored()

    async def check(self) -> None:
        """What is at the target is the source, by a restore without any cache and by a verify."""
        target = self.folder / f"restored{self._time}"
        await restore(self.url, target, self.options())
        assert {path.name: path.read_bytes() for path in target.iterdir()} == {
            path.name: path.read_bytes() for path in self.source.iterdir()
        }
        assert (await verify(self.url, self.source, self.options())).differences == 0

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]

    def count(self, kind: type[Event]) -> int:
        return len(self.of(kind))


@pytest.mark.parametrize("concurrency", [0, 1, 5])
async def test_full_and_incremental_come_back(sshd: Place, tmp_path: Path, concurrency: int) -> None:
    job = Job(tmp_path, sshd, f"{sshd.folder.name}/target", concurrency=concurrency)

    await job.back_up()
    job.write("file03", b"changed")
    (job.source / "file04").unlink()
    await job.back_up()

    await job.check()


async def test_a_run_goes_on_when_the_server_was_killed_and_restarted(make_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """G1-G3, P11: backoff, one probe, and the archive is right."""
    server = make_sshd()
    job = Job(tmp_path, server, "target", concurrency=3, retry=RetryPolicy(base=0.1, cap=0.3))
    job.when_stored = server.kill

    async def restart() -> None:
        while not job.count(RetryScheduled):
            await anyio.sleep(0.01)
        server.start()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(restart)
        await job.back_up()

    await job.check()


async def test_a_run_waits_for_the_operator_and_goes_on_when_the_flag_is_removed(make_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """G5, G6, G7, N2, R1, R2: one episode, a flag that says what to do, the same process ends the job."""
    server = make_sshd()
    flag = tmp_path / "flag"
    policy = RetryPolicy.fixed(2, 0.05, mode="intervention")
    job = Job(tmp_path, server, "target", concurrency=3, retry=policy, retry_flag=flag)
    job.when_stored = server.kill
    said: dict[str, object] = {}

    async def operator() -> None:
        while not flag.exists():
            await anyio.sleep(0.01)
        said.update(json.loads(flag.read_text()))
        server.start()
        flag.unlink()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        await job.back_up()

    assert job.count(EpisodeOpened) == job.count(EpisodeClosed) == 1
    assert said["pid"] == os.getpid()
    assert f"rm {flag}" in said["resume"]  # type: ignore[operator]
    assert not flag.exists()
    await job.check()


async def test_wrong_credentials_are_not_hammered_and_wait_to_be_mended(make_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """C8: an operator error closes the gate at once."""
    server = make_sshd()
    flag = tmp_path / "flag"
    job = Job(tmp_path, server, "target", retry=RetryPolicy(mode="intervention"), retry_flag=flag)
    good = server.keys.authorized.read_text()
    server.keys.authorized.write_text("")

    async def operator() -> None:
        while not flag.exists():
            await anyio.sleep(0.01)
        server.keys.authorized.write_text(good)
        flag.write_text("resume")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(operator)
            await job.back_up()
    finally:
        server.keys.authorized.write_text(good)

    assert job.count(EpisodeOpened) == 1
    await job.check()
