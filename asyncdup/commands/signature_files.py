"""The signature archives of a chain as local files, for the commands that read nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.commands.session import Session
from asyncdup.errors import ChainError, LockedError
from asyncdup.events import Warning
from asyncdup.formats import names
from asyncdup.formats.names import parse_names
from asyncdup.threads import in_thread

INCOMPLETE_BACKUP = 5  # duplicity's warning code


@asynccontextmanager
async def caching(session: Session) -> AsyncIterator[Session]:
    """``session`` with a cache that may be written to: its own, or, while another run holds that, a temporary one."""
    try:
        await in_thread(session.cache.lock)
    except LockedError:
        cache = ArchiveDir(session.tempdir, "cache")
        await in_thread(cache.create)
        session = replace(session, cache=cache)
    try:
        yield session
    finally:
        session.cache.unlock()


async def signature_files(session: Session, *chains: Chain) -> list[list[Path]]:
    """Those of all sets of each chain, oldest first; what the cache lacks is fetched into it. Raises ChainError if one is not at the target."""
    for chain in chains:
        if not chain.has_signatures:
            lacking = next(each for each in chain.sets if each.signatures is None)
            raise ChainError(
                f"the signature archive of the set {lacking.id} is missing",
                hint="restore needs no signature archives: restore, and look at what you get",
            )
    paths = {backup_set.id: path for backup_set, path in await known_signatures(session, *chains)}
    return [[paths[backup_set.id] for backup_set in chain.sets] for chain in chains]


async def known_signatures(session: Session, *chains: Chain) -> list[tuple[BackupSet, Path]]:
    """Those that there are, each with its set, which comes once though two chains may share it; a warning for each other."""
    sets = []
    for each in {backup_set.id: backup_set for chain in chains for backup_set in chain.sets}.values():
        if each.signatures is not None:
            sets.append(each)
        else:
            message = f"the signature archive of the set {each.id} is missing: what that backup did is not known"
            session.hub.emit(Warning(message=message, code=INCOMPLETE_BACKUP))
    wanted = parse_names([each.signatures or "" for each in sets], session.options.prefixes, int(session.options.now()))
    await session.fetch_to_cache(wanted, *chains)
    return [(each, session.cache.path / names.cache_name(parsed)) for each, parsed in zip(sets, wanted, strict=True)]


async def chains_over_time(session: Session) -> tuple[Collection, list[Chain]]:
    """What is at the target, and its chains by their beginnings. Raises ChainError if there is no backup."""
    collection = session.collection(await session.listing())
    for unfinished in collection.unfinished:
        session.notice(f"the set {unfinished.id} was never finished and is passed over")
    if not collection.chains:
        collection.chain_for(None)
    return collection, sorted(collection.chains, key=lambda chain: chain.start)
