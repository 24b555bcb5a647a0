"""Remove what interrupted runs have left at the target, and what no restore can use. Without ``force`` it only says what that is.

Path: lock -> list -> ``chains``, journals -> deletes. Nothing else is cleared under a lock that somebody else holds: a backup under way looks
like one that was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asyncdup.archive import checkpoint
from asyncdup.archive.chains import BackupSet, Collection, partial_files
from asyncdup.archive.lock import lock_names
from asyncdup.backends.base import ObjectInfo
from asyncdup.commands.job import job
from asyncdup.commands.leftovers import Leftover, leftovers, remove_leftovers
from asyncdup.commands.locking import target_lock
from asyncdup.commands.options import Control, Options
from asyncdup.commands.remove import delete_sets, forget
from asyncdup.commands.session import Session, open_session
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId
from asyncdup.threads import in_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupResult:
    """What went, or, if not ``done``, what would go with ``force``.

    Attributes:
        unfinished: sets that were never finished.
        orphaned: sets whose base is gone, newest first.
        files: signature archives without a set, and unfinished objects of dead runs.
        others: temporary folders of dead runs, and uploads in parts that nobody goes on with.
        resumable: unfinished sets that stay, since the command that began them goes on with them; ``uploads`` in parts likewise.
    """

    unfinished: tuple[BackupSet, ...] = ()
    orphaned: tuple[BackupSet, ...] = ()
    files: tuple[str, ...] = ()
    others: tuple[Leftover, ...] = ()
    resumable: tuple[BackupSet, ...] = ()
    uploads: tuple[Leftover, ...] = ()
    done: bool = False

    @property
    def names(self) -> list[str]:
        """All objects of the target that go."""
        return [name for backup_set in (*self.orphaned, *self.unfinished) for name in backup_set.names] + list(self.files)


async def cleanup(
    url: str, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> CleanupResult:
    """Remove unfinished and orphaned sets, and stray files of backups, at ``url``. Only lists unless ``options.force``.

    An unfinished set whose journal is in the archive folder stays: the command that began it goes on with it.

    Raises:
        LockedError: another run writes to the target, or holds the archive folder.
    """
    options = options or Options()
    async with (
        job("cleanup", source="", target=url, options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        if not options.force or options.dry_run:
            listing = await session.listing()
            if lock_names(listing, options.prefixes):
                session.notice("another run may be writing here right now: what it has not finished looks like what was interrupted")
            return await _found(session, session.collection(listing), listing, done=False)
        await in_thread(session.cache.lock)
        try:
            async with target_lock(session, "cleanup") as lock:
                listing = await lock.held_listing()
                found = await _found(session, session.collection(listing), listing, done=True)
                await _delete(session, found)
        finally:
            session.cache.unlock()
        return found


async def _found(session: Session, collection: Collection, listing: Mapping[str, ObjectInfo], *, done: bool) -> CleanupResult:
    kept, others = await in_thread(_known_here, session), await leftovers(session)
    return CleanupResult(
        unfinished=tuple(reversed([left for left in collection.unfinished if left.id not in kept])),
        orphaned=tuple(reversed(collection.orphaned)),
        files=(*collection.orphaned_signatures, *collection.temporary),  # nobody is making them: the lock says so
        others=tuple([each for each in others if not each.resumable]),
        uploads=tuple([each for each in others if each.resumable and each.kind == "upload"]),
        resumable=tuple(left for left in collection.unfinished if left.id in kept),
        done=done,
    )


def _known_here(session: Session) -> set[SetId]:
    """Sets that the journals of this archive folder, or stock duplicity's, can go on with."""
    states = checkpoint.find(session.cache.path)
    partial = partial_files(session.cache.names(), prefixes=session.options.prefixes, now=int(session.options.now()))
    prefixes = repr(session.options.prefixes)
    return {state.head.set_id for state in states if state.head.prefixes == prefixes} | set(partial)


async def _delete(session: Session, found: CleanupResult) -> None:
    await delete_sets(session, [*found.orphaned, *found.unfinished])
    ops = [await session.engine.submit(session.lane, "delete", name) for name in found.files]
    for op in ops:
        await op.result()
    await forget(session, found.files)
    await remove_leftovers(session, found.others)
