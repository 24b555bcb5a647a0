"""Signatures, deltas and their commands: by librsync, in plain Python, and against archives of stock duplicity."""

from __future__ import annotations

import ctypes
import gzip
import io
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.errors import FormatError
from asyncdup.formats import librsync, rdiff, rdiff_pure
from asyncdup.formats.rdiff import Copy, DeltaReader, DeltaWriter, Signer

MAGICS = sorted(rdiff_pure.STRONG_SIZE)
LIBRARY = librsync.load()
needs_librsync = pytest.mark.skipif(LIBRARY is None, reason="neither python-rsync nor the system's librsync is installed")


@pytest.fixture(params=["library", "pure"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once with librsync and once without."""
    if request.param == "pure":
        monkeypatch.setattr(librsync, "load", lambda: None)
    elif LIBRARY is None:
        pytest.skip("no librsync")
    return str(request.param)


# The layout.


@pytest.mark.parametrize(
    ("size", "maximum", "length"),
    [(0, 0, 512), (1, 0, 512), (262144, 0, 512), (263168, 0, 512), (263169, 0, 1024), (10**7, 0, 3584), (10**9, 0, 31744)]
    + [(10**10, 0, 100352), (10**10, 2048, 2048), (10**10, 2047, 2048), (10**10, 1, 512), (1000, 4096, 512)],
)
def test_block_length_is_that_of_the_specification(size: int, maximum: int, length: int) -> None:
    assert rdiff.block_length(size, maximum) == length


def test_the_largest_block_serves_a_file_of_a_pebibyte() -> None:
    assert rdiff.block_length(1 << 50) <= rdiff.MAX_BLOCK < rdiff.block_length(1 << 51)


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        (b"abc", "a448017aaf21d8525fc10ae87aa6729d"),
        (b"12345678901234567890123456789012345678901234567890123456789012345678901234567890", "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_gives_the_digests_of_rfc_1320(data: bytes, digest: str) -> None:
    assert rdiff_pure.md4(data).hex() == digest


def test_an_empty_file_has_the_header_alone(either: str) -> None:
    signer = Signer(512)

    assert rdiff.sign(b"", 512) == signer.feed(b"") + signer.finish() == bytes.fromhex("72730136 00000200 00000008")


def test_the_signature_of_the_specification(either: str) -> None:
    assert rdiff.sign(b"I am a file\n", 512).hex() == "7273013600000200000000081ffe04f6c9999b64ba2fbb31"


@pytest.mark.parametrize("length", [0, -1, rdiff.MAX_BLOCK + 1])
def test_a_block_length_that_no_reader_takes_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="block length"):
        rdiff.sign(b"x", length)
    with pytest.raises(ValueError, match="block length"):
        Signer(length)


# Our signatures are stock's.


def _fixture(name: str) -> Path:
    here = Path(__file__).resolve()
    places = (here.parents[1] / "fixtures" / name, here.parents[3] / "shared" / "fixtures" / name)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip(f"the fixture {name} is not here")
    return found


def _members(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read_bytes())), mode="r:", ignore_zeros=False) as archive:
            for member in archive:
                body = archive.extractfile(member) if member.isreg() else None
                yield member.name, body.read() if body is not None else b""


def _contents_of_the_full(folder: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for name, data in _members(sorted(folder.glob("*full*.difftar.gz"), key=lambda path: int(path.name.split(".vol")[1].split(".")[0]))):
        kind, _, path = name.partition("/")
        if kind == "multivol_snapshot":
            path = path.rpartition("/")[0]
        contents[path] = contents.get(path, b"") + data
    return contents


def test_signatures_equal_those_of_stock_duplicity(either: str) -> None:
    folder = _fixture("plain-chain") / "remote"
    contents = _contents_of_the_full(folder)
    compared = 0

    for name, signature in _members(sorted(folder.glob("*full-signatures*"))):
        kind, _, path = name.partition("/")
        if kind == "signature":
            data = contents[path]
            length = rdiff.block_length(len(data))
            signer = Signer(length)
            assert rdiff.sign(data, length) == signature
            assert signer.feed(data) + signer.finish() == signature
            rdiff.check_signature(signature)
            compared += 1
    assert compared >= 13


def test_deltas_of_stock_duplicity_give_the_file_that_its_signature_describes() -> None:
    folder = _fixture("plain-chain") / "remote"
    contents = _contents_of_the_full(folder)
    signatures = dict(_members(sorted(folder.glob("*new-signatures.20231114*"))))
    deltas: dict[str, bytes] = {}
    for name, data in _members(sorted(folder.glob("duplicity-inc.20231114*difftar.gz"))):
        kind, _, path = name.partition("/")
        if kind in ("diff", "multivol_diff"):
            path = path if kind == "diff" else path.rpartition("/")[0]
            deltas[path] = deltas.get(path, b"") + data

    for path, delta in deltas.items():
        new = _patched(contents[path], delta)
        assert rdiff.sign(new, rdiff.block_length(len(new))) == signatures[f"signature/{path}"]
    assert len(deltas) >= 3


# Signatures and deltas are right however the data come, and one implementation checks the other.


def _cuts(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def _delta(signature: bytes, data: bytes, sizes: list[int]) -> bytes:
    writer = DeltaWriter(signature)
    delta = b"".join(writer.feed(piece) for piece in _cuts(data, sizes)) + writer.finish()
    writer.close()
    return delta


def _patched(old: bytes, delta: bytes, sizes: list[int] | None = None) -> bytes:
    reader = DeltaReader()
    pieces = [piece for part in _cuts(delta, sizes or []) for piece in reader.feed(part)] + reader.finish()
    new = b""
    for piece in pieces:
        if isinstance(piece, Copy):
            assert piece.offset + piece.length <= len(old)
            new += old[piece.offset : piece.offset + piece.length]
        else:
            assert piece
            new += piece
    return new


small_cuts = st.lists(st.integers(0, 700), max_size=8)
seeds = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=st.integers(0, 5000), block=st.sampled_from([1, 7, 64, 512, 1024]), cuts=small_cuts)
@needs_librsync
def test_both_implementations_sign_alike_however_the_data_come(seed: int, size: int, block: int, cuts: list[int]) -> None:
    assert LIBRARY is not None
    data = random.Random(seed).randbytes(size)

    expected = rdiff_pure.sign(data, block)

    assert (LIBRARY.sign(data, block) if data else rdiff_pure.header(block)) == expected
    for signer in (librsync.Signer(LIBRARY, block), rdiff_pure.Signer(block)):
        assert b"".join(signer.feed(piece) for piece in _cuts(data, cuts)) + signer.finish() == expected


@st.composite
def _old_and_new(draw: st.DrawFn) -> tuple[bytes, bytes]:
    source = random.Random(draw(seeds))
    old = source.randbytes(draw(st.integers(0, 3000)))
    if draw(st.booleans()):
        old = bytes(byte & 1 for byte in old)  # few different blocks: many false candidates
    new = bytearray(old)
    for _ in range(draw(st.integers(0, 3))):
        at, gone = draw(st.integers(0, 3000)), draw(st.integers(0, 800))
        new[at : at + gone] = source.randbytes(draw(st.integers(0, 300)))
    if draw(st.booleans()):
        new = new[len(new) // 2 :] + new[: len(new) // 2]
    return old, bytes(new)


@pytest.mark.parametrize("kind", ["library", "pure"])
@settings(max_examples=60, deadline=None)
@given(pair=_old_and_new(), block=st.sampled_from([1, 16, 100, 512]), cuts=small_cuts, delta_cuts=small_cuts)
def test_a_delta_gives_the_new_file_back(kind: str, pair: tuple[bytes, bytes], block: int, cuts: list[int], delta_cuts: list[int]) -> None:
    if kind == "library" and LIBRARY is None:
        pytest.skip("no librsync")
    old, new = pair
    signature = rdiff_pure.sign(old, block)

    with pytest.MonkeyPatch.context() as patch:
        if kind == "pure":
            patch.setattr(librsync, "load", lambda: None)
        delta = _delta(signature, new, cuts)

    assert _patched(old, delta, delta_cuts) == new


@needs_librsync
@pytest.mark.parametrize("magic", MAGICS)
@pytest.mark.parametrize("strong", [8, 16])
def test_all_kinds_of_signatures_are_searched_alike(magic: int, strong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other writers leave RabinKarp or BLAKE2 signatures; librsync makes them here, both implementations must find the same blocks."""
    old = random.Random(5).randbytes(5000)
    new = old[:700] + b"inserted" + old[700:3000] + old[3100:]
    signature = _signed_by_librsync(old, magic, strong)
    rdiff.check_signature(signature)

    by_library = _delta(signature, new, [])
    monkeypatch.setattr(librsync, "load", lambda: None)
    by_python = _delta(signature, new, [])

    for delta in (by_library, by_python):
        assert _patched(old, delta) == new
        assert len(delta) < 1000


def _signed_by_librsync(data: bytes, magic: int, strong: int) -> bytes:
    assert LIBRARY is not None
    job = librsync._Job(LIBRARY, LIBRARY.sig_begin(256, strong, magic), "a signature")
    return job.run(data) + job.end()


@needs_librsync
@pytest.mark.parametrize("kind", ["library", "pure"])
def test_librsync_itself_applies_our_deltas(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stock's patch step does: rs_patch with a callback that reads the old file."""
    old = random.Random(6).randbytes(300_000)
    new = old[:1000] + old[5000:200_000] + bytes(70_000) + old[:3] + old[200_000:]
    if kind == "pure":
        old, new = old[:20_000], old[:9000] + b"new" * 500 + old[9000:20_000]
        monkeypatch.setattr(librsync, "load", lambda: None)

    delta = _delta(rdiff.sign(old, 512), new, [100_000])

    assert _patched_by_librsync(old, delta) == new
    assert len(delta) < len(new) // 2


def _patched_by_librsync(old: bytes, delta: bytes) -> bytes:
    path = next(path for path, _ in librsync._places() if _loads(path))
    library = ctypes.CDLL(path)
    callback_type = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_void_p)
    )

    @callback_type
    def copy(_: object, offset: int, length: object, buffer: object) -> int:
        wanted = old[offset : offset + length[0]]  # type: ignore[index]
        ctypes.memmove(buffer[0], wanted, len(wanted))  # type: ignore[index]
        length[0] = len(wanted)  # type: ignore[index]
        return 0

    library.rs_patch_begin.restype = ctypes.c_void_p
    library.rs_patch_begin.argtypes = [callback_type, ctypes.c_void_p]
    assert LIBRARY is not None
    job = librsync._Job(LIBRARY, library.rs_patch_begin(copy, None), "a patch")
    return job.run(delta) + job.end()


def _loads(path: str) -> bool:
    try:
        ctypes.CDLL(path)
    except OSError:
        return False
    return True


def test_a_delta_against_an_empty_file_is_all_literal(either: str) -> None:
    assert _delta(rdiff.sign(b"", 512), b"no longer empty\n", []) == rdiff.DELTA_MAGIC + b"\x10no longer empty\n\x00"


def test_a_delta_to_an_empty_file_is_the_end_alone(either: str) -> None:
    assert _delta(rdiff.sign(b"old", 512), b"", []) == rdiff.DELTA_MAGIC + b"\x00"
    assert _delta(rdiff.sign(b"", 512), b"", []) == rdiff.DELTA_MAGIC + b"\x00"


def test_an_unchanged_file_is_one_copy(either: str) -> None:
    data = random.Random(3).randbytes(65536)

    assert _delta(rdiff.sign(data, 512), data, [30_000]).hex() == "7273023647000001000000"


def test_pieces_of_a_mebibyte_are_taken_whole(either: str) -> None:
    size = 3 << 20 if either == "library" else 30_000
    data = random.Random(4).randbytes(size)
    half = len(data) // 2
    signature = rdiff.sign(data[:half], rdiff.block_length(half))

    assert _patched(data[:half], _delta(signature, data, [1 << 20])) == data


def test_an_unfinished_writer_can_be_closed_twice(either: str) -> None:
    writer, signer = DeltaWriter(rdiff.sign(b"old", 512)), Signer(512)
    writer.feed(b"new")
    signer.feed(b"new")

    for _ in range(2):
        writer.close()
        signer.close()


@needs_librsync
def test_a_finished_signer_refuses_more() -> None:
    signer = Signer(512)
    signer.finish()

    with pytest.raises(ValueError, match="finished or closed"):
        signer.feed(b"more")


def test_backend_names_who_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rdiff.backend() in ("python-rsync", "librsync", "pure")
    monkeypatch.setattr(librsync, "load", lambda: None)
    assert rdiff.backend() == "pure"


@pytest.mark.parametrize(
    "places", [[], [("librsync-that-is-not-there.so.2", "librsync")], [(None, "the program itself, which is no librsync")]]
)
def test_without_a_librsync_python_steps_in(places: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librsync, "_places", lambda: iter(places))

    assert librsync.load.__wrapped__() is None


@needs_librsync
def test_librsync_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert LIBRARY is not None
    broken = b"\x00" * 12

    with pytest.raises(FormatError, match="librsync refuses a signature"):
        librsync.DeltaWriter(LIBRARY, broken)

    assert capfd.readouterr() == ("", "")


# Hostile signatures (P4): refused before librsync sees them.

GOOD = rdiff_pure.sign(b"x" * 1300, 512)


@pytest.mark.parametrize("size", [size for size in range(len(GOOD)) if size not in (12, 24, 36)])
def test_a_signature_that_is_cut_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match="cut"):
        rdiff.check_signature(GOOD[:size])
    with pytest.raises(FormatError, match="cut"):
        DeltaWriter(GOOD[:size])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("72730236 00000200 00000008", "not a signature"),
        ("00000000 00000200 00000008", "not a signature"),
        ("72730136 00000000 00000008", "blocks of 0 bytes"),
        ("72730136 02000001 00000008", "blocks of 33554433 bytes"),
        ("72730136 ffffffff 00000008", "blocks of 4294967295 bytes"),
        ("72730136 00000200 00000000", "strong sums of 0 bytes"),
        ("72730136 00000200 00000011", "strong sums of 17 bytes"),
        ("72730137 00000200 00000021", "strong sums of 33 bytes"),
        ("72730146 00000200 ffffffff", "strong sums of 4294967295 bytes"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        rdiff.check_signature(bytes.fromhex(header))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.integers(0, len(GOOD)))
def test_any_bytes_are_refused_or_used_without_harm(noise: bytes, at: int) -> None:
    for signature in (noise, GOOD[:at] + noise + GOOD[at + len(noise) :]):
        try:
            writer = DeltaWriter(signature)
        except FormatError:
            continue
        assert writer.feed(b"x" * 600) + writer.finish()
        writer.close()


# The commands of a delta.


def _events(delta: bytes, sizes: list[int]) -> list[bytes | Copy]:
    reader = DeltaReader()
    return [piece for part in _cuts(delta, sizes) for piece in reader.feed(part)] + reader.finish()


def _joined(events: list[bytes | Copy]) -> list[bytes | Copy]:
    joined: list[bytes | Copy] = []
    for event in events:
        if isinstance(event, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += event
        else:
            joined.append(event)
    return joined


_numbers = st.one_of(st.integers(1, 300), st.integers(1, 2**17), st.integers(1, 2**33), st.integers(1, 2**62))
_commands = st.lists(st.one_of(st.binary(min_size=1, max_size=400), st.builds(Copy, st.one_of(st.just(0), _numbers), _numbers)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(_commands, st.lists(st.integers(0, 50), max_size=20))
def test_the_reader_inverts_the_commands_whatever_the_cuts(commands: list[bytes | Copy], sizes: list[int]) -> None:
    delta = rdiff.DELTA_MAGIC
    for command in commands:
        delta += rdiff_pure.copy_command(*command) if isinstance(command, Copy) else rdiff_pure.literal_command(len(command)) + command

    assert _joined(_events(delta + b"\x00", sizes)) == _joined(commands)


@pytest.mark.parametrize(("offset_code", "offset_size"), list(enumerate([1, 2, 4, 8])))
@pytest.mark.parametrize(("length_code", "length_size"), list(enumerate([1, 2, 4, 8])))
def test_numbers_may_be_wider_than_they_need(offset_code: int, offset_size: int, length_code: int, length_size: int) -> None:
    command = bytes([0x45 + 4 * offset_code + length_code]) + (9).to_bytes(offset_size, "big") + (5).to_bytes(length_size, "big")

    assert _events(rdiff.DELTA_MAGIC + command + b"\x00", []) == [Copy(9, 5)]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("55", "unknown command 0x55"),
        ("ff", "unknown command 0xff"),
        ("41 00", "empty command"),
        ("45 00 00", "empty command"),
        ("54 7fffffffffffffff 0000000000000001", "reaches to byte 9223372036854775808"),
        ("54 ffffffffffffffff ffffffffffffffff", "reaches to byte"),
        ("44 8000000000000000", "reaches to byte"),
        ("00 00", "after the end"),
        ("01 61 00 61", "after the end"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(command: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        _events(rdiff.DELTA_MAGIC + bytes.fromhex(command), [])


def test_an_error_names_the_byte_also_after_a_cut_command() -> None:
    reader = DeltaReader()
    reader.feed(rdiff.DELTA_MAGIC + b"\x02a")

    with pytest.raises(FormatError) as caught:
        reader.feed(b"b\x60")

    assert caught.value.offset == 7


@pytest.mark.parametrize("data", [b"x", b"rs\x02", b"rs\x017", rdiff_pure.header(512)])
def test_what_is_no_delta_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        _events(data, [])


def test_a_delta_without_its_end_is_refused_wherever_it_is_cut() -> None:
    """P4: the END command is demanded."""
    delta = rdiff.DELTA_MAGIC + b"\x05hello" + rdiff_pure.copy_command(70_000, 5) + b"\x00"

    for size in range(len(delta)):
        reader = DeltaReader()
        reader.feed(delta[:size])
        with pytest.raises(FormatError, match="cut short"):
            reader.finish()


def test_a_long_literal_is_not_held_back() -> None:
    """P9: the reader's memory does not depend on the length that a delta announces."""
    reader = DeltaReader()

    assert reader.feed(rdiff.DELTA_MAGIC + b"\x44" + (1 << 40).to_bytes(8, "big") + b"abc") == [b"abc"]
    assert reader.feed(b"defg") == [b"defg"]


def test_weak_sums_roll_as_they_are_computed() -> None:
    data = random.Random(8).randbytes(200)
    kinds: list[Callable[[], rdiff_pure._Rollsum | rdiff_pure._RabinKarp]] = [rdiff_pure._Rollsum, rdiff_pure._RabinKarp]
    for kind in kinds:
        rolling, fresh = kind(), kind()
        rolling.begin(data[:50])
        for at in range(150):
            rolling.roll(data[at], data[at + 50])
            fresh.begin(data[at + 1 : at + 51])
            assert rolling.value() == fresh.value()
        for at in range(150, 200):
            rolling.drop(data[at])
            fresh.begin(data[at + 1 :])
            assert rolling.value() == fresh.value()
