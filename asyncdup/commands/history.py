"""The versions of one path over all backups, from signature archives alone. Path: list -> ``chains`` -> ``sync`` -> ``versions``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from asyncdup.archive.signatures import read_members
from asyncdup.archive.versions import Version, Versions
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import open_session
from asyncdup.commands.signature_files import caching, chains_over_time, known_signatures
from asyncdup.errors import RestoreError
from asyncdup.events import EventHub
from asyncdup.threads import in_thread

NOT_THAT_PATH = 19  # duplicity's exit code for a path that is in no backup


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryResult:
    """``versions`` of ``path``, oldest first. ``sets``: how many backups were looked at, all of their signature archives."""

    path: bytes
    versions: tuple[Version, ...]
    sets: int


async def history(
    url: str, path: str | bytes, options: Options | None = None, *, events: EventHub | None = None, control: Control | None = None
) -> HistoryResult:
    """When ``path`` was new, changed and deleted. Reads the signature archives of all chains, from the cache where it has them; no volume.

    A version has the time of the backup that found it. Sets that another one replaced in its chain are not looked at.

    Raises:
        RestoreError: the path is in no backup (exit code 19).
        ChainError: there is no backup.
    """
    options = options or Options()
    wanted = os.fsencode(path).strip(b"/")
    wanted = b"" if wanted == b"." else wanted
    async with (
        job("history", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
        caching(session) as session,
    ):
        found: list[Version] = []
        versions = Versions(lambda each: each == wanted, lambda _, version: found.append(version))
        _, chains = await chains_over_time(session)
        sets = await known_signatures(session, *chains)
        for backup_set, file in sets:
            await in_thread(versions.read, backup_set.id, read_members(file))
    if not found:
        shown = os.fsdecode(wanted) or "."
        raise RestoreError(
            f"{shown} is in none of {len(sets)} backups", hint="asyncdup find URL GLOB searches them", exit_code=NOT_THAT_PATH
        )
    return HistoryResult(path=wanted, versions=tuple(found), sets=len(sets))
