"""A chain at the target -> its manifests, and the volumes that a restore of one path needs, in the order of need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncdup.archive.assemble import Needed, in_order_of_need
from asyncdup.archive.chains import BackupSet, Chain
from asyncdup.codecs import Codec
from asyncdup.errors import FormatError
from asyncdup.formats import manifest
from asyncdup.formats.manifest import Manifest
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, ReadRequest


async def read_manifests(engine: Engine, lane: Lane, sets: Sequence[BackupSet], codec_of: Callable[[str], Codec]) -> list[Manifest]:
    """Of every set, from the target itself and several at a time: what is in a cache proves nothing (P5). Raises FormatError, naming the file."""
    names = [backup_set.manifest or "" for backup_set in sets]
    requests = [ReadRequest(name, backup_set.sizes.get(name)) for name, backup_set in zip(names, sets, strict=True)]
    manifests = []
    async with engine.read_ordered(lane, requests, hedge=True) as items:
        for backup_set in sets:
            item = await anext(items)
            text = await codec_of(item.name).unpack(await in_thread(item.path.read_bytes), name=item.name)
            manifests.append(await in_thread(parse_manifest, text, backup_set))
    return manifests


def parse_manifest(text: bytes, backup_set: BackupSet) -> Manifest:
    """The manifest of ``backup_set``, whole. Raises FormatError, naming the file.

    Cut off between two volumes it would read as that of a smaller set. Then it has lost the file list at its end, and there are more volumes
    at the target (P4). Both together tell: old manifests have no file list, and a resumed run of stock may have left a volume too many.
    """
    found = manifest.parse(text, where=backup_set.manifest)
    last, highest = max(found.volumes), max(backup_set.volumes, default=0)
    if found.files is None and highest > last:
        message = f"the manifest is cut off: it ends with volume {last}, but {backup_set.volumes[highest]} is at the target"
        raise FormatError(message, offset=len(text), where=backup_set.manifest)
    return found


def needed_volumes(chain: Chain, manifests: Sequence[Manifest], path: bytes = b"", *, may_be_missing: bool = False) -> list[Needed]:
    """The volumes that may hold entries at or below ``path``, over all sets.

    Raises:
        ChainError: some are not at the target, and not ``may_be_missing``; it names them.
    """
    sets: list[list[tuple[Needed, bytes]]] = []
    for index, (backup_set, described) in enumerate(zip(chain.sets, manifests, strict=True)):
        records = described.volumes_for(path)
        numbers = [record.number for record in records]
        names = [backup_set.volume_name(number) for number in numbers] if may_be_missing else backup_set.require(numbers)
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
