"""Local copies: fetched if they are missing, whole or not at all; dropped if they are stale; a reason to doubt an empty target (P4, P19)."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asyncdup.archive import sync
from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.codecs import codec_for, make_codec
from asyncdup.errors import AsyncdupError, ChainError, FormatError
from asyncdup.formats import rdiff, sigtar
from asyncdup.formats.names import NO_PREFIXES, ParsedName, Prefixes, SetId, manifest_name, parse_names, signatures_name, volume_name
from asyncdup.formats.tar import REG, Entry
from asyncdup.testing import FaultyBackend
from asyncdup.transfer import open_engine

FULL = SetId("full", None, 1_700_000_000)
INC = SetId("inc", 1_700_000_000, 1_700_100_000)
NOW = 1_700_200_000
MEMBER = sigtar.signature(Entry(b"file", REG, 0o644, 0, 0, 1, 0, b"", b"", b"", (0, 0)), rdiff.sign(b"x" * 5000, 512))
SIGTAR = MEMBER + sigtar.end(len(MEMBER))


@pytest.fixture
def cache(tmp_path: Path) -> ArchiveDir:
    found = ArchiveDir(tmp_path, "cache")
    found.create()
    return found


def parsed(*names: str) -> list[ParsedName]:
    return parse_names(names, NO_PREFIXES, NOW)


async def fetch(cache: ArchiveDir, tmp_path: Path, target: dict[str, bytes]) -> list[str]:
    """Bring all of it into the cache; what was read for it."""
    backend = FaultyBackend(MemoryBackend())
    for name, data in target.items():
        await backend.inner.put(name, BytesBody(data))
    async with (
        open_engine(spool_dir=tmp_path) as engine,
        sync.arriving(
            engine,
            engine.lane(backend),
            cache,
            parsed(*target),
            sizes={name: len(data) for name, data in target.items()},
            codec_of=lambda name: codec_for(".gz" if name.endswith(".gz") else "", None, tempdir=tmp_path),
            gzip=make_codec(encryption=None, tempdir=tmp_path),
        ) as keep,
    ):
        await keep()
    return backend.names("get")


async def test_what_is_missing_is_fetched_and_stored_as_stock_has_it(cache: ArchiveDir, tmp_path: Path) -> None:
    """Format, section 12: manifests plain, signatures gzipped, whatever they are at the target."""
    plain, packed = signatures_name(FULL), signatures_name(INC, ".gz")

    await fetch(cache, tmp_path, {manifest_name(FULL): b"a manifest", plain: SIGTAR, packed: gzip.compress(SIGTAR)})

    assert sorted(cache.names()) == sorted([manifest_name(FULL), plain + ".gz", packed])
    assert cache.read(manifest_name(FULL)) == b"a manifest"
    assert gzip.decompress(cache.read(plain + ".gz")) == gzip.decompress(cache.read(packed)) == SIGTAR


async def test_what_is_there_is_not_fetched_again(cache: ArchiveDir, tmp_path: Path) -> None:
    cache.write(manifest_name(FULL), b"known")

    read = await fetch(cache, tmp_path, {manifest_name(FULL): b"a manifest", manifest_name(INC): b"new"})

    assert read == [manifest_name(INC)]
    assert cache.read(manifest_name(FULL)) == b"known"


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:20] + b"\xff" + data[21:], lambda data: b""])
@pytest.mark.parametrize("suffix", ["", ".gz"])
async def test_a_damaged_archive_never_becomes_a_local_copy(cache: ArchiveDir, tmp_path: Path, suffix: str, damage: object) -> None:
    """P4."""
    name = signatures_name(FULL, suffix)
    data = gzip.compress(SIGTAR, mtime=0) if suffix else SIGTAR[: len(MEMBER) + 512]

    with pytest.raises(FormatError, match=name):
        await fetch(cache, tmp_path, {name: damage(data)})  # type: ignore[operator]

    assert cache.names() == []


def test_copies_of_what_is_no_longer_at_the_target_are_dropped(cache: ArchiveDir) -> None:
    """Also what stock has left half-made; never the journal, nor what belongs to other prefixes."""
    other = manifest_name(FULL, prefixes=Prefixes("other-"))
    kept = [manifest_name(FULL), signatures_name(FULL, ".gz"), "asyncdup-journal-20231114T221320Z", other]
    stale = [manifest_name(INC), signatures_name(INC, ".gz"), "duplicity-full.20231114T221320Z.manifest.part"]
    for name in (*kept, *stale):
        cache.write(name, b"")

    dropped = sync.drop_stale(
        cache, parsed(manifest_name(FULL, ".gpg"), signatures_name(FULL, ".gpg"), volume_name(INC, 1)), prefixes=NO_PREFIXES, now=NOW
    )

    assert sorted(dropped) == sorted(stale)
    assert sorted(cache.names()) == sorted(kept)


def refuse(cache: ArchiveDir, *found: str, sent: int | None = None) -> AsyncdupError | None:
    try:
        sync.refuse_emptied_target(cache, parsed(*found), prefixes=NO_PREFIXES, now=NOW, place="file:///mnt", sent=sent)
    except ChainError as error:
        return error
    return None


def test_an_empty_target_is_doubted_if_backups_are_known(cache: ArchiveDir) -> None:
    """P19."""
    cache.write(manifest_name(FULL), b"")
    cache.write(manifest_name(INC), b"")

    error = refuse(cache)

    assert error is not None
    assert "file:///mnt" in str(error) and "2 are known" in str(error) and "20231116" in str(error)
    assert "--force" in (error.hint or "")
    assert refuse(cache, volume_name(FULL, 1)) is None
    assert refuse(cache, manifest_name(FULL)) is None


def test_an_empty_target_is_doubted_if_volumes_were_sent_there(cache: ArchiveDir) -> None:
    assert refuse(cache, sent=FULL.end) is not None
    assert refuse(cache, volume_name(FULL, 2), sent=FULL.end) is None


def test_an_empty_target_and_an_empty_cache_are_a_beginning(cache: ArchiveDir) -> None:
    assert refuse(cache) is None
    cache.write("duplicity-full.20231114T221320Z.manifest.part", b"")
    assert refuse(cache) is None
