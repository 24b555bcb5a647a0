"""The end of a set: signatures, local copies, manifest, and only then the end of the journal (P1, P6)."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from asyncdup.archive import commit as commit_module
from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.archive.checkpoint import Journal, RunHead, VolumeNote
from asyncdup.archive.commit import Commit
from asyncdup.archive.produce import Bound
from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.codecs import make_codec
from asyncdup.errors import ChainError, PermanentError
from asyncdup.formats import manifest
from asyncdup.formats.names import NO_PREFIXES, manifest_name, signatures_name
from asyncdup.formats.sigtar import SigtarReader
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise, lost
from asyncdup.transfer import open_engine

HEAD = RunHead(type="full", start=None, end=1_700_000_000, source="/src", form=".gz", rules="", hostname="here")
SIGNATURES, MANIFEST = signatures_name(HEAD.set_id, ".gz"), manifest_name(HEAD.set_id)
NOTE = VolumeNote(
    number=1, name="vol1", size=9, sha1="ab" * 20, first=Bound(b"", None), last=Bound(b"b", 3), cut=None, sigtar=0, files=0, lines=0
)


@dataclass
class Ending:
    """A set whose volumes are stored. ``seen``: what the cache held when each object was put."""

    folder: Path
    cache: ArchiveDir
    backend: FaultyBackend
    journal: Journal
    seen: dict[str, list[str]]
    taken: frozenset[str] = frozenset()
    volume: bytes | None = bytes(NOTE.size)  # what is at the target of it; None: nothing any more

    async def run(self, *, compression: bool = True) -> None:
        if self.volume is not None:
            await self.backend.inner.put("vol1", BytesBody(self.volume))
        async with open_engine(spool_dir=self.folder) as engine:
            ending = Commit(
                engine=engine,
                lane=engine.lane(self.backend),
                cache=self.cache,
                journal=self.journal,
                codec=make_codec(encryption=None, compression=compression, tempdir=self.folder),
                gzip=make_codec(encryption=None, tempdir=self.folder),
                set_id=HEAD.set_id,
                prefixes=NO_PREFIXES,
                hostname=b"here",
                localdir=b"/src",
                tempdir=self.folder,
                taken=self.taken,
            )
            await ending.run({1: NOTE}, [])

    def stored(self, name: str) -> bytes:
        assert isinstance(self.backend.inner, MemoryBackend)
        return self.backend.inner.store[name].data


class Watched(MemoryBackend):
    def __init__(self, cache: ArchiveDir, seen: dict[str, list[str]]) -> None:
        super().__init__()
        self._cache = cache
        self._seen = seen

    async def put(self, name, body):  # type: ignore[no-untyped-def]
        self._seen[name] = self._cache.names()
        return await super().put(name, body)


class Forgetful(Watched):
    """Tells no digests, as SFTP servers do, and loses the first answer for signatures and manifest."""

    async def put(self, name, body):  # type: ignore[no-untyped-def]
        first = name in (SIGNATURES, MANIFEST) and name not in self.store
        info = await super().put(name, body)
        if first:
            raise lost()
        return info

    async def stat(self, name: str) -> ObjectInfo:
        return replace(await super().stat(name), digests={})


@pytest.fixture
def ending(tmp_path: Path) -> Ending:
    cache = ArchiveDir(tmp_path, "cache")
    cache.create()
    journal = Journal.begin(cache.path, HEAD)
    journal.add_lines(manifest.file_line("new", b"b"))
    seen: dict[str, list[str]] = {}
    return Ending(tmp_path, cache, FaultyBackend(Watched(cache, seen)), journal, seen)


async def test_the_manifest_comes_last_and_after_the_local_copies(ending: Ending) -> None:
    """Of an encrypted set the local copies could not be had again without the secret key: no kill may come between."""
    await ending.run()

    assert ending.backend.names("put") == [SIGNATURES, MANIFEST]
    assert {SIGNATURES, MANIFEST, "asyncdup-journal-20231114T221320Z"} <= set(ending.seen[MANIFEST])
    assert sorted(ending.cache.names()) == sorted([SIGNATURES, MANIFEST])


@pytest.mark.parametrize(
    ("taken", "puts"),
    [(frozenset(), [SIGNATURES, MANIFEST]), (frozenset({SIGNATURES, MANIFEST}), [SIGNATURES, SIGNATURES, MANIFEST, MANIFEST])],
    ids=["absent before", "perhaps there before"],
)
async def test_a_lost_answer_is_settled_by_the_size_of_what_was_not_there_before(ending: Ending, taken, puts: list[str]) -> None:
    """I2, at the end of the set as well."""
    ending.backend = FaultyBackend(Forgetful(ending.cache, ending.seen))
    ending.taken = taken

    await ending.run()

    assert [name for name in ending.backend.names("put") if name != "vol1"] == puts


async def test_what_is_stored_is_what_the_journal_says(ending: Ending) -> None:
    await ending.run()

    described = manifest.parse(ending.stored(MANIFEST), file_list=True)
    assert (described.hostname, described.localdir) == (b"here", b"/src")
    assert described.volumes[1].end_block == 3
    assert described.volumes[1].sha1 == NOTE.sha1
    assert ending.cache.read(MANIFEST) == ending.stored(MANIFEST)
    reader = SigtarReader()
    assert [*reader.feed(gzip.decompress(ending.stored(SIGNATURES))), *reader.finish()] == []


async def test_local_signatures_are_gzipped_whatever_the_target_has(ending: Ending) -> None:
    await ending.run(compression=False)

    assert ending.stored(signatures_name(HEAD.set_id)) == gzip.decompress(ending.cache.read(SIGNATURES))


@pytest.mark.parametrize("name", [SIGNATURES, MANIFEST])
async def test_a_failure_keeps_the_journal_and_leaves_no_temporary_file(ending: Ending, name: str) -> None:
    ending.backend.script("put", Raise(lambda: PermanentError("no")), name=name)

    with pytest.raises(PermanentError):
        await ending.run()

    ending.journal.close()
    assert "asyncdup-journal-20231114T221320Z" in ending.cache.names()
    assert MANIFEST not in ending.backend.names("put", "ok")
    assert not [path.name for path in ending.cache.path.iterdir() if path.name.startswith(".asyncdup-")]


async def test_a_file_list_that_would_be_too_long_is_left_out(ending: Ending, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: readers take a manifest without one."""
    monkeypatch.setattr(commit_module, "MOST_FILELIST", 3)

    await ending.run()

    assert b"file:" not in ending.stored(MANIFEST).lower()
    assert manifest.parse(ending.stored(MANIFEST)).volumes[1].number == 1


@pytest.mark.parametrize("volume", [None, b"short"])
async def test_p5_a_volume_that_has_gone_meanwhile_keeps_the_manifest_back(volume: bytes | None, ending: Ending) -> None:
    ending.volume = volume

    with pytest.raises(ChainError, match="1 of 1 volumes are not at .* as they were stored there, the first of them vol1"):
        await ending.run()

    ending.journal.close()
    assert MANIFEST not in ending.backend.names("put")
    assert "asyncdup-journal-20231114T221320Z" in ending.cache.names()
    assert MANIFEST not in ending.cache.names()
