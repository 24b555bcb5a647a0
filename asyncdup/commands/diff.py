"""What differs between two backups, from signature archives alone. Path: list -> ``chains`` -> ``sync`` -> ``versions``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from asyncdup.archive.chains import Chain, Collection
from asyncdup.archive.signatures import live_members
from asyncdup.archive.versions import Difference, differences
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import open_session
from asyncdup.commands.signature_files import caching, chains_over_time, signature_files
from asyncdup.errors import ChainError
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId, format_time
from asyncdup.threads import in_thread

AT_ONCE = 1000  # differences a thread hop


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffResult:
    """The two backups that were compared, and how many paths of the second one are new, changed and deleted."""

    before: SetId
    after: SetId
    new: int
    changed: int
    deleted: int


async def diff(
    url: str,
    options: Options | None = None,
    *,
    start: int | None = None,
    end: int | None = None,
    on_differences: Callable[[list[Difference]], None],
    events: EventHub | None = None,
    control: Control | None = None,
) -> DiffResult:
    """Compare the newest backup not after ``start`` with the newest not after ``end`` (seconds since the epoch).

    None: ``end`` is the newest backup, ``start`` the one before ``end``. ``on_differences`` gets them in archive order, some hundreds at a
    time. Type, mode, owner, time, target and the content as far as signatures tell are compared, files in the cache read, no volumes.

    Raises:
        ChainError: there is no backup so old, or not two; a signature archive is missing.
    """
    options = options or Options()
    async with (
        job("diff", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
        caching(session) as session,
    ):
        collection, _ = await chains_over_time(session)
        first, second = _both(collection, start, end)
        before, after = await signature_files(session, first, second)
        found = differences(live_members(before), live_members(after))
        counts = {"new": 0, "changed": 0, "deleted": 0}
        while some := await in_thread(lambda: list(itertools.islice(found, AT_ONCE))):
            for each in some:
                counts[each.what] += 1
            on_differences(some)
        return DiffResult(before=first.last.id, after=second.last.id, **counts)


def _both(collection: Collection, start: int | None, end: int | None) -> tuple[Chain, Chain]:
    second = collection.chain_for(end)
    if start is not None:
        first = collection.chain_for(start)
    else:
        older = [each.end for each in collection.sets if each.is_complete and each.end < second.end]
        if not older:
            raise ChainError(f"there is no backup before the one of {format_time(second.end)} to compare it with")
        first = collection.chain_for(max(older))
    if first.end > second.end:
        raise ChainError(
            f"the first backup, of {format_time(first.end)}, is newer than the second, of {format_time(second.end)}",
            hint="--from names the older one, --to the newer",
        )
    return first, second
