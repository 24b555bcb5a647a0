"""What killed runs have left outside of the sets at the target: volumes in temporary folders, and uploads that were begun and not ended (X5).

For ``cleanup``, which holds both locks before it removes anything: ``leftovers`` lists, ``remove_leftovers`` removes. Temporary objects at the
target (``.asyncdup-…``) stand in its listing, where ``cleanup`` finds them itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from asyncdup.archive import checkpoint
from asyncdup.backends.base import SupportsParts
from asyncdup.commands.session import Session
from asyncdup.commands.workspace import dead_folders, is_of
from asyncdup.formats.names import parse_name
from asyncdup.threads import in_thread
from asyncdup.transfer import call_persistently


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One of them.

    Attributes:
        kind: ``spool``, the temporary folder of a killed run; ``upload``, an object that was being put in parts.
        name: path of the folder; name of the object.
        size: bytes on the local disk; 0 for an upload, whose size only the server knows.
        since: when it was begun, seconds since the epoch; None: not known.
        resumable: a journal speaks of it, so that the command that began it goes on with it.
        upload: id of the upload.
    """

    kind: Literal["spool", "upload"]
    name: str
    size: int = 0
    since: float | None = None
    resumable: bool = False
    upload: str = ""


async def leftovers(session: Session) -> list[Leftover]:
    """Those of this archive and of no archive: folders first, then uploads whose names belong to backups. Removes nothing.

    A run that is alive is not seen; one on another machine may have uploads, so these are left-overs only under the target's lock.

    Raises:
        BackendError: the target does not tell which uploads it has.
    """
    return [*await in_thread(_folders, session), *await _uploads(session)]


async def remove_leftovers(session: Session, found: Sequence[Leftover]) -> None:
    """Remove ``found``, resumable or not; what is gone already is success. Needs the locks of the archive folder and of the target.

    Raises:
        BackendError: an upload could not be given up.
    """
    await in_thread(session.inherited.claim, [Path(each.name) for each in found if each.kind == "spool"], [])
    if isinstance(backend := session.backend, SupportsParts):
        for each in found:
            if each.kind == "upload":
                abort = partial(backend.abort_parts, each.name, each.upload)
                await call_persistently(abort, gate=session.lane.gate, op=f"give up the upload of {each.name}", emit=session.hub.emit)


def _folders(session: Session) -> list[Leftover]:
    notes = [note for state in checkpoint.find(session.cache.path) for note in state.volumes.values() if note.spool]
    spoken_of = {Path(note.spool).parent.parent for note in notes}
    base = (session.options.tempdir or Path(tempfile.gettempdir())).absolute()
    dead = {path for path in dead_folders(base) if is_of(path, session.cache.path)}
    dead |= {path for path in spoken_of if path.parent != base and path in dead_folders(path.parent)}  # --tempdir was another
    return [_folder(path, path in spoken_of) for path in sorted(dead)]


def _folder(path: Path, resumable: bool) -> Leftover:
    size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    return Leftover(kind="spool", name=str(path), size=size, since=path.stat().st_mtime, resumable=resumable)


async def _uploads(session: Session) -> list[Leftover]:
    backend, options = session.backend, session.options
    if not isinstance(backend, SupportsParts) or backend.capabilities().parts is None:
        return []
    uploads = await call_persistently(backend.list_uploads, gate=session.lane.gate, op="list unfinished uploads", emit=session.hub.emit)
    now = int(options.now())
    ours = [upload for upload in uploads if parse_name(upload.name, options.prefixes, now) is not None]
    spoken_of = await in_thread(_resumable_uploads, session) if ours else set()
    return [
        Leftover(
            kind="upload",
            name=upload.name,
            since=upload.started,
            resumable=(upload.name, upload.id) in spoken_of,
            upload=upload.id,
        )
        for upload in sorted(ours, key=lambda upload: upload[:2])
    ]


def _resumable_uploads(session: Session) -> set[tuple[str, str]]:
    """Name and id of those whose volume is still there to be sent. Those of other prefixes are another backup's."""
    prefixes = repr(session.options.prefixes)
    states = [state for state in checkpoint.find(session.cache.path) if state.head.prefixes == prefixes]
    return {
        (note.name, state.uploads[note.name].id)
        for state in states
        for note in state.volumes.values()
        if note.name in state.uploads and note.number not in state.stored and note.spool and Path(note.spool).exists()
    }
