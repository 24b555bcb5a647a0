"""A chain at the target -> its manifests, and the volumes that a restore of one path needs, in the order of need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from asyncdup.archive.assemble import Needed, in_order_of_need
from asyncdup.archive.chains import BackupSet, Chain
from asyncdup.codecs import Codec
from asyncdup.formats import manifest
from asyncdup.formats.manifest import Manifest
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, ReadRequest


async def read_manifests(engine: Engine, lane: Lane, sets: Sequence[BackupSet], codec_of: Callable[[str], Codec]) -> list[Manifest]:
    """Of every set, from the target itself and several at a time: what is in a cache proves nothing (P5). Raises FormatError, naming the file."""
    names = [backup_set.manifest or "" for backup_set in sets]
    requests = [ReadRequest(name, backup_set.sizes[name]) for name, backup_set in zip(names, sets, strict=True)]
    async with engine.read_ordered(lane, requests) as items:
        return [await _read_manifest(item.path, item.name, codec_of(item.name)) async for item in items]


async def _read_manifest(path: Path, name: str, codec: Codec) -> Manifest:
    text = await codec.unpack(await in_thread(path.read_bytes), name=name)
    return await in_thread(lambda: manifest.parse(text, where=name))


def needed_volumes(chain: Chain, manifests: Sequence[Manifest], path: bytes = b"") -> list[Needed]:
    """The volumes that may hold entries at or below ``path``, over all sets. Raises ChainError, naming them, if some are not at the target."""
    sets: list[list[tuple[Needed, bytes]]] = []
    for index, (backup_set, described) in enumerate(zip(chain.sets, manifests, strict=True)):
        records = described.volumes_for(path)
        names = backup_set.require(record.number for record in records)
        sets.append(
            [
                (
                    Needed(index=index, number=record.number, name=name, size=backup_set.sizes.get(name), hashes=record.hashes),
                    record.end_path,
                )
                for record, name in zip(records, names, strict=True)
            ]
        )
    return in_order_of_need(sets)
