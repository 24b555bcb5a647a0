"""What the commands that read an archive share: the chain for a time, and the list of what went wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from asyncdup.archive.assemble import Needed
from asyncdup.archive.chains import Chain
from asyncdup.archive.selection import Selection
from asyncdup.commands.session import Session
from asyncdup.errors import NO_SPACE, RestoreError
from asyncdup.events import EventHub, Notice, Warning
from asyncdup.formats.tar import BLK, CHR, DIR, REG, Entry
from asyncdup.threads import on_loop
from asyncdup.transfer.disk import mount_point

CANNOT_PROCESS = 12  # duplicity's warning code
TEMPDIR_HINT = "make room there, or choose another folder with --tempdir, and run the same command again"


async def chain_to_read(session: Session, time: int | None) -> Chain:
    """The sets needed for ``time``. Unfinished sets are named, once. Raises ChainError."""
    collection = session.collection(await session.listing())
    for unfinished in collection.unfinished:
        session.notice(f"the set {unfinished.id} was never finished and is passed over")
    return collection.chain_for(time)


class Problems:
    """Entries that did not come out as archived: each an event at once, and kept for the end. Called in the merger's thread."""

    def __init__(self, hub: EventHub) -> None:
        self.lines: list[str] = []
        self.full: Counter[Path] = Counter()  # folders without room -> how many of the entries they had none for
        self._hub = hub

    def add(self, path: bytes, message: str) -> None:
        """One entry's problem."""
        shown = os.fsdecode(path) or "."
        self.lines.append(f"{shown}: {message}")
        on_loop(self._hub.emit, Warning(message=f"{shown}: {message}", code=CANNOT_PROCESS, path=shown))

    def lost_volume(self, needed: Needed, error: Exception) -> None:
        """A volume that is left out: files that are wholly in it are missing, and nobody knows their names."""
        message = f"volume {needed.name} is left out, with all that only it holds: {error}"
        self.lines.append(message)
        self._hub.emit(Warning(message=message, code=CANNOT_PROCESS, path=needed.name))

    def error(self, message: str, *, hint: str | None, room_hint: str, exit_code: int | None = None) -> RestoreError:
        """All of them as one. If each is for want of room the exit code says so, and ``room_hint`` takes the place of ``hint``."""
        if self.full.total() < len(self.lines):
            return RestoreError(message, problems=tuple(self.lines), hint=hint, exit_code=exit_code)
        places = " nor ".join(f"on {mount_point(folder)}, where {folder} is" for folder in +self.full)
        return RestoreError(f"{message}: no room left {places}", problems=tuple(self.lines), hint=room_hint, exit_code=NO_SPACE)

    def notice(self, path: bytes, message: str) -> None:
        """Something left out on purpose."""
        on_loop(self._hub.emit, Notice(message=f"{os.fsdecode(path) or '.'}: {message}"))


def selected(selection: Selection | None) -> Callable[[Entry], bool] | None:
    """Whether an entry of the archive is wanted, for the merger; None takes everything."""
    if selection is None or (selection.is_empty and not selection.exclude_device_files):
        return None

    def wanted(entry: Entry) -> bool:
        if selection.exclude_device_files and entry.kind in (CHR, BLK):
            return False
        return selection.includes(entry.path, entry.kind == DIR, entry.mtime if entry.kind == REG else None)

    return wanted
