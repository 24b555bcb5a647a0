"""Batches of members -> sealed volumes on their way to the target. Producing, compressing and sending overlap; each is bounded.

A volume ends where format section 6 says, decided on exact sizes only, so the same tree is always cut at the same places.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from asyncdup.archive.checkpoint import Journal, VolumeNote
from asyncdup.archive.local_disk import writing_in
from asyncdup.archive.produce import Batch, Bound, Cut, Producer
from asyncdup.backends.base import Part
from asyncdup.codecs import Codec, Sealed, Sealer
from asyncdup.events import EventHub, Scanned, VolumeDropped, VolumeMade, VolumeStarted, VolumeStored
from asyncdup.formats import difftar
from asyncdup.formats.volumes import DRAIN, next_piece
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Op, SpoolFile, Writer
from asyncdup.transfer.parts import Begun
from asyncdup.transfer.spool import SpoolBody

ROOT = Bound(b"", None)


@dataclass(slots=True)
class Contents:
    """What one volume holds so far. ``plain``: bytes of members."""

    first: Bound = ROOT
    last: Bound = ROOT
    cut: Cut | None = None
    plain: int = 0

    def add(self, batch: Batch) -> None:
        """Members that were put into the volume."""
        if not self.plain:
            self.first = batch.first
        self.last, self.cut = batch.last, batch.cut
        self.plain += len(batch.data)


@dataclass(frozen=True, slots=True)
class VolumeParts:
    """What the journal knows of the parts of one volume: the engine's ``PartJournal`` (X5)."""

    journal: Journal
    name: str

    def earlier(self) -> Begun | None:
        """Of a run that was killed, whose file is sent."""
        return self.journal.uploads.get(self.name)

    async def begun(self, upload: str, part_size: int) -> None:
        """Flushed to the disk."""
        await in_thread(self.journal.upload, self.name, upload, part_size)

    async def stored(self, upload: str, part: Part) -> None:
        """Flushed to the disk."""
        await in_thread(self.journal.part, self.name, upload, part)


@dataclass(slots=True)
class Packer:
    """Fills volumes from the producer and hands each to the writer once it is journaled.

    ``name_of`` gives a volume's name at the target; ``target`` is the stored size to end a volume at; ``number`` the next volume's;
    ``spooled``: volumes before it that a killed run made and did not send (X5).
    """

    engine: Engine
    writer: Writer
    codec: Codec
    producer: Producer
    journal: Journal
    hub: EventHub
    name_of: Callable[[int], str]
    volume_size: int
    target: int
    number: int = 1
    spooled: Sequence[VolumeNote] = ()
    stored_bytes: int = 0
    notes: dict[int, VolumeNote] = field(default_factory=dict)
    ops: list[Op[Any]] = field(default_factory=list)

    async def run(self) -> None:
        """All volumes made and accepted by the writer; the caller closes the writer to wait until they are stored."""
        if self.spooled:
            await in_thread(self.producer.begin)  # the last of them may have to be made again after all: look before one is sent
        for note in self.spooled:
            body = await self.engine.spool.adopt(Path(note.spool), note.size, {"sha1": note.sha1})
            await self._hand_over(note, body)
        more = True
        while more:
            spooled = await self.engine.spool.new(self.volume_size)
            number = self.number
            self.hub.emit(VolumeStarted(number=number))
            try:
                more = await self._volume(spooled)
            except BaseException:
                await spooled.discard()
                raise
            finally:
                if self.number == number:  # else VolumeMade was its end
                    self.hub.emit(VolumeDropped(number=number))

    async def _volume(self, spooled: SpoolFile) -> bool:
        with writing_in(spooled.path.parent, "--tempdir"):
            async with self.codec.seal(spooled.path, refused=spooled.write_again) as sealer:
                contents, more = await self._fill(sealer)
                if not contents.plain and self.number > 1:  # nothing is left: the volume before was the last
                    await spooled.discard()
                    return False
                sealed = await sealer.finish()
        await self._send(spooled, contents, sealed)
        return more

    async def _fill(self, sealer: Sealer) -> tuple[Contents, bool]:
        contents, more = Contents(), True
        while True:
            limit = next_piece(self.target, sealer.written, sealer.pending)
            if limit is DRAIN:
                await sealer.drain()
                continue
            if limit is None:
                break
            batch = await in_thread(self.producer.next_batch, limit)
            if batch is None:
                more = False
                break
            contents.add(batch)
            await sealer.feed(batch.data)
            counts = self.producer.counts
            self.hub.emit(Scanned(files=counts.source_files, bytes=counts.source_size))
            self.engine.refuse_if_drained()  # the volume could not be sent any more: do not spend the time of grace on it
        await sealer.feed(difftar.end(contents.plain))
        return contents, more

    async def _send(self, spooled: SpoolFile, contents: Contents, sealed: Sealed) -> None:
        number, name = self.number, self.name_of(self.number)
        note = VolumeNote(
            number=number,
            name=name,
            size=sealed.size,
            sha1=sealed.sha1,
            first=contents.first,
            last=contents.last,
            cut=contents.cut,
            sigtar=self.journal.sigtar.size,
            files=self.journal.files.size,
            lines=self.journal.lines,
            spool=str(spooled.path.absolute()),
        )
        await in_thread(self.journal.volume, note)
        self.number += 1
        self.hub.emit(VolumeMade(number=number, name=name, size=sealed.size))
        self.notes[number] = note
        await self._hand_over(note, spooled.seal(sealed.size, {"sha1": sealed.sha1}))

    async def _hand_over(self, note: VolumeNote, body: SpoolBody) -> None:
        parts = VolumeParts(self.journal, note.name)
        self.ops.append(await self.writer.put(note.name, body, on_stored=self._stored(note), parts=parts))

    def _stored(self, note: VolumeNote) -> Callable[[Any], Awaitable[None]]:
        async def stored(_: Any) -> None:
            with anyio.CancelScope(shield=True):  # it is durable at the target: the journal must learn of it
                await in_thread(self.journal.stored, note.number)
            self.stored_bytes += note.size
            self.hub.emit(VolumeStored(number=note.number, name=note.name, size=note.size))

        return stored
