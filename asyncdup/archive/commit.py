"""The end of a set: its signature archive, the local copies, then its manifest (the commit), then the end of the journal (P6)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha1
from os.path import commonprefix
from pathlib import Path
from typing import Any

from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.archive.checkpoint import Journal, VolumeNote
from asyncdup.archive.local_disk import writing_in
from asyncdup.backends.base import UNKNOWN_SIZE
from asyncdup.backends.bodies import BytesBody, FileBody
from asyncdup.codecs import Codec, Sealed
from asyncdup.errors import ChainError
from asyncdup.formats import manifest, names, sigtar
from asyncdup.formats.manifest import VolumeRecord
from asyncdup.formats.names import Prefixes, SetId
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, Op

MOST_FILELIST = 32 << 20  # bytes; beyond it the manifest says no files, which readers must take (format, section 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What is needed to end the set.

    Attributes:
        gzip: the codec of local signature archives.
        taken: names that are at the target, or may be; a put to any other settles a lost answer by its size (I2).
    """

    engine: Engine
    lane: Lane
    cache: ArchiveDir
    journal: Journal
    codec: Codec
    gzip: Codec
    set_id: SetId
    prefixes: Prefixes
    hostname: bytes
    localdir: bytes
    tempdir: Path
    taken: AbstractSet[str]

    async def run(self, notes: dict[int, VolumeNote], volumes: Sequence[Op[Any]]) -> None:
        """Everything of the set is durable at the target and known locally when this returns.

        The local copies come before the manifest: of an encrypted set they cannot be had again without the secret key. Should the
        manifest not follow them, the next run takes them away.
        """
        local = self.cache.temporary(names.signatures_name(self.set_id, ".gz", self.prefixes))
        try:
            body = await self._signatures(local)
            lane, engine = self.lane, self.engine
            name = names.signatures_name(self.set_id, self.codec.suffix, self.prefixes)
            signatures = await engine.submit(lane, "put", name, body, after=volumes, absent=name not in self.taken)
            text = await in_thread(self._manifest, notes)
            stored = await self.codec.pack(text)
            await self._confirm(notes)
            await signatures.result()
            await in_thread(self._keep, local, text)
        finally:
            local.unlink(missing_ok=True)
        name = names.manifest_name(self.set_id, self.codec.manifest_suffix, self.prefixes)
        digests = {"sha1": sha1(stored).hexdigest()}  # it holds everybody's hash, and nobody holds its own
        await engine.run(lane, "put", name, BytesBody(stored, digests), after=[*volumes, signatures], absent=name not in self.taken)
        await in_thread(self.journal.remove)

    async def _confirm(self, notes: dict[int, VolumeNote]) -> None:
        """One listing before the manifest (P5): a disk that was unmounted, or a folder that was emptied meanwhile, must not pass for a backup.

        Raises:
            ChainError: a volume that was stored is not there any more, or has another size.
        """
        if not self.lane.backend.capabilities().read_after_write:
            return  # a listing that is behind would prove nothing
        prefix = commonprefix([note.name for note in notes.values()])
        found = {info.name: info.size for info in await self.engine.list(self.lane, prefix)}
        gone = [note.name for _, note in sorted(notes.items()) if found.get(note.name) not in (note.size, UNKNOWN_SIZE)]
        if gone:
            raise ChainError(
                f"{len(gone)} of {len(notes)} volumes are not at {self.lane.name} as they were stored there, the first of them {gone[0]}",
                hint="is the disk still mounted, has somebody removed them? The same command makes them again",
            )

    async def _signatures(self, local: Path) -> FileBody:
        sealed = await self._seal(self.gzip, local)
        path = local
        if self.codec.suffix != self.gzip.suffix:
            path = self.tempdir / "signatures"
            sealed = await self._seal(self.codec, path)
        return FileBody(path, sealed.size, {"sha1": sealed.sha1})

    async def _seal(self, codec: Codec, path: Path) -> Sealed:
        option = "--tempdir" if path.parent == self.tempdir else "--archive-dir"
        with writing_in(path.parent, option):
            async with codec.seal(path) as sealer:
                pieces = self.journal.sigtar.read()
                while (piece := await in_thread(next, pieces, None)) is not None:
                    await sealer.feed(piece)
                await sealer.feed(sigtar.end(self.journal.sigtar.size))
                return await sealer.finish()

    def _manifest(self, notes: dict[int, VolumeNote]) -> bytes:
        parts = [manifest.write_head(self.hostname, self.localdir)]
        parts += [manifest.write_volume(_record(notes[number])) for number in sorted(notes)]
        if self.journal.files.size <= MOST_FILELIST:
            parts += manifest.write_file_list(self.journal.lines, self.journal.files.read())
        else:
            parts += manifest.write_file_list(0)
        return b"".join(parts)

    def _keep(self, local: Path, text: bytes) -> None:
        self.cache.adopt(local, names.signatures_name(self.set_id, ".gz", self.prefixes))
        self.cache.write(names.manifest_name(self.set_id, "", self.prefixes), text)


def _record(note: VolumeNote) -> VolumeRecord:
    return VolumeRecord(
        number=note.number,
        start_path=note.first.path,
        start_block=note.first.block,
        end_path=note.last.path,
        end_block=note.last.block,
        hashes={"SHA1": note.sha1},
    )
