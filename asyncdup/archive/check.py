"""What is wrong with a collection of backups: findings from names and sizes, from manifests, and which volumes a sample takes. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncdup.archive.assemble import Needed
from asyncdup.archive.chains import TEMPORARY, BackupSet, Collection
from asyncdup.archive.lock import lock_names
from asyncdup.backends.base import ObjectInfo
from asyncdup.formats.difftar import PART, Bound
from asyncdup.formats.manifest import Manifest, VolumeRecord
from asyncdup.formats.names import Prefixes

DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should know.

    Attributes:
        damage: something cannot be restored or continued as it should; else a remark.
        kind: ``missing``, ``damaged``, ``orphaned``, ``unfinished``, ``stray``, ``foreign``, ``lock``.
        name: of the object concerned, or of the set.
        content: bytes were read and found wrong.
    """

    kind: str
    name: str
    message: str
    damage: bool = True
    content: bool = False


def structure(collection: Collection, listing: Mapping[str, ObjectInfo], prefixes: Prefixes) -> list[Finding]:
    """What names and sizes alone show."""
    mixed = "is stored in plain, in a chain that is encrypted"
    found = [
        Finding(kind="stray", name=str(backup_set.id), message=mixed)
        for chain in collection.chains
        for backup_set in chain.sets
        if chain.encrypted and not backup_set.encrypted
    ]
    for backup_set in collection.sets:
        found += _of_set(backup_set)
    for lost in collection.orphaned:
        found.append(
            Finding(kind="orphaned", name=str(lost.id), message="cannot be restored: the set that it was built upon is gone or unfinished")
        )
    built_upon = {backup_set.start for backup_set in collection.sets if backup_set.is_complete and not backup_set.is_full}
    ends = {backup_set.end for backup_set in collection.sets if backup_set.is_complete}
    for left in collection.unfinished:
        lost_manifest = left.end in built_upon and left.end not in ends  # an interrupted run is never built upon
        message = "has lost its manifest, and other sets are built upon it" if lost_manifest else "was never finished, and is ignored"
        found.append(Finding(kind="missing" if lost_manifest else "unfinished", name=str(left.id), message=message, damage=lost_manifest))
    for fork in collection.forks:
        found.append(Finding(kind="stray", name=str(fork.id), message="was replaced by another set with the same base", damage=False))
    found += [_remark("orphaned", name, "belongs to no set") for name in collection.orphaned_signatures]
    return found + _foreign(collection, listing, prefixes)


def of_manifest(backup_set: BackupSet, manifest: Manifest) -> list[Finding]:
    """What a set lacks of what its manifest names, and what it has beyond."""
    numbers = sorted(manifest.volumes)
    missing = [backup_set.volume_name(number) for number in numbers if number not in backup_set.volumes]
    more = [backup_set.volumes[number] for number in sorted(backup_set.volumes) if number not in manifest.volumes]
    found = [Finding(kind="missing", name=name, message="is not there, but the manifest names it") for name in missing]
    return found + [_remark("stray", name, "is not named by its manifest, and is ignored") for name in more]


def wrong_bounds(record: VolumeRecord, bounds: tuple[Bound, Bound] | None) -> list[str]:
    """What the manifest says wrongly of where a volume begins and ends: a sentence for each of the two.

    Of an empty volume (``bounds`` is None) nothing can be wrong: stock begins one where a set ends just as its last volume is full, and names
    it after the root and the last path of the set (observed: duplicity 3.2.1).
    """
    if bounds is None:
        return []
    first, last = bounds
    said = (
        ("begins", first, "StartingPath", record.start_path, record.start_block),
        ("ends", last, "EndingPath", record.end_path, record.end_block),
    )
    return [
        f"volume {record.number} {verb} with {_place(there.path, there.part)}, but {key} says {_place(path, block)}"
        for verb, there, key, path, block in said
        if path != there.path or not _is_block(there, block)
    ]


def _is_block(there: Bound, block: int | None) -> bool:
    """The number of a part; none for a file that is not split, nor for the last part of one, which alone has fewer bytes than the others."""
    return block == there.part if block is not None else not there.part or there.size != PART


def _place(path: bytes, part: int | None) -> str:
    name = os.fsdecode(path) or "."
    return f"part {part} of {name}" if part else name


def volumes_of(index: int, backup_set: BackupSet, manifest: Manifest) -> list[Needed]:
    """The volumes of a set that are there, with what the manifest says of them."""
    return [
        Needed(index=index, number=number, name=name, size=backup_set.sizes.get(name), hashes=record.hashes)
        for number, record in sorted(manifest.volumes.items())
        if (name := backup_set.volumes.get(number)) is not None
    ]


def sample(volumes: Sequence[Needed], percent: float, now: int) -> tuple[list[Needed], str]:
    """A part of ``volumes``, another one every day (UTC) until all had their turn; and a sentence that says which.

    ``percent``: above 0, to 100. At least one volume is taken.
    """
    turns = min(max(1, round(100 / percent)), max(1, len(volumes)))
    turn = now // DAY % turns
    chosen = [volume for place, volume in enumerate(volumes) if place % turns == turn]
    return chosen, f"{len(chosen)} of {len(volumes)} volumes, part {turn + 1} of {turns}; the next part tomorrow"


def digests_of(volume: Needed) -> dict[str, str]:
    """What its bytes must sum up to, by ``hashlib`` names; the best that the manifest has."""
    return {name.lower(): volume.hashes[name] for name in ("SHA1", "MD5") if name in volume.hashes}


def _of_set(backup_set: BackupSet) -> list[Finding]:
    found = [_remark("stray", name, f"is no part of the set {backup_set.id}") for name in backup_set.strays]
    if not backup_set.is_complete:
        return found
    found += [
        Finding(kind="damaged", name=name, message="is empty")
        for name, size in backup_set.sizes.items()
        if size == 0 and name not in backup_set.strays
    ]
    if backup_set.signatures is None:
        message = "the signature archive is missing: the set restores, but no incremental can be built upon it"
        found.append(Finding(kind="missing", name=str(backup_set.id), message=message))
    if not backup_set.volumes:
        found.append(Finding(kind="missing", name=backup_set.volume_name(1), message="is not there, nor is any other volume of the set"))
    return found


def _foreign(collection: Collection, listing: Mapping[str, ObjectInfo], prefixes: Prefixes) -> list[Finding]:
    known = {name for backup_set in collection.sets for name in (*backup_set.names, *backup_set.strays)}
    known |= set(collection.orphaned_signatures)
    locks = set(lock_names(listing, prefixes))
    found = []
    for name in sorted(listing):
        if name in locks:
            found.append(_remark("lock", name, "a run is writing here, or was killed; asyncdup unlock shows which"))
        elif name.startswith(TEMPORARY):
            found.append(_remark("stray", name, "was being made by a run that was killed, or that is still at work"))
        elif name not in known:
            found.append(_remark("foreign", name, "is no file of these backups"))
    return found


def _remark(kind: str, name: str, message: str) -> Finding:
    return Finding(kind=kind, name=name, message=message, damage=False)
