"""How far an unfinished run of ours got, by its journal and by what is at the target (P1, P2)."""

from __future__ import annotations

from collections.abc import Mapping

from asyncdup.archive.checkpoint import State, VolumeNote
from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.codecs import Codec
from asyncdup.errors import IntegrityError, NotFound
from asyncdup.transfer import Engine, Lane, ReadRequest


async def stored_upto(state: State, listing: Mapping[str, ObjectInfo], engine: Engine, lane: Lane) -> int:
    """The last volume up to which all are at the target as the journal says; 0 if not even the first.

    A volume that the journal does not know as stored may still be there, if the answer was lost: it is read back and compared.
    """
    upto, doubtful = 0, []
    while (note := state.volumes.get(upto + 1)) is not None:
        info = listing.get(note.name)
        if info is None or await _size(info, engine, lane) != note.size:
            break
        upto += 1
        if upto not in state.stored:
            doubtful.append(note)
    bad = await _first_bad(doubtful, engine, lane)
    return upto if bad is None else bad - 1


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


async def try_to_open(note: VolumeNote, codec: Codec, engine: Engine, lane: Lane) -> None:
    """Read the beginning of a stored volume. Raises CodecError if ``codec`` has not the passphrase that it was made with."""
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
