"""S11 on real disks that are too small: a spool disk that fills up within a volume waits for the operator and loses nothing; a full cache disk
ends the run with one line, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import asyncdup
from asyncdup import Encryption, RetryPolicy, events
from tests.commands.conftest import Stage, tree

SECRET = Encryption(passphrase="a passphrase of the tests")

pytestmark = pytest.mark.slow

Mount = Callable[..., Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Mount]:
    """Makes a folder that is a disk of its own, of so many bytes and files."""
    mounted: list[Path] = []

    def make(name: str, size: int, files: int = 0) -> Path:
        if os.geteuid() or shutil.which("mount") is None:
            pytest.skip("only root can mount a small disk")
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "none", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """One whose target is no disk."""
    stage = Stage(tmp_path, f"memory://{tmp_path}")
    flag = tmp_path / "flag"
    stage.defaults = {"retry": RetryPolicy(mode="intervention"), "retry_flag": flag, "concurrency": 1}
    return stage


async def mended(flag: Path, mend: Callable[[], object]) -> str:
    """Wait for the flag, ``mend``, and remove it; what the flag said."""
    with anyio.fail_after(3600):
        while not flag.exists():
            await anyio.sleep(0.3)
    said = flag.read_text()
    await anyio.sleep(300)
    mend()
    flag.unlink()
    return said


def once_it_runs(stage: Stage, fill: Callable[[], object]) -> None:
    """``fill`` the disk when the first volume is begun: what is too full at the start is refused (S4)."""
    stage.fill(5)
    stage.watch = lambda event: isinstance(event, events.VolumeStarted) and event.number == 1 and fill()


async def waits_and_goes_on(stage: Stage, mend: Callable[[], object]) -> None:
    said: list[str] = []

    async def operator() -> None:
        said.append(await mended(stage.folder / "flag", mend))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        await stage.backup()
        (opened,) = stage.of(events.EpisodeOpened)
        (closed,) = stage.of(events.EpisodeClosed)

    assert str(stage.tempdir) in said[0], "the disk is named"
    stage.watch = lambda event: None
    assert "No space left" in opened.error and f"make room on {stage.tempdir}" in opened.hint
    assert closed.by == "flag removed" and closed.waited > 299
    stage.nothing_is_left()
    assert tree(await stage.restore(retry_flag=None)) == tree(stage.source)


@pytest.mark.parametrize("encryption", [None, SECRET], ids=["plain", "encrypted"])
@pytest.mark.parametrize("room", [4096, 40_960])
async def test_s11_a_disk_that_fills_up_within_a_volume_waits_and_loses_nothing(
    stage: Stage, small_disk: Mount, encryption: Encryption | None, room: int
) -> None:
    """``room``: bytes for volumes of 60 000."""
    stage.defaults["encryption"] = encryption
    small_disk("tmp", 1 << 20)
    ballast = stage.tempdir / "of somebody else"

    def fill() -> None:
        status = os.statvfs(stage.tempdir)
        ballast.write_bytes(bytes(status.f_bavail * status.f_frsize - room))

    once_it_runs(stage, fill)

    await waits_and_goes_on(stage, ballast.unlink)


@pytest.mark.parametrize("encryption", [None, SECRET], ids=["plain", "encrypted"])
async def test_s11_a_disk_without_inodes_waits_before_a_volume(stage: Stage, small_disk: Mount, encryption: Encryption | None) -> None:
    """The file of the spool cannot even be made."""
    stage.defaults["encryption"] = encryption
    small_disk("tmp", 1 << 20, files=40)
    ballast: list[Path] = []

    def fill() -> None:
        while os.statvfs(stage.tempdir).f_favail:
            ballast.append(stage.tempdir / str(len(ballast)))
            ballast[-1].touch()

    once_it_runs(stage, fill)

    await waits_and_goes_on(stage, lambda: [path.unlink() for path in ballast])


async def test_a_cache_disk_that_is_full_ends_the_run_with_its_name_and_the_same_command_goes_on(stage: Stage, small_disk: Mount) -> None:
    """P1, P2: the journal must be on the disk before a volume counts, so there is nothing to go on with; but nothing is lost either."""
    cache = small_disk("cache", 1 << 20)
    ballast = cache / "of somebody else"
    ballast.write_bytes(bytes((1 << 20) - 4096 - 8192))
    stage.fill(20)

    with pytest.raises(asyncdup.AsyncdupError, match=f"cannot write in {cache}/cache: No space left") as caught:
        await stage.backup()

    assert caught.value.exit_code == 53 and "goes on from here" in (caught.value.hint or "")
    ballast.unlink()
    await stage.backup()
    assert tree(await stage.restore(retry_flag=None)) == tree(stage.source)
