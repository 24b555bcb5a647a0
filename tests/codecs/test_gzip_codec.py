"""gzip and plain files: written in parallel pieces, read and verified in chunks."""

from __future__ import annotations

import errno
import gzip
import hashlib
import itertools
import os
import random
import stat
import subprocess
import zlib
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncdup.codecs import Codec, Sealed, codec_for, make_codec
from asyncdup.codecs import base as base_room
from asyncdup.codecs import deflate as deflate_room
from asyncdup.codecs import gzip as gzip_room
from asyncdup.codecs.base import StoredFile
from asyncdup.codecs.gzip import GzipCodec, inflate_file
from asyncdup.codecs.plain import PlainCodec
from asyncdup.errors import CodecError, FormatError, UsageError
from asyncdup.threads import in_thread

TEXT = b"".join(b"a line of text, number %d\n" % number for number in range(20_000))
PIECES = [TEXT[:300_000], random.Random(1).randbytes(200_000), b"", TEXT[300_000:], b"x"]
PLAIN = b"".join(PIECES)


async def sealed(codec: Codec, path: Path, pieces: Sequence[bytes], *, compress: bool = True) -> Sealed:
    async with codec.seal(path, compress=compress) as sealer:
        for piece in pieces:
            await sealer.feed(piece)
        return await sealer.finish()


async def opened(codec: Codec, path: Path, chunk: int = 1 << 20) -> list[bytes]:
    async with codec.open(path, chunk=chunk) as chunks:
        return [data async for data in chunks]


# Writing.


@pytest.mark.parametrize("codec", [GzipCodec(), GzipCodec(level=6), GzipCodec(level=1), PlainCodec()], ids=["isal", "6", "1", "plain"])
async def test_a_sealed_file_opens_to_what_was_fed(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "stored"

    result = await sealed(codec, path, PIECES)

    stored = path.read_bytes()
    assert result == Sealed(len(stored), hashlib.sha1(stored).hexdigest())
    assert b"".join(await opened(codec, path)) == PLAIN


async def test_other_programs_read_our_gzip_as_one_member(tmp_path: Path) -> None:
    path = tmp_path / "stored.gz"
    await sealed(GzipCodec(), path, PIECES)

    one = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert one.decompress(path.read_bytes()) == PLAIN
    assert one.eof and not one.unused_data
    assert gzip.decompress(path.read_bytes()) == PLAIN
    assert subprocess.run(["gzip", "-t", path], check=False, capture_output=True).returncode == 0


async def test_the_same_pieces_give_the_same_bytes(tmp_path: Path) -> None:
    first = await sealed(GzipCodec(), tmp_path / "first", PIECES)
    second = await sealed(GzipCodec(), tmp_path / "second", PIECES)

    assert first == second


async def test_nothing_at_all_is_a_valid_gzip_file(tmp_path: Path) -> None:
    result = await sealed(GzipCodec(), tmp_path / "empty.gz", [])

    assert result.size == 20
    assert gzip.decompress((tmp_path / "empty.gz").read_bytes()) == b""
    assert await opened(GzipCodec(), tmp_path / "empty.gz") == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=300), max_size=6), chunk=st.integers(1, 500))
async def test_any_pieces_and_any_chunks_give_the_same_bytes_back(pieces: list[bytes], chunk: int, tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.unlink(missing_ok=True)

    await sealed(GzipCodec(), path, pieces)
    chunks = await opened(GzipCodec(), path, chunk)

    assert b"".join(chunks) == b"".join(pieces)
    assert all(0 < len(data) <= chunk for data in chunks)


@pytest.mark.skipif(deflate_room.isal is None, reason="isal is not installed")
def test_the_default_level_is_at_most_a_tenth_larger_than_zlibs_level_6() -> None:
    """On half text, half random data, as measured for the volumes of a backup."""
    sources = sorted(Path(os.__file__).parent.glob("[a-d]*.py"))
    text = b"".join(source.read_bytes() for source in sources)[: 1 << 20]
    noise = random.Random(2).randbytes(len(text))
    data = b"".join(text[at : at + 65536] + noise[at : at + 65536] for at in range(0, len(text), 65536))

    assert len(deflate_room.deflate(data)) <= 1.10 * len(zlib.compress(data, 6))


async def test_without_isal_zlib_does_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate_room, "isal", None)
    path = tmp_path / "stored.gz"

    await sealed(GzipCodec(), path, PIECES)

    assert gzip.decompress(path.read_bytes()) == PLAIN
    assert b"".join(await opened(GzipCodec(), path, 1000)) == PLAIN


async def test_sizes_are_exact_after_drain_and_change_only_in_calls(tmp_path: Path) -> None:
    async with GzipCodec().seal(tmp_path / "stored") as sealer:
        assert (sealer.written, sealer.pending) == (10, 0)
        seen = []
        for _ in range(4):
            await sealer.feed(TEXT[:100_000])
            seen.append(sealer.pending)
        assert seen == [100_000, 200_000, 200_000, 200_000]  # two pieces at most, however fast the threads are
        await sealer.drain()
        assert sealer.pending == 0
        assert sealer.written == (tmp_path / "stored").stat().st_size
        result = await sealer.finish()

    assert result.size == (tmp_path / "stored").stat().st_size == sealer.written + 10


async def test_uncompressed_files_of_the_gzip_codec_are_plain(tmp_path: Path) -> None:
    await sealed(GzipCodec(), tmp_path / "stored", PIECES, compress=False)

    assert (tmp_path / "stored").read_bytes() == PLAIN


@pytest.mark.parametrize("codec", [GzipCodec(), PlainCodec()])
async def test_a_stored_file_is_private_and_never_replaces_another(codec: Codec, tmp_path: Path) -> None:
    """P15."""
    old = os.umask(0)
    try:
        await sealed(codec, tmp_path / "stored", [b"data"])
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "stored").stat().st_mode) == 0o600

    before = (tmp_path / "stored").read_bytes()
    with pytest.raises(FileExistsError):
        await sealed(codec, tmp_path / "stored", [b"other"])
    assert (tmp_path / "stored").read_bytes() == before


@pytest.mark.parametrize("codec", [GzipCodec(), PlainCodec()])
async def test_a_sealer_left_unfinished_takes_its_file_away(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the producer failed"):
        async with codec.seal(tmp_path / "failed") as sealer:
            await sealer.feed(TEXT)
            raise RuntimeError("the producer failed")
    async with codec.seal(tmp_path / "empty"):
        pass
    async with codec.seal(tmp_path / "gone"):
        (tmp_path / "gone").unlink()  # by the spool, which may discard it first

    assert not list(tmp_path.iterdir())


class Full(FileIO):
    """Takes bytes one allowance after another; each that is used up is an error first."""

    allowances: list[int]

    def write(self, data: Any, /) -> int:
        if not self.allowances:
            return super().write(data)
        view = memoryview(data)[: self.allowances[0]]
        if len(data) and not view:
            self.allowances.pop(0)
            raise OSError(errno.ENOSPC, "No space left on device")
        self.allowances[0] -= len(view)
        return super().write(view)


@pytest.mark.parametrize("codec", [GzipCodec(), PlainCodec()])
@pytest.mark.parametrize("allowances", [[0], [5], [10, 0, 0], [1000], [200_000, 3], [250_000, 0, 7], [300_000], [10**6] * 2, None])
async def test_s11_what_the_disk_refuses_is_written_again_and_nothing_is_lost(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowances: list[int] | None
) -> None:
    """Also in the header, in the trailer, and several times in a row; the file is that of a disk with room."""
    wanted = await sealed(codec, tmp_path / "wanted", PIECES)
    Full.allowances = [wanted.size - 4] if allowances is None else list(allowances)  # None: in the last bytes
    refusals = sum(at < wanted.size for at in itertools.accumulate(Full.allowances))
    monkeypatch.setattr(base_room, "FileIO", Full)
    refused: list[OSError] = []

    async def repeat(error: OSError, again: Callable[[], None]) -> None:
        while True:
            refused.append(error)
            try:
                return await in_thread(again)
            except OSError as once_more:
                error = once_more

    async with codec.seal(tmp_path / "stored", refused=repeat) as sealer:
        for piece in PIECES:
            await sealer.feed(piece)
        found = await sealer.finish()

    assert found == wanted and (tmp_path / "stored").read_bytes() == (tmp_path / "wanted").read_bytes()
    assert len(refused) == refusals


@pytest.mark.parametrize("codec", [GzipCodec(), PlainCodec()])
async def test_a_full_disk_is_reported_and_leaves_nothing(codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(stored: StoredFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoredFile, "flush", full)

    async with codec.seal(tmp_path / "stored") as sealer:
        with pytest.raises(OSError, match="No space"):
            for _ in range(3):
                await sealer.feed(TEXT)
        with pytest.raises(OSError, match="No space"):
            await sealer.drain()
        with pytest.raises(OSError, match="No space"):
            await sealer.finish()

    assert not list(tmp_path.iterdir())


async def test_sealers_may_overlap_in_any_order(tmp_path: Path) -> None:
    first, second = GzipCodec().seal(tmp_path / "first"), GzipCodec().seal(tmp_path / "second")
    one = await first.__aenter__()
    two = await second.__aenter__()
    await one.feed(TEXT)
    await two.feed(TEXT)
    await one.finish()
    await first.__aexit__(None, None, None)
    await two.finish()
    await second.__aexit__(None, None, None)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


async def test_manifests_are_never_gzipped() -> None:
    """Format section 2."""
    for codec in (GzipCodec(), PlainCodec()):
        assert codec.manifest_suffix == ""
        assert await codec.pack(b"Hostname x\n") == await codec.unpack(b"Hostname x\n") == b"Hostname x\n"


# Reading what others wrote, and what was damaged (P4).


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_members_one_after_another_are_one_file(tmp_path: Path) -> None:
    stored = gzip.compress(TEXT[:1000]) + gzip.compress(b"") + gzip.compress(TEXT[1000:], 1)

    assert b"".join(inflate_file(_written(tmp_path / "members.gz", stored))) == TEXT


def test_members_cut_anywhere_by_the_reads_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = _written(tmp_path / "members.gz", gzip.compress(b"abc") + gzip.compress(b"defg"))

    for size in range(1, stored.stat().st_size):
        monkeypatch.setattr(gzip_room, "_INPUT", size)
        assert b"".join(inflate_file(stored)) == b"abcdefg"


def test_a_name_in_the_header_does_not_matter(tmp_path: Path) -> None:
    with (tmp_path / "named.gz").open("wb") as raw, gzip.GzipFile("name", "wb", fileobj=raw) as file:
        file.write(TEXT)

    assert b"".join(inflate_file(tmp_path / "named.gz")) == TEXT


@pytest.mark.parametrize("chunk", [1 << 10, 1 << 16, 1 << 20])
def test_a_bomb_comes_out_in_chunks(chunk: int, tmp_path: Path) -> None:
    """P9: a chunk is all that is held."""
    stored = _written(tmp_path / "bomb.gz", gzip.compress(bytes(20 << 20)))

    sizes = [len(data) for data in inflate_file(stored, chunk=chunk)]

    assert max(sizes) <= chunk
    assert sum(sizes) == 20 << 20


GOOD = gzip.compress(b"some text, some text, some text " + bytes(range(64)), mtime=0)


def test_a_file_that_is_cut_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    for size in range(len(GOOD)):
        with pytest.raises(FormatError, match=r"^vol1\.gz: the gzip data are cut short"):
            list(inflate_file(_written(tmp_path / "vol1.gz", GOOD[:size])))


@pytest.mark.parametrize("engine", ["isal", "zlib"])
def test_a_flipped_bit_never_gives_other_bytes(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "zlib":
        monkeypatch.setattr(deflate_room, "isal", None)
    right, refused = gzip.decompress(GOOD), 0
    for at in range(len(GOOD)):
        damaged = bytearray(GOOD)
        damaged[at] ^= 1 << at % 8
        try:
            assert b"".join(inflate_file(_written(tmp_path / "vol1.gz", bytes(damaged)))) == right
        except FormatError:
            refused += 1
    assert refused > len(GOOD) - 12  # but for the header's time, hint and system, nearly all of them


@pytest.mark.parametrize("garbage", [b"\x00", b"garbage" * 10, b"\x1f\x8b", GOOD[:-1]])
def test_what_follows_the_end_is_refused(garbage: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"vol1\.gz"):
        list(inflate_file(_written(tmp_path / "vol1.gz", GOOD + garbage)))


async def test_errors_use_the_name_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="the volume's name"):
        async with GzipCodec().open(_written(tmp_path / "spooled", b"no gzip"), name="the volume's name") as chunks:
            async for _ in chunks:
                pass


async def test_leaving_a_file_early_closes_it(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    await sealed(GzipCodec(), tmp_path / "stored", PIECES)

    async with GzipCodec().open(tmp_path / "stored", chunk=100) as chunks:
        async for data in chunks:
            assert data == PLAIN[:100]
            break

    assert (len(os.listdir("/proc/self/fd")) if before else 0) <= before


async def test_a_missing_file_is_an_operating_system_error(tmp_path: Path) -> None:
    for codec in (GzipCodec(), PlainCodec()):
        with pytest.raises(FileNotFoundError):
            await opened(codec, tmp_path / "nothing")


# Choosing a codec.


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("", "PlainCodec"), (".gz", "GzipCodec"), (".z", "GzipCodec")],
)
def test_the_suffix_chooses_the_codec(suffix: str, kind: str, tmp_path: Path) -> None:
    assert type(codec_for(suffix, None, tmp_path)).__name__ == kind


@pytest.mark.parametrize(("suffix", "words"), [(".gpg", "encrypted"), (".g", "encrypted"), (".p7m", "gpgsm"), (".xz", "no known kind")])
def test_what_cannot_be_read_is_said_so(suffix: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=words):
        codec_for(suffix, None, tmp_path)


def test_make_codec_follows_the_options(tmp_path: Path) -> None:
    assert make_codec(encryption=None, tempdir=tmp_path).suffix == ".gz"
    assert make_codec(encryption=None, compression=False, tempdir=tmp_path).suffix == ""
    for level in (0, 10):
        with pytest.raises(UsageError, match="between 1 and 9"):
            make_codec(encryption=None, level=level, tempdir=tmp_path)
