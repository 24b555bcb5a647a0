"""Restore a tree, or one path of it, as it was at some time.

Path: list -> ``chains`` -> manifests and volumes by ordered read-ahead (``reading``, ``assemble``) -> ``consume`` -> ``tree``.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass

from asyncdup.archive.assemble import Assembly
from asyncdup.archive.chains import Chain
from asyncdup.archive.consume import Merger
from asyncdup.archive.reading import needed_volumes, read_manifests
from asyncdup.archive.tree import TreeWriter
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import Problems, chain_to_read, selected
from asyncdup.commands.session import Session, open_session
from asyncdup.errors import RestoreError
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId, format_time

NOT_THAT_PATH, NOTHING = 19, 20  # duplicity's exit codes for a restore that found nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What was restored: the newest set of the chain, entries written, volumes fetched (with ``dry_run``: their names only)."""

    set_id: SetId
    entries: int
    volumes: tuple[str, ...]
    owners_left: int = 0
    dry_run: bool = False


async def restore(
    url: str,
    target: str | os.PathLike[str],
    options: Options | None = None,
    *,
    time: int | None = None,
    path: str | bytes = b"",
    events: EventHub | None = None,
    control: Control | None = None,
) -> RestoreResult:
    """Write what was backed up to ``target``, which must not exist or be an empty folder unless ``options.force``.

    ``time``: seconds since the epoch; the newest backup not after it is restored (None: the newest). ``path``: restore only this path of the
    backup; it becomes ``target``. Unfinished backups are passed over. No local cache, no signature archive and no lock is needed.

    Raises:
        RestoreError: ``target`` is in the way (exit 11); nothing was found (19, 20); or, at the end, some entries could not be restored as
            archived: its ``problems`` names them, all others were restored.
        ChainError, FormatError, IntegrityError, CodecError: the archive cannot be read that far.
    """
    options = options or Options()
    where = os.fsencode(target)
    async with (
        job("restore", source=url, target=os.fsdecode(where), options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        chain = await chain_to_read(session, time)
        session.notice(f"restoring the backup of {format_time(chain.end)}")
        return await _restore(session, chain, where, os.fsencode(path).strip(b"/"))


async def _restore(session: Session, chain: Chain, target: bytes, path: bytes) -> RestoreResult:
    options = session.options
    manifests = await read_manifests(session.engine, session.lane, chain.sets, session.reading_codec)
    needed = needed_volumes(chain, manifests, path)
    volumes = tuple(volume.name for volume in needed)
    if options.dry_run:
        return RestoreResult(set_id=chain.last.id, entries=0, volumes=volumes, dry_run=True)
    problems = Problems(session.hub)
    writer = TreeWriter(
        target,
        force=options.force,
        part=bool(path),
        ownership=options.restore_ownership,
        numeric_owner=options.numeric_owner,
        on_problem=problems.add,
        on_notice=problems.notice,
    )
    select = selected(session.selection(b"", restoring=True))
    with closing(writer):
        merger = Merger(writer, len(chain.sets), prefix=path, select=select, tempdir=session.tempdir, on_problem=problems.add)
        with closing(merger):
            codecs = [session.reading_codec(backup_set.volume_name(1)) for backup_set in chain.sets]
            await Assembly(session.engine, session.lane, codecs, merger, session.hub, needed).run()
    if writer.owners_left:
        session.notice(f"{writer.owners_left} entries have other owners than archived, since only root may set them")
    _check(problems, writer.entries, path)
    return RestoreResult(set_id=chain.last.id, entries=writer.entries, volumes=volumes, owners_left=writer.owners_left)


def _check(problems: Problems, entries: int, path: bytes) -> None:
    if problems.lines:
        raise RestoreError(
            f"{len(problems.lines)} {'entry was' if len(problems.lines) == 1 else 'entries were'} not restored as archived; all others were",
            problems=tuple(problems.lines),
            hint="the list is above; verify or another --time may help",
        )
    if not entries and path:
        raise RestoreError(f"{os.fsdecode(path)} is not in the backup", hint="list-current-files shows what is", exit_code=NOT_THAT_PATH)
    if not entries:
        raise RestoreError("the backup holds nothing that was asked for", exit_code=NOTHING)
