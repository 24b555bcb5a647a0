"""Look at the locks at a target, and with ``force`` remove them: for the person who knows that their runs are dead."""

from __future__ import annotations

from dataclasses import dataclass

from asyncdup.archive.lock import MARK, MAX_SIZE, Holder, decode, lock_names
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import open_session
from asyncdup.errors import NotFound
from asyncdup.events import EventHub


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockResult:
    """``holders``: of the locks that were found; ``removed``: whether they were removed; ``now``: seconds since the epoch."""

    holders: tuple[Holder, ...]
    removed: bool
    now: float


async def unlock(
    url: str, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> UnlockResult:
    """The locks at ``url``; with ``options.force`` they are removed, whoever holds them. A writer that lives all the same ends when it notices."""
    options = options or Options()
    async with (
        job("unlock", source="", target=url, options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False, brief=True) as session,
    ):
        holders = []
        for name in lock_names(await session.listing(), options.prefixes):
            try:
                data = await session.engine.fetch(session.lane, name, MAX_SIZE)
            except NotFound:
                continue
            holders.append(decode(data, name.rpartition(MARK)[2]))
            if options.force:
                await session.engine.run(session.lane, "delete", name)
        return UnlockResult(holders=tuple(holders), removed=options.force, now=options.now())
