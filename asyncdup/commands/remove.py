"""Take old backups away: ``remove-older-than``, ``remove-all-but-n-full``, ``remove-all-inc-of-but-n-full``, ``prune``.

Path: lock -> list -> ``chains``, ``retention`` -> deletes through the engine, several at a time, manifests first. Without ``force`` nothing is
locked or deleted, and the result says what would be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncdup.archive import retention
from asyncdup.archive.chains import BackupSet, Collection
from asyncdup.archive.retention import Keep, Removal, Thinning
from asyncdup.commands.job import job
from asyncdup.commands.locking import target_lock
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import Session, open_session
from asyncdup.errors import UsageError
from asyncdup.events import EventHub, Warning
from asyncdup.formats.names import cache_name, parse_names
from asyncdup.threads import in_thread
from asyncdup.transfer import Op

INCOMPLETE_BACKUP = 5  # duplicity's warning code


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveResult:
    """What went, or, if not ``done``, what would go with ``force``."""

    removal: Removal
    done: bool


async def remove_older_than(
    url: str, time: int, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> RemoveResult:
    """Remove the chains that ended before ``time`` (seconds since the epoch), but never the newest. Only lists unless ``options.force``.

    Raises:
        LockedError: another run writes to the target, or holds the archive folder.
    """
    return await _remove("remove-older-than", url, options, lambda found: retention.older_than(found, time), events, control)


async def remove_all_but_n_full(
    url: str, count: int, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> RemoveResult:
    """Remove the chains that ended before the ``count``-th newest full. Otherwise as ``remove_older_than``."""
    decide = _decide(retention.all_but_n_full, count)
    return await _remove("remove-all-but-n-full", url, options, decide, events, control)


async def remove_all_inc_of_but_n_full(
    url: str, count: int, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> RemoveResult:
    """Remove the incrementals of the chains that ended before the ``count``-th newest full. Otherwise as ``remove_older_than``."""
    decide = _decide(retention.all_incrementals_of_but_n_full, count)
    return await _remove("remove-all-inc-of-but-n-full", url, options, decide, events, control)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult(RemoveResult):
    """``thinning``: which backups the rules keep, and why others stay."""

    thinning: Thinning


async def prune(
    url: str,
    options: Options | None = None,
    *,
    daily: int = 0,
    weekly: int = 0,
    monthly: int = 0,
    yearly: int = 0,
    events: EventHub | None = None,
    control: Control | None = None,
) -> PruneResult:
    """Keep the newest backup of each of the ``daily`` newest days that have one, and so on; and what these are built upon, and the newest chain.

    A backup that other kept ones are built upon cannot go, so a chain shrinks from its end only. Only lists unless ``options.force``.

    Raises:
        UsageError: nothing is to be kept.
        LockedError: another run writes to the target, or holds the archive folder.
    """
    keep = Keep(daily=daily, weekly=weekly, monthly=monthly, yearly=yearly)
    if min(daily, weekly, monthly, yearly) < 0 or not (daily or weekly or monthly or yearly):
        raise UsageError("prune wants to know what to keep", hint="such as --keep-daily 7 --keep-weekly 4 --keep-monthly 12")
    decided: list[Thinning] = []

    def decide(collection: Collection) -> Removal:
        decided.append(retention.thinned(collection, keep))
        return decided[-1].removal

    result = await _remove("prune", url, options, decide, events, control)
    return PruneResult(removal=result.removal, done=result.done, thinning=decided[-1])


def _decide(rule: Callable[[Collection, int], Removal], count: int) -> Callable[[Collection], Removal]:
    if count < 1:
        raise UsageError(f"{count} fulls cannot be kept", hint="at least one is: a number from 1")
    return lambda collection: rule(collection, count)


async def _remove(
    action: str,
    url: str,
    options: Options | None,
    decide: Callable[[Collection], Removal],
    events: EventHub | None,
    control: Control | None,
) -> RemoveResult:
    options = options or Options()
    deleting = options.force and not options.dry_run
    async with (
        job(action, source="", target=url, options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        if not deleting:
            return RemoveResult(removal=_decided(session, decide, session.collection(await session.listing())), done=False)
        await in_thread(session.cache.lock)
        try:
            async with target_lock(session, action) as lock:
                removal = _decided(session, decide, session.collection(await lock.held_listing()))
                await delete_sets(session, removal.sets)
        finally:
            session.cache.unlock()
        return RemoveResult(removal=removal, done=True)


def _decided(session: Session, decide: Callable[[Collection], Removal], collection: Collection) -> Removal:
    """What goes; and a warning if what would stay is damaged, as then the older chains may be the better ones."""
    removal = decide(collection)
    newest = collection.newest_chain
    if removal.sets and newest is not None:
        for defect in newest.defects:
            session.hub.emit(Warning(message=f"the newest chain, which stays, is damaged: {defect}", code=INCOMPLETE_BACKUP))
    return removal


async def delete_sets(session: Session, sets: Sequence[BackupSet]) -> int:
    """Delete the files of ``sets``, in this order as far as it matters, several at a time, and the local copies; the number of files.

    A manifest goes when those of all newer sets of its chain are gone, and before anything else of its set: a kill leaves the older sets
    whole, and of the others only what is unfinished by its looks.
    """
    ops: list[Op[Any]] = []
    newer: list[Op[Any]] = []  # the manifest that must be gone before the next one
    for backup_set, (heads, rest) in zip(sets, retention.steps(sets), strict=True):
        before: list[Op[Any]] = []
        for name in heads:
            is_manifest = name == backup_set.manifest
            before.append(await _submit(session, name, newer if is_manifest else before[:1]))
            if is_manifest:
                newer = before[:1]
        if backup_set.is_full:
            newer = []  # the next set is of another chain
        ops += [*before, *[await _submit(session, name, before) for name in rest]]
    for op in ops:
        await op.result()
    await forget(session, [name for backup_set in sets for name in backup_set.names])
    return len(ops)


async def forget(session: Session, names: Sequence[str]) -> None:
    """Remove the local copies of what was ``names`` at the target."""
    parsed = parse_names(names, session.options.prefixes, int(session.options.now()))
    await in_thread(session.cache.remove, [cache_name(each) for each in parsed if each.kind != "volume"])


async def _submit(session: Session, name: str, after: Sequence[Op[Any]]) -> Op[Any]:
    op = await session.engine.submit(session.lane, "delete", name, after=after)
    op.observed = True  # its failure is raised by the wait for all
    return op
