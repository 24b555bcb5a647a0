"""The main job by foreign classes: full, incremental and restore with four transfers at once; stock duplicity restores from the same target."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from legacy.targets import Fixture, fsspec_s3, fsspec_ssh, legacy_sftp, legacy_webdav

from asyncdup.backends.options import BackendOptions
from asyncdup.commands.backup import backup
from asyncdup.commands.options import Options
from asyncdup.commands.restore import restore
from asyncdup.events import EventHub, Notice

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.interop]

SECRET = "canary-4711"
DAY = 86400


class Job:
    """A source, a target, and runs that are a day apart."""

    def __init__(self, folder: Path, url: str, backend: BackendOptions) -> None:
        self.folder, self.url, self.backend = folder, url, backend
        self.source = folder / "source"
        self.source.mkdir()
        self.notices: list[str] = []
        self._now = 1_700_000_000.0
        rng = random.Random(5)
        for number in range(8):
            (self.source / f"file{number}").write_bytes(rng.randbytes(90_000 + number))

    async def full_and_incremental(self) -> None:
        await self._back_up()
        (self.source / "file3").write_bytes(b"changed")
        (self.source / "file4").unlink()
        await self._back_up()

    async def restored(self) -> dict[str, bytes]:
        """By ourselves, without any local copies."""
        target = self.folder / "restored"
        with anyio.fail_after(240):
            await restore(self.url, target, self._options(self.folder / "no-cache"))
        return contents(target)

    async def _back_up(self) -> None:
        hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
        hub.on_event(lambda event: self.notices.append(event.message) if isinstance(event, Notice) else None)
        with anyio.fail_after(240):
            await backup(self.source, self.url, self._options(self.folder / "cache"), events=hub)

    def _options(self, cache: Path) -> Options:
        self._now += DAY
        now = self._now
        return Options(
            backend=self.backend,
            now=lambda: now,
            archive_dir=cache,
            tempdir=self.folder,
            encryption=None,
            volume_size=200_000,
            concurrency=4,
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def all_arguments() -> Iterator[list[bytes]]:
    """The command lines of every process that is there during the block."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(process.read_bytes())
                except OSError:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    found: list[bytes] = []
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.extend(seen)


@pytest.mark.parametrize("target", [legacy_sftp, fsspec_s3, fsspec_ssh], ids=lambda target: target.__name__)
async def test_full_and_incremental_come_back(
    target: Callable[[Fixture, Path], tuple[str, dict[str, Any]]], duplicity_python: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, given = target(request.getfixturevalue, tmp_path)
    given["backend_concurrency"] = 4
    job = Job(tmp_path, url, BackendOptions(environ=os.environ, settings={"duplicity_python": duplicity_python}, **given))

    await job.full_and_incremental()

    assert await job.restored() == contents(job.source)
    assert job.notices == [], "it was asked for with a prefix"


async def test_stock_restores_what_its_own_sftp_class_put(
    duplicity_python: str, stock: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, given = legacy_sftp(request.getfixturevalue, tmp_path)
    given["backend_concurrency"] = 4
    job = Job(tmp_path, url, BackendOptions(environ=os.environ, settings={"duplicity_python": duplicity_python}, **given))
    await job.full_and_incremental()

    options = f"--ssh-options=-oUserKnownHostsFile={given['known_hosts']} {' '.join(given['ssh_options'])}"
    stock("restore", url.removeprefix("duplicity+"), str(tmp_path / "by-stock"), "--no-encryption", options)

    assert contents(tmp_path / "by-stock") == contents(job.source)


async def test_p15_a_password_is_in_no_command_line_and_stock_restores_from_webdav(
    duplicity_python: str, stock: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, _ = legacy_webdav(request.getfixturevalue, tmp_path)
    job = Job(tmp_path, url, BackendOptions(environ={"PATH": os.environ["PATH"]}, settings={"duplicity_python": duplicity_python}))
    assert SECRET in url

    with all_arguments() as lines:
        await job.full_and_incremental()
        restored = await job.restored()

    assert restored == contents(job.source)
    assert any(b"duplicity/host.py" in line for line in lines)
    assert not [line for line in lines if SECRET.encode() in line]
    stock("restore", url.removeprefix("duplicity+"), str(tmp_path / "by-stock"), "--no-encryption")
    assert contents(tmp_path / "by-stock") == contents(job.source)


async def test_a_scheme_that_only_duplicity_has_needs_no_prefix_and_the_user_is_told_once_a_run(
    duplicity_python: str, tmp_path: Path
) -> None:
    """``multi``: a class that runs other classes, with a URL in a syntax of its own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "stores.json").write_text(json.dumps([{"url": f"file://{tmp_path}/{name}"} for name in ("one", "two")]))
    url = f"multi://{tmp_path}/stores.json?mode=mirror&onfail=abort"
    job = Job(tmp_path, url, BackendOptions(environ=os.environ, settings={"duplicity_python": duplicity_python}))

    await job.full_and_incremental()

    assert await job.restored() == contents(job.source)
    assert len(job.notices) == 2 and all("multi:// is served by a class of duplicity 3.2.1" in notice for notice in job.notices)
    assert set(contents(tmp_path / "one")) == set(contents(tmp_path / "two")) != set()
