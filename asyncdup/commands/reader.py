"""What the commands that read an archive share: the chain for a time, and the list of what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable

from asyncdup.archive.assemble import Needed
from asyncdup.archive.chains import Chain
from asyncdup.archive.selection import Selection
from asyncdup.commands.session import Session
from asyncdup.events import EventHub, Notice, Warning
from asyncdup.formats.tar import BLK, CHR, DIR, REG, Entry
from asyncdup.threads import on_loop

CANNOT_PROCESS = 12  # duplicity's warning code


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
