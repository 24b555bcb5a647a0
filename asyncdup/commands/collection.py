"""What is at a target: chains, sets, what is missing. Path: list -> ``chains``. Nothing is fetched."""

from __future__ import annotations

from asyncdup.archive.chains import Collection
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import open_session
from asyncdup.events import EventHub


async def collection_status(
    url: str, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> Collection:
    """The backup sets at ``url``, as their names tell. Takes no lock."""
    options = options or Options()
    async with (
        job("collection-status", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False, brief=True) as session,
    ):
        return session.collection(await session.listing())
