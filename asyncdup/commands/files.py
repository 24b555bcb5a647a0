"""The files that a backup holds, from its signature archives alone. Path: list -> ``chains`` -> ``sync`` -> ``signatures``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.archive.signatures import live_members
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import chain_to_read
from asyncdup.commands.session import Session, open_session
from asyncdup.errors import ChainError, LockedError
from asyncdup.events import EventHub
from asyncdup.formats import names
from asyncdup.formats.names import SetId, parse_names
from asyncdup.formats.tar import Entry
from asyncdup.threads import in_thread

AT_ONCE = 1000  # entries a thread hop


async def list_current_files(
    url: str,
    options: Options | None = None,
    *,
    time: int | None = None,
    on_entries: Callable[[list[Entry]], None],
    events: EventHub | None = None,
    control: Control | None = None,
) -> SetId:
    """Give the entries of the backup of ``time`` (None: the newest) to ``on_entries``, in archive order, some hundreds at a time.

    Signature archives that the cache lacks are fetched into it, or, while another run holds it, into a temporary one.
    """
    options = options or Options()
    async with (
        job("list-current-files", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        chain = await chain_to_read(session, time)
        if not chain.has_signatures:
            raise ChainError(chain.defects[0], hint="restore needs no signature archives: restore, and list what you get")
        session = await _with_cache(session)
        try:
            wanted = parse_names([each.signatures or "" for each in chain.sets], options.prefixes, int(options.now()))
            await session.fetch_to_cache(wanted, chain)
            members = live_members([session.cache.path / names.cache_name(parsed) for parsed in wanted])
            while entries := await in_thread(lambda: [member.entry for member in itertools.islice(members, AT_ONCE)]):
                on_entries(entries)
        finally:
            session.cache.unlock()
        return chain.last.id


async def _with_cache(session: Session) -> Session:
    try:
        await in_thread(session.cache.lock)
    except LockedError:
        cache = ArchiveDir(session.tempdir, "cache")
        await in_thread(cache.create)
        return replace(session, cache=cache)
    return session
