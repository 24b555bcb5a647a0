"""The target's manifests and signature archives -> local copies in the archive folder (format, section 12). The target is the authority."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.codecs import Codec, Sealed
from asyncdup.errors import ChainError
from asyncdup.formats import names
from asyncdup.formats.names import ParsedName, Prefixes
from asyncdup.formats.sigtar import SigtarReader
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, ReadRequest

_EMPTIED = "is the disk mounted, is it the right folder? If the backups are really gone: --force begins anew"


def refuse_emptied_target(
    cache: ArchiveDir, found: Sequence[ParsedName], *, prefixes: Prefixes, now: int, place: str, sent: int | None = None
) -> None:
    """P19: a target that is not there is not an empty target. ``sent``: the time of an unfinished set that volumes were stored of.

    Raises:
        ChainError: the archive folder knows backups, and nothing of them is at the target.
    """
    if any(parsed.kind in ("manifest", "volume") for parsed in found):
        return
    known = [parsed for parsed in names.parse_names(cache.names(), prefixes, now) if parsed.kind == "manifest" and not parsed.partial]
    if known:
        newest = max(known, key=lambda parsed: parsed.set.end)
        raise ChainError(
            f"{place} holds no backup, but {len(known)} {'is' if len(known) == 1 else 'are'} known from it, the newest of {names.format_time(newest.set.end)}",
            hint=_EMPTIED,
        )
    if sent is not None:
        raise ChainError(
            f"{place} holds nothing, but volumes of the unfinished backup of {names.format_time(sent)} were stored there", hint=_EMPTIED
        )


def drop_stale(cache: ArchiveDir, found: Iterable[ParsedName], *, prefixes: Prefixes, now: int) -> list[str]:
    """Remove local copies of what is no longer at the target, files in the making included. Returns their names."""
    there = {names.cache_name(parsed) for parsed in found if parsed.kind != "volume"}
    stale = [parsed.name for parsed in names.parse_names(cache.names(), prefixes, now) if parsed.name not in there]
    cache.remove(stale)
    return stale


@asynccontextmanager
async def arriving(
    engine: Engine,
    lane: Lane,
    cache: ArchiveDir,
    wanted: Sequence[ParsedName],
    *,
    sizes: Mapping[str, int],
    codec_of: Callable[[str], Codec],
    gzip: Codec,
) -> AsyncGenerator[Callable[[], Awaitable[None]], None]:
    """Those of ``wanted`` (manifests and signature archives at the target) that the archive folder lacks, several at a time.

    They are on their way while the block runs; calling what it gives makes them local copies. Every byte is decoded then, so a damaged file
    never becomes one. ``sizes``: stored bytes, as listed: of an object of unknown size the spool must expect so much that few are read at once.
    """
    missing = [parsed for parsed in wanted if not cache.has(names.cache_name(parsed))]
    async with engine.read_ordered(lane, [ReadRequest(parsed.name, sizes.get(parsed.name)) for parsed in missing]) as items:

        async def keep() -> None:
            for parsed in missing:
                await _keep(cache, parsed, (await anext(items)).path, codec_of(parsed.name), gzip)

        yield keep


async def _keep(cache: ArchiveDir, parsed: ParsedName, path: Path, codec: Codec, gzip: Codec) -> None:
    """The stored file ``path`` as a local copy."""
    if parsed.kind == "manifest":
        data = await codec.unpack(await in_thread(path.read_bytes), name=parsed.name)
        await in_thread(cache.write, names.cache_name(parsed), data)
    else:
        temporary = cache.temporary(names.cache_name(parsed))
        await transcode(path, codec, temporary, gzip, name=parsed.name)
        await in_thread(cache.adopt, temporary, names.cache_name(parsed))


async def transcode(source: Path, reading: Codec, target: Path, writing: Codec, *, name: str | None = None) -> Sealed:
    """One stored signature archive into another stored form, ``target``, which does not exist yet. Errors call the first ``name``.

    Its members are looked at on the way: a plain one that is cut, or one that was never whole, has no checksum to tell (P4).
    """
    reader = SigtarReader(where=name or source.name)
    async with writing.seal(target) as sealer, reading.open(source, name=name) as chunks:
        async for chunk in chunks:
            await in_thread(reader.feed, chunk)
            await sealer.feed(chunk)
        reader.finish()
        return await sealer.finish()
