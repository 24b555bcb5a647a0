"""What killed runs have left is listed, and removed when it is told so (X5)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from asyncdup.archive.checkpoint import Journal, RunHead, VolumeNote
from asyncdup.archive.pack import ROOT
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.commands.leftovers import leftovers, remove_leftovers
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import Session, open_session
from asyncdup.commands.workspace import OWNER, PREFIX
from asyncdup.events import EventHub

VOLUME = "duplicity-full.20231114T221320Z.vol1.difftar.gz"


@asynccontextmanager
async def session(folder: Path, url: str = "memory://leftovers") -> AsyncGenerator[Session, None]:
    (folder / "tmp").mkdir(exist_ok=True)
    options = Options(archive_dir=folder / "cache", name="c", tempdir=folder / "tmp", now=lambda: 1_700_000_100.0)
    hub = EventHub(wall=time.time, clock=anyio.current_time)
    async with open_session(url, options, hub=hub, control=Control()) as opened:
        yield opened


def dead_run(folder: Path, archive: Path, name: str = "dead") -> Path:
    """A sealed volume of a killed run."""
    run = folder / "tmp" / (PREFIX + name)
    (run / "asyncdup-spool").mkdir(parents=True)
    (run / OWNER).write_text(str(archive))
    (run / "asyncdup-spool/000001").write_bytes(b"sealed")
    return run


def speak_of(run: Path, archive: Path, upload: str = "") -> None:
    """Have a journal name the volume, and its upload in parts."""
    archive.mkdir(parents=True, exist_ok=True)
    head = RunHead(
        type="full", start=None, end=1_700_000_000, source="/src", form=".gz", rules="", hostname="here", prefixes=repr(Options().prefixes)
    )
    journal = Journal.begin(archive, head)
    volume = str(run / "asyncdup-spool/000001")
    journal.volume(
        VolumeNote(number=1, name=VOLUME, size=6, sha1="?", first=ROOT, last=ROOT, cut=None, sigtar=0, files=0, lines=0, spool=volume)
    )
    if upload:
        journal.upload(VOLUME, upload, 1)
    journal.close()


@pytest.mark.realtime
async def test_a_folder_that_a_journal_speaks_of_is_listed_and_removed(tmp_path: Path) -> None:
    archive = tmp_path / "cache/c"
    run = dead_run(tmp_path, archive)
    speak_of(run, archive)

    async with session(tmp_path) as opened:
        (found,) = await leftovers(opened)
        assert run.exists()
        assert (found.kind, found.name, found.resumable, found.size) == ("spool", str(run), True, 6 + len(str(archive)))

        await remove_leftovers(opened, [found])

        assert not run.exists()
        assert await leftovers(opened) == []


@pytest.mark.realtime
async def test_one_that_nobody_speaks_of_is_gone_at_once(tmp_path: Path) -> None:
    run = dead_run(tmp_path, tmp_path / "cache/c")

    async with session(tmp_path) as opened:
        assert not run.exists()
        assert await leftovers(opened) == []


@pytest.mark.realtime
async def test_those_of_another_archive_are_not_ours(tmp_path: Path) -> None:
    run = dead_run(tmp_path, tmp_path / "cache/other")
    speak_of(run, tmp_path / "cache/other")

    async with session(tmp_path) as opened:
        assert await leftovers(opened) == []
    assert run.exists()


@pytest.mark.realtime
async def test_unfinished_uploads_of_backups_are_listed_and_given_up(tmp_path: Path) -> None:
    async with session(tmp_path, "memory://uploads") as opened:
        backend = opened.backend
        assert isinstance(backend, MemoryBackend)
        upload = await backend.begin_parts(VOLUME, BytesBody(b"ab"))
        await backend.put_part(VOLUME, upload, 1, BytesBody(b"a"))
        theirs = await backend.begin_parts("somebody's.iso", BytesBody(b"ab"))

        (found,) = await leftovers(opened)
        assert (found.kind, found.name, found.upload, found.resumable) == ("upload", VOLUME, upload, False)

        await remove_leftovers(opened, [found, found])

        assert [each.id for each in await backend.list_uploads()] == [theirs]


@pytest.mark.realtime
async def test_an_upload_that_a_backup_goes_on_with_is_said_to_be_one(tmp_path: Path) -> None:
    """X5: as long as its volume waits to be sent; another upload of the same name is nobody's."""
    archive = tmp_path / "cache/c"
    async with session(tmp_path, "memory://resumable") as opened:
        backend = opened.backend
        assert isinstance(backend, MemoryBackend)
        uploads = [await backend.begin_parts(VOLUME, BytesBody(b"sealed")) for _ in range(2)]
    run = dead_run(tmp_path, archive)
    speak_of(run, archive, uploads[0])

    async with session(tmp_path, "memory://resumable") as opened:
        found = {each.upload: each.resumable for each in await leftovers(opened) if each.kind == "upload"}
        assert found == {uploads[0]: True, uploads[1]: False}

        (run / "asyncdup-spool/000001").unlink()
        assert not any(each.resumable for each in await leftovers(opened) if each.kind == "upload")
