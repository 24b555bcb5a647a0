"""Signature files: written as stock writes them (fixtures), read whatever the cut, refused when damaged."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.errors import FormatError
from asyncdup.formats import sigtar, tar
from asyncdup.formats.sigtar import SigMember, SigtarReader
from asyncdup.formats.tar import CHR, DIR, FIFO, REG, SYM, Entry

FILE = Entry(b"f", REG, 0o640, 1000, 1001, 1700000000, 0, b"user", b"group", b"", (0, 0))
steady = settings(derandomize=True, max_examples=60, deadline=None)  # the same examples in each run
ROOT = FILE._replace(path=b"", kind=DIR)


def fixtures() -> Path | None:
    here = Path(__file__).resolve().parents[2]
    for place in (os.environ.get("ASYNCDUP_FIXTURES"), here / "tests" / "fixtures", here.parent / "shared" / "fixtures"):
        if place and (Path(place) / "plain-chain").is_dir():
            return Path(place)
    return None


FIXTURES = fixtures()
needs_fixtures = pytest.mark.skipif(FIXTURES is None, reason="no archives of stock duplicity: set ASYNCDUP_FIXTURES to their folder")
SIGTARS = {
    str(path.relative_to(FIXTURES)): path
    for path in (sorted(FIXTURES.rglob("*")) if FIXTURES else [])
    if path.name.endswith((".sigtar", ".sigtar.gz", ".st", ".st.z"))
}


def plain(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def archive(*members: bytes) -> bytes:
    stream = b"".join(members)
    return stream + sigtar.end(len(stream))


def read(data: bytes, cut: int = 1 << 20) -> list[SigMember]:
    reader = SigtarReader()
    members = []
    for at in range(0, len(data), cut):
        members += reader.feed(data[at : at + cut])
    return members + reader.finish()


def written(item: SigMember) -> bytes:
    if item.verb == "signature":
        return sigtar.signature(item.entry, item.signature)
    return sigtar.snapshot(item.entry) if item.verb == "snapshot" else sigtar.deleted(item.entry.path)


@needs_fixtures
@pytest.mark.parametrize("name", SIGTARS)
def test_stock_sigtars_read_as_tarfile_reads_them(name: str) -> None:
    data = plain(SIGTARS[name])
    expected = []
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as stock:
        for info in stock:
            verb, _, path = info.name.partition("/")
            content = stock.extractfile(info) if info.isreg() else None
            expected.append((verb, os.fsencode(path), info.mode, info.mtime, info.uname, content.read() if content else b""))

    members = read(data)

    assert [(m.verb, m.entry.path, m.entry.mode, m.entry.mtime, m.entry.uname.decode(), m.signature) for m in members] == expected
    assert read(data, 1009) == members


@needs_fixtures
@pytest.mark.parametrize("name", SIGTARS)
def test_our_sigtars_equal_those_of_stock(name: str) -> None:
    """Written anew from what was read of them, sigtars of stock come out byte for byte."""
    data = plain(SIGTARS[name])

    assert archive(*map(written, read(data))) == data


@needs_fixtures
def test_fixtures_are_not_few() -> None:
    assert len(SIGTARS) >= 12


@st.composite
def items(draw: st.DrawFn) -> list[SigMember]:
    component = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"s").replace(b".", b"_"))
    result = []
    for path in sorted(draw(st.lists(st.lists(component, max_size=3), max_size=6, unique_by=tuple))):
        kind = draw(st.sampled_from([REG, REG, DIR, SYM, FIFO, CHR, b""]))
        entry = FILE._replace(path=b"/".join(path), kind=kind, link=b"to" if kind == SYM else b"", dev=(8, 1) if kind == CHR else (0, 0))
        if kind == REG:
            signature = draw(st.binary(max_size=700))
            result.append(SigMember("signature", entry._replace(size=len(signature)), signature))
        elif kind:
            result.append(SigMember("snapshot", entry, b""))
        else:
            result.append(SigMember("deleted", Entry(entry.path, REG, 0, 0, 0, 0, 0, b"", b"", b"", (0, 0)), b""))
    return result


@steady
@given(items(), st.sampled_from([1, 100, 511, 512, 513, 1025, 1 << 20]))
def test_reading_inverts_writing_whatever_the_cut(members: list[SigMember], cut: int) -> None:
    assert read(archive(*map(written, members)), cut) == members


def test_names_of_members() -> None:
    """Format specification, section 7: the root is not called as in volumes."""
    single = FILE._replace(path=b"")
    members = [sigtar.snapshot(ROOT), sigtar.snapshot(ROOT._replace(path=b"d")), sigtar.signature(single, b""), sigtar.deleted(b"a/b")]

    assert [member[:100].rstrip(b"\0") for member in members] == [b"snapshot/", b"snapshot/d/", b"signature/", b"deleted/a/b"]


def test_a_repeated_root_is_taken_and_nothing_else_out_of_order() -> None:
    """Format specification, section 7: older writers may have put it twice."""
    root = sigtar.snapshot(ROOT)

    assert len(read(archive(root, root, sigtar.deleted(b"a")))) == 3
    for first, second in ((b"a", b"a"), (b"b", b"a"), (b"a/b", b"a"), (b"a", b"")):
        with pytest.raises(FormatError, match="out of order"):
            read(archive(sigtar.deleted(first), sigtar.deleted(second)))


@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        (b"signature/../a", REG, b"s"),
        (b"signature//a", REG, b"s"),
        (b"signature/a/", REG, b"s"),
        (b"signature/a", DIR, b""),
        (b"signature/a", SYM, b""),
        (b"snapshot/a", REG, b""),
        (b"deleted/a", REG, b"x"),
        (b"deleted/a/", DIR, b""),
        (b"diff/a", REG, b""),
        (b"multivol_snapshot/a/1", REG, b""),
        (b"signature", REG, b""),
        (b"other/a", REG, b""),
    ],
)
def test_members_that_the_format_does_not_know_are_refused(name: bytes, kind: bytes, data: bytes) -> None:
    """P7, P4."""
    with pytest.raises(FormatError) as caught:
        read(archive(sigtar.snapshot(ROOT), tar.member(name, FILE._replace(kind=kind), data)))
    assert caught.value.offset == 512


def test_a_signature_beyond_the_bound_is_refused_before_it_is_read() -> None:
    """P9."""
    stream = sigtar.signature(FILE, bytes(1001))

    assert len(SigtarReader(max_signature=1001).feed(stream)) == 1
    with pytest.raises(FormatError):
        SigtarReader(max_signature=1000).feed(stream[:512])


def test_a_cut_or_empty_sigtar_is_an_error() -> None:
    """P4: a sigtar of no bytes is damage, not an empty one."""
    whole = archive(sigtar.signature(FILE, b"rs\x016"))
    for size in (0, 1, 511, 512, 515, 1023, 1024, 1535):
        with pytest.raises(FormatError, match="cut"):
            read(whole[:size])
    assert len(read(whole[:1536])) == 1


def test_an_empty_sigtar_is_zeros() -> None:
    assert sigtar.end(0) == bytes(10240)
    assert read(bytes(10240)) == []


def test_errors_name_the_file() -> None:
    with pytest.raises(FormatError, match=r"^some\.sigtar: .*at byte 0"):
        SigtarReader(where="some.sigtar").feed(tar.member(b"foo/a", FILE))
    with pytest.raises(FormatError, match=r"^some\.sigtar: .*cut"):
        SigtarReader(where="some.sigtar").finish()
