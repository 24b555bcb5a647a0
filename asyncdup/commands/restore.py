"""Restore a tree, or one path of it, as it was at some time.

Path: list -> ``chains`` -> manifests and volumes by ordered read-ahead (``reading``, ``assemble``) -> ``consume`` -> ``tree``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from asyncdup.archive.assemble import Assembly, Needed, read_ahead
from asyncdup.archive.below import Below, parts
from asyncdup.archive.chains import Chain
from asyncdup.archive.consume import Merger, Sink
from asyncdup.archive.reading import needed_volumes, read_manifests
from asyncdup.archive.rename import Renamed
from asyncdup.archive.tree import TreeWriter
from asyncdup.commands.entries import Announced
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import Problems, chain_to_read, selected
from asyncdup.commands.session import Session, open_session
from asyncdup.errors import RestoreError
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId
from asyncdup.threads import in_thread
from asyncdup.transfer import OrderedReader
from asyncdup.units import format_local_time

NOT_THAT_PATH, NOTHING = 19, 20  # duplicity's exit codes for a restore that found nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What was restored: the newest set of the chain, entries written, volumes fetched (with ``dry_run``: their names only).

    ``size``: bytes of the files among the entries; ``seconds``: how long it took.

    ``replaced``: of the entries those that took the place of something; ``kept``: what stayed instead of an entry (``overwrite``).
    """

    set_id: SetId
    entries: int
    volumes: tuple[str, ...]
    size: int = 0
    seconds: float = 0.0
    owners_left: int = 0
    replaced: int = 0
    kept: int = 0
    dry_run: bool = False


async def restore(
    url: str,
    target: str | os.PathLike[str],
    options: Options | None = None,
    *,
    time: int | None = None,
    path: str | bytes | Sequence[str | bytes] = b"",
    events: EventHub | None = None,
    control: Control | None = None,
) -> RestoreResult:
    """Write what was backed up to ``target``, which must not exist or be an empty folder unless ``options.overwrite`` or ``options.force``.

    ``time``: seconds since the epoch; the newest backup not after it is restored (None: the newest). ``path``: restore only this path of the
    backup; it becomes ``target``. Of several paths each goes to its own place below ``target``. Unfinished backups are passed over. No local cache, no signature archive and no lock is needed.

    Raises:
        RestoreError: ``target`` is in the way (exit 11); nothing was found (19, 20); or, at the end, some entries could not be restored as
            archived (30; 53 if each of them for want of room): its ``problems`` names them, all others were restored.
        ChainError, FormatError, IntegrityError, CodecError: the archive cannot be read that far.
    """
    options = options or Options()
    where = os.fsencode(target)
    async with (
        job("restore", source=url, target=os.fsdecode(where), options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        began = anyio.current_time()
        chain = await chain_to_read(session, time)
        session.notice(f"restoring the backup of {format_local_time(chain.end)}")
        paths = [path] if isinstance(path, str | bytes) else path
        result = await _restore(session, chain, where, parts([os.fsencode(each) for each in paths]) or [b""])
        return replace(result, seconds=anyio.current_time() - began)


async def _restore(session: Session, chain: Chain, target: bytes, paths: Sequence[bytes]) -> RestoreResult:
    options = session.options
    manifests = await read_manifests(session.engine, session.lane, chain.sets, session.reading_codec)
    needed = [needed_volumes(chain, manifests, path, may_be_missing=options.ignore_errors) for path in paths]
    volumes = tuple(dict.fromkeys(volume.name for some in needed for volume in some))
    if options.dry_run:
        return RestoreResult(set_id=chain.last.id, entries=0, volumes=volumes, dry_run=True)
    problems = Problems(session.hub)
    writer = TreeWriter(
        target,
        overwrite=options.overwrite,
        force=options.force,
        part=paths[0] != b"",
        ownership=options.restore_ownership,
        numeric_owner=options.numeric_owner,
        untrusted=options.untrusted,
        on_problem=problems.add,
        on_notice=problems.notice,
    )
    with closing(writer):
        missing = await _paths(session, chain, target, writer, dict(zip(paths, needed, strict=True)), problems)
    problems.full[_place_of(target)] += writer.without_room
    if writer.owners_left:
        session.notice(f"{writer.owners_left} entries have other owners than archived, since only root may set them")
    if writer.overwriting.kept or writer.overwriting.replaced:
        session.notice(f"of what was there already {writer.overwriting.replaced} were replaced, {writer.overwriting.kept} kept")
    _check(problems, missing)
    return RestoreResult(
        set_id=chain.last.id,
        entries=writer.entries,
        size=writer.size,
        volumes=volumes,
        owners_left=writer.owners_left,
        replaced=writer.overwriting.replaced,
        kept=writer.overwriting.kept,
    )


async def _paths(
    session: Session, chain: Chain, target: bytes, writer: TreeWriter, needed: Mapping[bytes, Sequence[Needed]], problems: Problems
) -> list[bytes]:
    """Restore each path from its ``needed`` volumes; those of the next are on their way before it is done. Returns the paths that came to nothing."""
    options, missing, sink = session.options, [], _sink(session, writer)
    volumes = [volume for some in needed.values() for volume in some]
    async with read_ahead(session.engine, session.lane, volumes, may_be_lost=options.ignore_errors) as items:
        for path, some in needed.items():
            before = writer.entries + writer.overwriting.kept
            await _one(session, chain, sink if len(needed) == 1 else Below(sink, path), path, some, items, problems)
            by_itself = bool(options.rules) and not path and await in_thread(os.path.isdir, target)  # the root, which no rule takes away
            if writer.entries + writer.overwriting.kept - before <= by_itself:
                missing.append(path)
    await in_thread(sink.finish)  # if it was not yet: with several paths only now is every folder complete
    return missing


async def _one(
    session: Session, chain: Chain, sink: Sink, path: bytes, needed: Sequence[Needed], items: OrderedReader[Any], problems: Problems
) -> None:
    """Restore what is at and below ``path``, from the next of ``items``."""
    select = selected(session.selection(b"", restoring=True))
    merger = Merger(sink, len(chain.sets), prefix=path, select=select, tempdir=session.tempdir, on_problem=problems.add)
    with closing(merger):
        codecs = [session.reading_codec(backup_set.volume_name(1)) for backup_set in chain.sets]
        lost = problems.lost_volume if session.options.ignore_errors else None
        await Assembly(session.engine, session.lane, codecs, merger, session.hub, needed, on_lost=lost).run(items)
    problems.full[session.tempdir] += merger.without_room


def _sink(session: Session, writer: TreeWriter) -> Sink:
    """What the merger gives to the writer passes through what the options ask for."""
    sink: Sink = Announced(writer, session.hub) if session.options.list_entries else writer
    return Renamed(sink, session.options.rename) if session.options.rename else sink


def _place_of(target: bytes) -> Path:
    """Where ``target`` is or would be."""
    path = Path(os.fsdecode(target))
    return path if path.exists() else path.parent


def _check(problems: Problems, missing: Sequence[bytes]) -> None:
    if problems.lines:
        raise problems.error(
            f"{len(problems.lines)} {'entry was' if len(problems.lines) == 1 else 'entries were'} not restored as archived, all others were",
            hint="the list above says why; for what is damaged, another --time may help",
            room_hint="make room there; the same command with --overwrite=never then adds what is missing, with =always it writes everything again",
        )
    if missing and missing[0]:
        shown = " and ".join(map(os.fsdecode, missing))
        verb = "is" if len(missing) == 1 else "are"
        raise RestoreError(f"{shown} {verb} not in the backup", hint="list-current-files shows what is", exit_code=NOT_THAT_PATH)
    if missing:
        raise RestoreError("the backup holds nothing that was asked for", exit_code=NOTHING)
