"""How far an unfinished run of ours got, by its journal, by what is at the target, and by what waits in the spool (P1, P2, X5)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncdup.archive.checkpoint import State, VolumeNote
from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.codecs import Codec
from asyncdup.errors import IntegrityError, NotFound
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, ReadRequest

_PIECE = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class Kept:
    """The volumes 1 to ``upto`` need not be made again; those ``spooled`` are not at the target and are sent from their files."""

    upto: int
    spooled: frozenset[int] = frozenset()


async def kept_volumes(state: State, listing: Mapping[str, ObjectInfo], engine: Engine, lane: Lane) -> Kept:
    """The volumes from the first on, without a gap, that are at the target as the journal says, or whole in the spool.

    A volume that the journal does not know as stored may still be there, if the answer was lost: it is read back and compared.
    """
    upto, doubtful, spooled = 0, [], set()
    while (note := state.volumes.get(upto + 1)) is not None:
        info = listing.get(note.name)
        if info is not None and await _size(info, engine, lane) == note.size:
            if note.number not in state.stored:
                doubtful.append(note)
        elif await is_whole(note):
            spooled.add(note.number)
        else:
            break
        upto += 1
    while (bad := await _first_bad(doubtful, engine, lane)) is not None:
        if not await is_whole(state.volumes[bad]):
            upto = bad - 1
            break
        spooled.add(bad)
        doubtful = [note for note in doubtful if note.number > bad]
    return Kept(upto, frozenset(number for number in spooled if number <= upto))


async def is_whole(note: VolumeNote) -> bool:
    """Whether the file that the volume waited in is there as it was made. After a power cut it may be torn."""
    return bool(note.spool) and await in_thread(_is_whole, note)


def _is_whole(note: VolumeNote) -> bool:
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with open(os.open(note.spool, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            if os.fstat(file.fileno()).st_size != note.size:
                return False
            while data := file.read(_PIECE):
                digest.update(data)
    except OSError:
        return False
    return digest.hexdigest() == note.sha1


async def _size(info: ObjectInfo, engine: Engine, lane: Lane) -> int:
    if info.size != UNKNOWN_SIZE:
        return info.size
    known: ObjectInfo = await engine.run(lane, "stat", info.name)
    return known.size


async def _first_bad(notes: list[VolumeNote], engine: Engine, lane: Lane) -> int | None:
    if not notes:
        return None
    requests = [ReadRequest(note.name, note.size, {"sha1": note.sha1}) for note in notes]
    good = 0
    try:
        async with engine.read_ordered(lane, requests) as items:
            async for _ in items:
                good += 1
    except (IntegrityError, NotFound):
        return notes[good].number
    return None


async def try_to_open(note: VolumeNote, codec: Codec, engine: Engine, lane: Lane, *, spooled: bool = False) -> None:
    """Read the beginning of a stored volume. Raises CodecError if ``codec`` has not the passphrase that it was made with."""
    if spooled:
        async with codec.open(Path(note.spool), name=note.name) as chunks:
            await anext(chunks)
        return
    async with engine.read_ordered(lane, [ReadRequest(note.name, note.size, {"sha1": note.sha1})]) as items:
        item = await anext(items)
        async with codec.open(item.path, name=note.name) as chunks:
            await anext(chunks)


def before_cut_file(state: State, upto: int) -> int:
    """The volume to go on after when the file that volume ``upto`` ends inside of has changed: the last one without a part of it.

    A volume that holds the file's beginning and other files before it goes, too: it ends with the file's old content.
    """
    note = state.volumes[upto]
    path = note.cut.path if note.cut else None
    while upto and path is not None and (cut := state.volumes[upto].cut) is not None and cut.path == path:
        upto -= 1
    return upto
