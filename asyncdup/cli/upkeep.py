"""What is said of removals, cleanups, checks and locks: results -> lines for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from asyncdup.archive.chains import BackupSet
from asyncdup.archive.retention import Removal
from asyncdup.commands.check import CheckResult
from asyncdup.commands.cleanup import CleanupResult
from asyncdup.commands.remove import PruneResult, RemoveResult
from asyncdup.commands.unlock import UnlockResult
from asyncdup.units import counted, format_local_time, format_size

AGAIN = "The same command with --force deletes them."


def removal_lines(result: RemoveResult) -> Iterator[str]:
    """What went, or would go, and what stays although it is old."""
    removal = result.removal
    if removal.active_is_old:
        yield "The newest chain is older than that, too. It is never removed."
    if removal.dependent and not removal.active_is_old:
        yield "Older than that, but needed by newer sets:"
        yield from (f"  {_set(each)}" for each in removal.dependent)
    if not removal.sets:
        yield "No old backup sets found, nothing deleted."
        return
    yield from _going(removal, f"{counted(len(removal.sets), 'set')} of {counted(len(removal.chains), 'chain')}", done=result.done)


def prune_lines(result: PruneResult) -> Iterator[str]:
    """What each rule keeps, what stays besides, and what goes, or would go. One line where nothing had to go, as after most backups of a profile."""
    if result.done and not result.removal.sets:
        yield f"prune: nothing deleted, {counted(len(result.thinning.kept) + len(result.removal.dependent), 'backup')} kept"
        return
    yield "Kept:"
    yield from (f"  {_set(each)}: {', '.join(words)}" for each, words in result.thinning.kept)
    removal = result.removal
    if removal.dependent:
        yield "Stay too, since a kept backup is built upon them, or the next one will be:"
        yield from (f"  {_set(each)}, {format_size(each.size)}" for each in removal.dependent)
    if not removal.sets:
        yield "Nothing else is there, nothing deleted."
        return
    yield from _going(removal, counted(len(removal.sets), "set"), done=result.done)


def _going(removal: Removal, total: str, *, done: bool) -> Iterator[str]:
    """The sets that went, or would go, and what that is in all."""
    yield "Deleted:" if done else "Would be deleted:"
    yield from (f"  {_set(each)}, {counted(len(each.names), 'file')}, {format_size(each.size)}" for each in reversed(removal.sets))
    yield f"{total}, {counted(len(removal.names), 'file')}, {format_size(removal.size)}."
    if not done:
        yield AGAIN


def cleanup_lines(result: CleanupResult) -> Iterator[str]:
    """What went, or would go, by name; and what stays because a backup goes on with it."""
    for left in result.resumable:
        yield f"The set {left.id} is unfinished, and stays: the backup command that began it goes on with it."
    for upload in result.uploads:
        yield f"The upload of {upload.name} in parts stays: the backup command that began it goes on with it."
    if not result.names and not result.others:
        yield "No extraneous files found, nothing deleted."
        return
    for kind, sets in (("was never finished", result.unfinished), ("has lost the set that it was built upon", result.orphaned)):
        yield from (f"The set {each.id} {kind}." for each in sets)
    yield "Deleted:" if result.done else "Would be deleted:"
    yield from (f"  {name}" for name in result.names)
    for other in result.others:
        yield f"  {other.name} ({'an upload in parts' if other.kind == 'upload' else f'of a run that was killed, {format_size(other.size)}'})"
    if not result.done:
        yield AGAIN


def check_lines(result: CheckResult) -> Iterator[str]:
    """Remarks, then damage, then a line that says it all."""
    for finding in result.findings:
        if not finding.damage:
            yield f"{finding.name}: {finding.message}"
    for finding in result.damage:
        yield f"DAMAGE: {finding.name}: {finding.message}"
    yield from (f"Rebuilt: {what}" for what in result.repaired)
    yield from (f"Would be rebuilt: {what}" for what in result.repairable)
    if result.repairable:
        yield "The same command with --force rebuilds them."
    looked = f"{counted(result.sets, 'set')}, {counted(result.volumes, 'volume')}"
    if result.sampled:
        looked += f"; read: {result.sampled}"
    else:
        looked += f"; {result.read} of them read and verified" if result.read else "; volumes were not read (--read-data does)"
    count = len(result.damage)
    yield f"{looked}. No damage found." if not count else f"{looked}. Damage found: {count}."


def unlock_lines(result: UnlockResult) -> Iterator[str]:
    """Who holds the target."""
    if not result.holders:
        yield "There is no lock."
    for holder in result.holders:
        yield f"{'Removed the lock of' if result.removed else 'Locked by'} {holder.describe(result.now)}."
    if result.holders and not result.removed:
        yield "If you know that it is dead: the same command with --force removes the lock."


def _set(backup_set: BackupSet) -> str:
    return f"{'full' if backup_set.is_full else 'incremental'} of {format_local_time(backup_set.end)}"
