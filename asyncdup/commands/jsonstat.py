"""Statistics files of backup sets: at the target, beside the set, and a local copy (format specification, section 22)."""

from __future__ import annotations

from pathlib import Path

from asyncdup.archive.local_disk import writing_in
from asyncdup.backends.bodies import FileBody
from asyncdup.codecs import Codec, Sealed
from asyncdup.commands.session import Session
from asyncdup.formats import names
from asyncdup.formats.names import SetId
from asyncdup.threads import in_thread


async def keep_jsonstat(session: Session, set_id: SetId, text: str, codec: Codec) -> None:
    """Store ``text`` for the set: with gzip or encrypted at the target, as stock does also with ``--no-compression``, and with gzip here."""
    prefixes = session.options.prefixes
    name = names.jsonstat_name(set_id, ".gz", prefixes)
    local = session.cache.temporary(name)
    data = text.encode("utf-8", "backslashreplace")
    try:
        with writing_in(session.cache.path, "--archive-dir"):
            sealed = await _seal(session.gzip, local, data)
        stored = local
        if codec.encrypted:
            stored = session.tempdir / "jsonstat"
            name = names.jsonstat_name(set_id, codec.suffix, prefixes)
            with writing_in(session.tempdir, "--tempdir"):
                sealed = await _seal(codec, stored, data)
        await session.engine.run(session.lane, "put", name, FileBody(stored, sealed.size, {"sha1": sealed.sha1}))
        await in_thread(session.cache.adopt, local, names.jsonstat_name(set_id, ".gz", prefixes))
    finally:
        local.unlink(missing_ok=True)


async def _seal(codec: Codec, path: Path, data: bytes) -> Sealed:
    async with codec.seal(path) as sealer:
        await sealer.feed(data)
        return await sealer.finish()
