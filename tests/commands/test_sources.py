"""A source that cannot be one is told before anything is written, and what a restore could not do is told whole (P3)."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

import asyncdup
from asyncdup import events
from asyncdup.archive.owners import Owners
from asyncdup.errors import ChainError, RestoreError, UsageError


def options(tmp_path: Path) -> asyncdup.Options:
    return asyncdup.Options(encryption=None, archive_dir=tmp_path / "cache")


def no_source(tmp_path: Path) -> Path:
    return tmp_path / "there is none"


def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "below"


def unreadable(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_source, "does not exist"),
        (fifo, "neither a folder nor a regular file"),
        (below_a_file, "cannot be read: Not a directory"),
        (unreadable, "cannot be read: Permission denied"),
    ],
)
async def test_a_source_that_cannot_be_one_leaves_no_trace(
    make: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(make)
    source = make(tmp_path)
    if make is unreadable:
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root

    with pytest.raises(UsageError, match=words):
        await asyncdup.backup(source, f"file://{tmp_path}/target", options(tmp_path))

    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "target").exists()


async def test_owners_that_were_left_are_told_also_where_something_else_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").touch()
    os.mkfifo(tmp_path / "source" / "fifo")
    await asyncdup.backup(tmp_path / "source", f"file://{tmp_path}/target", options(tmp_path))

    def refused(*args: object, **names: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refused)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(Owners, "ids", lambda self, entry: (54321, 54321))
    hub = asyncdup.EventHub()
    said: list[str] = []
    hub.on_event(lambda event: said.append(event.message) if isinstance(event, events.Notice) else None)

    with pytest.raises(RestoreError, match="^1 entry was not restored"):
        await asyncdup.restore(f"file://{tmp_path}/target", tmp_path / "restored", options(tmp_path), events=hub)

    assert "2 entries have other owners than archived, since only root may set them" in said


async def test_p5_a_target_that_loses_volumes_during_the_run_is_no_backup_and_the_same_command_mends_it(tmp_path: Path) -> None:
    """As when a disk is unmounted and the rest goes to the folder below its mount point."""
    (tmp_path / "source").mkdir()
    for number in range(5):
        (tmp_path / "source" / f"{number}").write_bytes(os.urandom(100_000))
    url, target = f"file://{tmp_path}/target", tmp_path / "target"
    small = replace(options(tmp_path), volume_size=140_000)
    hub = asyncdup.EventHub()

    def lose(event: asyncdup.Event) -> None:
        if isinstance(event, events.VolumeStored) and event.number == 3:
            next(target.glob("*.vol1.*")).unlink()

    hub.on_event(lose)
    with pytest.raises(ChainError, match="1 of [0-9]+ volumes are not at"):
        await asyncdup.backup(tmp_path / "source", url, small, events=hub)
    assert not list(target.glob("*.manifest"))

    await asyncdup.backup(tmp_path / "source", url, small)

    compared = await asyncdup.verify(url, tmp_path / "source", small)
    assert compared.differences == 0
