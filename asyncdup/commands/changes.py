"""Which files the sets of the newest chain hold new or changed, from their manifests; and their statistics. Path: list -> ``chains`` -> manifests.

Nothing of a volume is fetched. A manifest says no files if it was written with ``--no-files-changed``, or by an old version.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from asyncdup.archive.chains import BackupSet
from asyncdup.archive.jsonstat import MAX_SIZE
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import Session, open_session
from asyncdup.errors import FormatError, UsageError
from asyncdup.events import EventHub
from asyncdup.formats import manifest
from asyncdup.formats.names import parse_names
from asyncdup.threads import in_thread
from asyncdup.transfer import OrderedReader, ReadItem, ReadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SetChanges:
    """``files``: ("new" or "changed" or "deleted", path), in archive order; ``statistics``: text of the set's statistics file, if it has one."""

    backup_set: BackupSet
    files: tuple[tuple[str, bytes], ...]
    statistics: str | None = None


async def changes(
    url: str,
    options: Options | None = None,
    *,
    index: int | None = None,
    events: EventHub | None = None,
    control: Control | None = None,
) -> list[SetChanges]:
    """Of the newest chain at ``url``, oldest set first. ``index``: only one of its sets, 0 is the newest; None: all.

    With ``options.jsonstat`` the statistics are read, too.

    Raises:
        UsageError: the chain has fewer sets.
        ChainError: there is no chain.
    """
    options = options or Options()
    async with (
        job("collection-status", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        collection = session.collection(await session.listing())
        chain = collection.newest_chain or collection.chain_for()  # which says what there is instead
        chosen = _chosen(chain.sets, index)
        files = [(name, each.sizes.get(name)) for each in chosen for name in (each.manifest, _statistics_of(session, each)) if name]
        async with session.engine.read_ordered(session.lane, [ReadRequest(*file) for file in files]) as items:
            return [await _changes(session, each, items) for each in chosen]


def _chosen(sets: Sequence[BackupSet], index: int | None) -> Sequence[BackupSet]:
    if index is None:
        return sets
    if not 0 <= index < len(sets):
        raise UsageError(f"the newest chain has {len(sets)} sets, and none with the number {index}", hint="0 is the newest of them")
    return [sets[len(sets) - 1 - index]]


async def _changes(session: Session, backup_set: BackupSet, items: OrderedReader[ReadItem]) -> SetChanges:
    """The next of ``items`` are those of the set."""
    name = backup_set.manifest or ""
    text = await session.reading_codec(name).unpack(await _content(await anext(items), manifest.MAX_SIZE), name=name)
    found = await in_thread(lambda: manifest.parse(text, where=name, file_list=True))
    statistics = await _statistics(session, await anext(items)) if _statistics_of(session, backup_set) else None
    return SetChanges(backup_set=backup_set, files=found.files_changed or (), statistics=statistics)


def _statistics_of(session: Session, backup_set: BackupSet) -> str | None:
    """The file to be read for them, if any."""
    return backup_set.jsonstat if session.options.jsonstat else None


async def _statistics(session: Session, item: ReadItem) -> str:
    name, stored = item.name, await _content(item, MAX_SIZE)
    (parsed,) = parse_names([name], session.options.prefixes, int(session.options.now()))
    data = await session.reading_codec(name).unpack(stored, name=name) if parsed.encrypted else stored
    if parsed.suffix == ".gz":
        data = _unzipped(data, name)
    return data.decode("utf-8", "replace")


async def _content(item: ReadItem, most: int) -> bytes:
    """Of at most ``most`` bytes (P9)."""
    if item.size > most:
        raise FormatError(f"has {item.size} bytes; more than {most} are not read", where=item.name)
    return await in_thread(item.path.read_bytes)


def _unzipped(data: bytes, name: str) -> bytes:
    """At most MAX_SIZE bytes, whatever the file says (P9)."""
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(data, MAX_SIZE)
    except zlib.error as error:
        raise FormatError(f"is not what gzip makes: {error}", where=name) from error
    if not stream.eof:
        raise FormatError("is cut off, or far too long for statistics", where=name)
    return plain
