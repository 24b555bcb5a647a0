"""The target's manifests and signature archives -> local copies in the archive folder (format, section 12). The target is the authority."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.codecs import Codec
from asyncdup.errors import ChainError
from asyncdup.formats import names
from asyncdup.formats.names import ParsedName, Prefixes
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, ReadRequest


def refuse_emptied_target(cache: ArchiveDir, found: Sequence[ParsedName], *, prefixes: Prefixes, now: int, place: str) -> None:
    """P19: a target that is not there is not an empty target.

    Raises:
        ChainError: the archive folder knows backups, and nothing of them is at the target.
    """
    if any(parsed.kind in ("manifest", "volume") for parsed in found):
        return
    known = [parsed for parsed in names.parse_names(cache.names(), prefixes, now) if parsed.kind == "manifest" and not parsed.partial]
    if known:
        newest = max(known, key=lambda parsed: parsed.set.end)
        raise ChainError(
            f"{place} holds no backup, but {len(known)} are known from it, the newest of {names.format_time(newest.set.end)}",
            hint="is the disk mounted, is it the right folder? If the backups are really gone: --force begins anew",
        )


def drop_stale(cache: ArchiveDir, found: Iterable[ParsedName], *, prefixes: Prefixes, now: int) -> list[str]:
    """Remove local copies of what is no longer at the target, files in the making included. Returns their names."""
    there = {names.cache_name(parsed) for parsed in found if parsed.kind != "volume"}
    stale = [parsed.name for parsed in names.parse_names(cache.names(), prefixes, now) if parsed.name not in there]
    cache.remove(stale)
    return stale


async def fetch(
    engine: Engine, lane: Lane, cache: ArchiveDir, wanted: Sequence[ParsedName], *, codec_of: Callable[[str], Codec], gzip: Codec
) -> None:
    """Bring those of ``wanted`` (manifests and signature archives at the target) that the archive folder lacks, several at a time.

    Every byte is decoded on the way, so a damaged file is found here and never becomes a local copy.
    """
    missing = [parsed for parsed in wanted if not cache.has(names.cache_name(parsed))]
    if not missing:
        return
    async with engine.read_ordered(lane, [ReadRequest(parsed.name) for parsed in missing]) as items:
        for parsed in missing:
            item = await anext(items)
            if parsed.kind == "manifest":
                data = await codec_of(parsed.name).unpack(await in_thread(item.path.read_bytes))
                await in_thread(cache.write, names.cache_name(parsed), data)
            else:
                temporary = cache.temporary(names.cache_name(parsed))
                await transcode(item.path, codec_of(parsed.name), temporary, gzip)
                await in_thread(cache.adopt, temporary, names.cache_name(parsed))


async def transcode(source: Path, reading: Codec, target: Path, writing: Codec) -> None:
    """One stored file into another stored form, ``target``, which does not exist yet."""
    async with writing.seal(target) as sealer, reading.open(source) as chunks:
        async for chunk in chunks:
            await sealer.feed(chunk)
        await sealer.finish()
