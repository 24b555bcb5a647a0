"""Paths by a glob, over all backups or in one, from signature archives alone. Path: list -> ``chains`` -> ``sync`` -> ``versions``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from asyncdup.archive.chains import Chain
from asyncdup.archive.selection import glob_matcher
from asyncdup.archive.signatures import live_members, read_members
from asyncdup.archive.versions import Version, Versions
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import chain_to_read
from asyncdup.commands.session import Session, open_session
from asyncdup.commands.signature_files import caching, chains_over_time, known_signatures, signature_files
from asyncdup.events import EventHub
from asyncdup.formats.tar import Entry, key
from asyncdup.threads import in_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPath:
    """A path that fits.

    Attributes:
        first: time of the first backup that has it, ``last``: of the last one. Seconds since the epoch.
        versions: in how many forms it was stored.
        entry: the newest of them; its ``size`` means nothing. ``sizes``: see ``Version``.
        live: whether the newest backup that was looked at has it.
    """

    path: bytes
    first: int
    last: int
    versions: int
    entry: Entry
    sizes: tuple[int, int] | None
    live: bool


async def find(
    url: str,
    pattern: str | bytes,
    options: Options | None = None,
    *,
    time: int | None = None,
    events: EventHub | None = None,
    control: Control | None = None,
) -> list[FoundPath]:
    """The paths that fit ``pattern``, in archive order: with ``time`` those of the newest backup not after it, else those of all backups.

    A pattern without a slash is matched with names, one with a slash with whole paths, as ``list_current_files`` gives them. Reads the
    signature archives of all chains (with ``time``: of one), from the cache where it has them; no volume. Holds what it finds.

    Raises:
        UsageError: no pattern.
        ChainError: there is no backup, or none so old.
    """
    options = options or Options()
    matches = glob_matcher(os.fsencode(pattern))
    async with (
        job("find", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
        caching(session) as session,
    ):
        search = _Search()
        versions = Versions(matches, search.note)
        if time is not None:
            await _one_time(session, await chain_to_read(session, time), versions)
        else:
            await _all_times(session, versions, search)
        return search.results(set(versions.live))


async def _one_time(session: Session, chain: Chain, versions: Versions) -> None:
    """As if the tree of that time were one full set."""
    (files,) = await signature_files(session, chain)
    await in_thread(versions.read, chain.last.id, live_members(files))


async def _all_times(session: Session, versions: Versions, search: _Search) -> None:
    _, chains = await chains_over_time(session)
    for backup_set, file in await known_signatures(session, *chains):
        await in_thread(versions.read, backup_set.id, read_members(file))
        search.before = backup_set.end


class _Search:
    """Sums versions up by path. ``before``: time of the last set that was read wholly."""

    def __init__(self) -> None:
        self.before = 0
        self._paths: dict[bytes, FoundPath] = {}
        self._newest = 0

    def note(self, path: bytes, version: Version) -> None:
        """One version."""
        now = self._newest = version.set_id.end
        old = self._paths.get(path)
        if version.entry is not None:
            first, count = (old.first, old.versions) if old else (now, 0)
            self._paths[path] = FoundPath(
                path=path, first=first, last=now, versions=count + 1, entry=version.entry, sizes=version.sizes, live=True
            )
        elif old is not None:
            self._paths[path] = replace(old, last=self.before, live=False)

    def results(self, live: set[bytes]) -> list[FoundPath]:
        """What was found; what is live was last seen in the newest set."""
        newest = max(self._newest, self.before)
        found = [self._paths[path] for path in sorted(self._paths, key=key)]
        return [replace(each, last=newest) if each.path in live else each for each in found]
