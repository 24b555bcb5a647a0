"""The files that a backup holds, from its signature archives alone. Path: list -> ``chains`` -> ``sync`` -> ``signatures``."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from asyncdup.archive.signatures import live_members
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import chain_to_read
from asyncdup.commands.session import open_session
from asyncdup.commands.signature_files import caching, signature_files
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId
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
        async with caching(session) as session:
            (files,) = await signature_files(session, chain)
            members = live_members(files)
            while entries := await in_thread(lambda: [member.entry for member in itertools.islice(members, AT_ONCE)]):
                on_entries(entries)
        return chain.last.id
