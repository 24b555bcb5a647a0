"""check --repair: signature archives that are lost or damaged are made again from the volumes, then local copies are brought back.

Path: lock -> list -> for each set, as a restore of what it names that signs instead of writing -> put in the place of the old one. Volumes and
manifests are never changed. Without ``force`` nothing is written at the target.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection as Some
from contextlib import closing
from dataclasses import replace

from asyncdup.archive import sync
from asyncdup.archive.assemble import Assembly
from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.archive.consume import Merger
from asyncdup.archive.local_disk import writing_in
from asyncdup.archive.reading import needed_volumes, read_manifests
from asyncdup.archive.rebuild import SignatureBuilder
from asyncdup.backends.bodies import FileBody
from asyncdup.codecs import Codec, PlainCodec, make_codec
from asyncdup.commands.locking import target_lock
from asyncdup.commands.session import Session
from asyncdup.errors import AsyncdupError, ChainError, CodecError, FormatError, IntegrityError, NotFound
from asyncdup.formats import names
from asyncdup.formats.names import SetId, cache_name, parse_name, parse_names
from asyncdup.threads import in_thread

DAMAGE = (IntegrityError, NotFound, FormatError, CodecError)  # what says something of an object; anything else, of the way to it


def without_signatures(collection: Collection, spoilt: Some[str]) -> list[BackupSet]:
    """Sets of chains whose signature archive is missing, or one of those ``spoilt``."""
    return [each for chain in collection.chains for each in chain.sets if each.signatures is None or each.signatures in spoilt]


async def rebuild_signatures(session: Session, wanted: Some[SetId]) -> list[BackupSet]:
    """Make the signature archives of the sets ``wanted`` anew; those that were, as they are now.

    Raises:
        AsyncdupError: one cannot be made whole, since data that it speaks of are damaged or missing; it is left as it was.
        LockedError: another run writes to the target, or holds the archive folder.
    """
    rebuilt = []
    await in_thread(session.cache.lock)
    try:
        async with target_lock(session, "check") as lock:
            collection = session.collection(await lock.held_listing())
            for chain in collection.chains:
                for number, backup_set in enumerate(chain.sets, 1):
                    if backup_set.id in wanted:
                        rebuilt.append(await _rebuild(session, replace(chain, sets=chain.sets[:number])))
    finally:
        session.cache.unlock()
    return rebuilt


async def bring_back_local_copies(session: Session, collection: Collection, spoilt: Some[str]) -> list[str]:
    """Those of the newest chain, but for what is ``spoilt`` at the target itself. A sentence for each."""
    chain = collection.newest_chain
    if chain is None:
        return []
    await in_thread(session.cache.lock)
    try:
        files = [name for each in chain.sets for name in (each.manifest, each.signatures) if name and name not in spoilt]
        wanted = parse_names(files, session.options.prefixes, int(session.options.now()))
        lost = [parsed for parsed in wanted if not session.cache.has(cache_name(parsed))]
        try:
            await session.fetch_to_cache(lost, chain)
        except DAMAGE as error:
            raise AsyncdupError(f"the local copies cannot be rebuilt: {error}", exit_code=1) from error
        return [f"{cache_name(parsed)} in {session.cache.path}, from the target" for parsed in lost]
    finally:
        session.cache.unlock()


async def _rebuild(session: Session, chain: Chain) -> BackupSet:
    """The signature archive of the last set of ``chain``."""
    backup_set = chain.last
    codec = _codec_of(session, backup_set)
    name = names.signatures_name(backup_set.id, codec.suffix, session.options.prefixes)
    plain, stored = (session.tempdir / f"{backup_set.id}.{kind}" for kind in ("sigtar", "stored"))
    with writing_in(session.tempdir, "--tempdir"):
        try:
            with await in_thread(lambda: open(plain, "xb")) as file:
                await _sign(session, chain, file.write)
            sealed = await sync.transcode(plain, PlainCodec(), stored, codec, name=name)
            await session.engine.run(session.lane, "put", name, FileBody(stored, sealed.size, {"sha1": sealed.sha1}))
        finally:
            plain.unlink(missing_ok=True)
            stored.unlink(missing_ok=True)
    if backup_set.signatures not in (None, name):
        await session.engine.run(session.lane, "delete", backup_set.signatures)
    await in_thread(session.cache.remove, [names.signatures_name(backup_set.id, ".gz", session.options.prefixes)])
    return replace(backup_set, signatures=name)


def _codec_of(session: Session, backup_set: BackupSet) -> Codec:
    """As the set's volumes are stored."""
    options = session.options
    if backup_set.encrypted and options.encryption is None:
        raise CodecError("the archive is encrypted", hint="set PASSPHRASE, and leave out --no-encryption")
    parsed = parse_name(backup_set.volume_name(1), options.prefixes, int(options.now()))
    return make_codec(
        encryption=options.encryption if backup_set.encrypted else None,
        compression=parsed is not None and parsed.suffix != "",
        level=options.compression_level,
        tempdir=session.tempdir,
    )


async def _sign(session: Session, chain: Chain, write: Callable[[bytes], object]) -> None:
    builder = SignatureBuilder(write, made=chain.end, tempdir=session.tempdir, max_blocksize=session.options.max_blocksize)
    problems: list[str] = []
    merger = Merger(
        builder,
        len(chain.sets),
        since=len(chain.sets) - 1,
        on_deleted=builder.deleted,
        tempdir=session.tempdir,
        on_problem=lambda path, message: problems.append(f"{path.decode('utf-8', 'replace')}: {message}"),
    )
    with closing(merger):
        try:
            manifests = await read_manifests(session.engine, session.lane, chain.sets, session.reading_codec)
            codecs = [session.reading_codec(each.volume_name(1)) for each in chain.sets]
            needed = needed_volumes(chain, manifests)
            await Assembly(session.engine, session.lane, codecs, merger, session.hub, needed).run()
        except (*DAMAGE, ChainError) as error:
            raise _in_part(chain, str(error)) from error
    if problems:
        raise _in_part(chain, problems[0])


def _in_part(chain: Chain, reason: str) -> AsyncdupError:
    return AsyncdupError(
        f"the signature archive of the set {chain.last.id} could only be rebuilt in part, and is left as it was: {reason}",
        hint="its data are damaged, too: check --read-data shows what; a full backup begins a chain that is whole",
        exit_code=1,
    )
