"""One file's content as it was at some time, given out as it is put together. Path: as a restore, with a callable in the place of ``tree``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from asyncdup.archive.assemble import Assembly
from asyncdup.archive.consume import Merger
from asyncdup.archive.reading import needed_volumes, read_manifests
from asyncdup.commands.entries import KINDS
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import TEMPDIR_HINT, Problems, chain_to_read
from asyncdup.commands.session import open_session
from asyncdup.errors import RestoreError, UsageError
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId
from asyncdup.formats.tar import Entry

NOT_THAT_PATH = 19  # duplicity's exit code
_WORDS = {"dir": "folder", "sym": "symlink", "fifo": "pipe", "chr": "device", "blk": "device"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CatResult:
    """The file as archived (its ``size`` means nothing), bytes given out, volumes fetched."""

    set_id: SetId
    entry: Entry
    size: int
    volumes: tuple[str, ...]


async def cat(
    url: str,
    path: str | bytes,
    options: Options | None = None,
    *,
    time: int | None = None,
    write: Callable[[bytes], None],
    events: EventHub | None = None,
    control: Control | None = None,
) -> CatResult:
    """Give the content of the regular file ``path``, as of ``time`` (None: the newest backup), to ``write``, piece by piece.

    Volumes are checked before anything in them is used, the content when its end has come: only when this returns was all of it right.
    Fetched are the volumes that may hold the path, of the sets of one chain. ``write`` is called in a thread, never twice at once; what it
    raises ends the command, and should not be an OSError.

    Raises:
        UsageError: it is no regular file (exit code 23).
        RestoreError: it is not in the backup (19), or cannot be put together (30; 53: for want of room): then what was written is not to be used.
        ChainError, FormatError, IntegrityError, CodecError: the archive cannot be read that far.
    """
    options = options or Options()
    wanted = os.fsencode(path).strip(b"/")
    if not wanted:
        raise UsageError("which file?", hint="a path as list-current-files shows it")
    async with (
        job("cat", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        chain = await chain_to_read(session, time)
        manifests = await read_manifests(session.engine, session.lane, chain.sets, session.reading_codec)
        needed = needed_volumes(chain, manifests, wanted)
        problems = Problems(hub)
        sink = _Content(os.fsdecode(wanted), write)
        merger = Merger(sink, len(chain.sets), prefix=wanted, tempdir=session.tempdir, on_problem=problems.add)
        with closing(merger):
            codecs = [session.reading_codec(backup_set.volume_name(1)) for backup_set in chain.sets]
            await Assembly(session.engine, session.lane, codecs, merger, hub, needed).run()
        if problems.lines:
            problems.full[session.tempdir] += merger.without_room
            raise problems.error(
                f"{sink.shown} could not be put together; do not use what was written",
                hint="verify or another --time may help",
                room_hint=TEMPDIR_HINT,
            )
        if sink.entry is None:
            raise RestoreError(f"{sink.shown} is not in the backup", hint="asyncdup find URL GLOB searches all", exit_code=NOT_THAT_PATH)
        return CatResult(set_id=chain.last.id, entry=sink.entry, size=sink.size, volumes=tuple(volume.name for volume in needed))


class _Content:
    """The sink of one file: its only entry is the root of what the merger gives out."""

    def __init__(self, shown: str, write: Callable[[bytes], None]) -> None:
        self.shown = shown
        self.entry: Entry | None = None
        self.size = 0
        self._write = write

    def simple(self, entry: Entry) -> None:
        """Not a file: that ends it."""
        kind = KINDS.get(entry.kind, "")
        target = f" to {os.fsdecode(entry.link)}" if entry.link else ""
        raise UsageError(
            f"{self.shown} is a {_WORDS.get(kind, 'thing')}{target}, not a file",
            hint="restore --path-to-restore brings it back" if not target else "cat what it points to, if that is in the backup",
        )

    def file(self, entry: Entry) -> _Content:
        """The file itself."""
        if entry.path:  # something below a path that the archive has no entry of
            raise UsageError(f"{self.shown} is a folder, not a file", hint="restore --path-to-restore brings it back")
        self.entry = entry
        return self

    def finish(self) -> None:
        """Nothing is left open."""

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self.size += len(data)
        self._write(data)

    def close(self) -> None:
        """All bytes came."""

    def abort(self) -> None:
        """The rest does not come; the problem is in the list."""
