"""A run that is watched (``disk``), the archives that a crash at any of its moments leaves, and what must hold of each (P1, P2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from crash.disk import Disk, State
from interop import archives
from interop.archives import Archive
from interop.trees import listing

from asyncdup.archive import checkpoint
from asyncdup.archive.chains import BackupSet, collect
from asyncdup.backends.base import ObjectInfo
from asyncdup.commands.backup import BackupResult
from asyncdup.commands.cleanup import cleanup

SHARE = int(os.environ.get("ASYNCDUP_CRASH_SHARE", "61"))
SMALL = 140_000  # bytes of a volume: about one member of 64 KiB fits
SIZE_OF_A_LOCK = 1000  # bytes, at most


class Crash:
    """One run that is watched, and archives as it left them on its way.

    Attributes:
        older: what the target held before, by time.
        tree: what the run has stored.
    """

    def __init__(self, archive: Archive, action: str, *, disk: Disk | None = None, **options: Any) -> None:
        self.archive = archive
        self.action = action
        self.options = {"volume_size": SMALL, "concurrency": 3, **options}
        self.older = dict(archive.kept)
        disk = disk or Disk(archive.target, archive.cache["us"] / "c", tempdir=archive.folder)
        with disk.watched():
            self.set_id = self.run(archive).set_id
        self.tree = archive.read_by_us()
        self.states = disk.states

    def run(self, here: Archive) -> BackupResult:
        """The command."""
        result = here.by_us(self.action, **self.options)
        assert here.heard.warnings == []
        return result

    def archives(self, what: str) -> list[Archive]:
        """Those to be looked at in this run; the last state always, and others of the other source."""
        first = SHARE // 2 if what == "changed" else 0
        return [self.at(state, what) for state in [*self.states[first:-1:SHARE], self.states[-1]]]

    def at(self, state: State, what: str) -> Archive:
        """What was left in ``state``."""
        here = left_in(state, self.archive, what)
        here.kept = dict(self.older)
        return here

    def killed_with(self, volumes: int) -> Archive:
        """What a kill left when so many volumes were stored. Of a run with one transfer at once: of several two may be stored in one moment."""
        for number, state in enumerate(self.states):
            here = self.at(state, f"left-{number}")
            if state.model == "kill" and len(good_volumes(here)) == volumes:
                return here
        raise AssertionError(f"the run never had {volumes} volumes")


def left_in(state: State, archive: Archive, what: str) -> Archive:
    """Another archive, below ``archive``, which was in ``state`` once."""
    here = Archive(archive.folder / what / str(state).replace(" ", "-"), archive.stock, archive.form, source=archive.source)
    state.lay_out(here.target, here.cache["us"] / "c", tempdir=(archive.folder, here.folder))
    here.time = archive.time
    return here


def set_at(here: Archive, time: int) -> BackupSet | None:
    infos = [ObjectInfo(path.name, path.stat().st_size) for path in here.target.iterdir()]
    return next((each for each in collect(infos, now=0).sets if each.end == time), None)


def good_volumes(here: Archive) -> list[Path]:
    """Volumes that are as the journal says, from the first on."""
    states = checkpoint.find(here.cache["us"] / "c")
    notes = states[0].volumes if states else {}
    good: list[Path] = []
    while (note := notes.get(len(good) + 1)) and (path := here.target / note.name).exists() and path.stat().st_size == note.size:
        good.append(path)
    return good


def the_older_chain_is_restored(crash: Crash, here: Archive) -> None:
    """P1: at once, with an empty cache."""
    for time, tree in crash.older.items():
        assert here.read_by_us(time, archive_dir=here.folder / "empty") == tree
    newest = crash.set_id.end
    unfinished = (each := set_at(here, newest)) is None or not each.is_complete
    if crash.older:
        assert here.read_by_us(archive_dir=here.folder / "empty") == (crash.older[max(crash.older)] if unfinished else crash.tree)


def the_same_command_ends_right(crash: Crash, here: Archive) -> None:
    """P1; and what was sent is not sent again (P2)."""
    there = set_at(here, crash.set_id.end)
    finished = there is not None and there.is_complete
    good = [] if finished else good_volumes(here)
    inodes = [path.stat().st_ino for path in good]

    result = crash.run(here)

    assert result.set_id == crash.set_id or not result.resumed
    assert [path.stat().st_ino for path in good][: result.resumed] == inodes[: result.resumed]
    nothing_is_left_over(here)
    now = listing(here.source)
    if crash.tree == now:
        assert result.resumed >= len(good)  # and those that wait in the spool (X5)
        assert here.read_by_us() == now
    else:  # gone on with after a change: every file is as it was at some time
        assert here.read_by_us() == (now if finished else crash.tree)


def nothing_is_left_over(here: Archive) -> None:
    """A lock that was being stored before the journal knew of its run is left to cleanup (P6)."""
    if [path for path in here.target.glob(".asyncdup-*") if path.stat().st_size < SIZE_OF_A_LOCK]:
        archives.run(cleanup(here.url, here.options(force=True)))
    left = [
        path.name for folder in (here.folder, here.target, here.cache["us"] / "c") for path in folder.iterdir() if "asyncdup-" in path.name
    ]
    assert not left, f"{left} in {here.folder}"
