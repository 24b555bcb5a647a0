"""Volumes: written as stock writes them (fixtures), read whatever the cut, refused when they are damaged or lead outside."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.errors import FormatError
from asyncdup.formats import difftar, sigtar, tar
from asyncdup.formats.difftar import PART, DifftarReader, Piece
from asyncdup.formats.tar import CHR, DIR, FIFO, REG, SYM, Entry
from asyncdup.formats.tar_reader import TarReader, inner_path

FILE = Entry(b"f", REG, 0o640, 1000, 1001, 1700000000, 0, b"user", b"group", b"", (0, 0))
steady = settings(derandomize=True, max_examples=60, deadline=None)  # the same examples in each run


def fixtures() -> Path | None:
    here = Path(__file__).resolve().parents[2]
    for place in (os.environ.get("ASYNCDUP_FIXTURES"), here / "tests" / "fixtures", here.parent / "shared" / "fixtures"):
        if place and (Path(place) / "plain-chain").is_dir():
            return Path(place)
    return None


FIXTURES = fixtures()
needs_fixtures = pytest.mark.skipif(FIXTURES is None, reason="no archives of stock duplicity: set ASYNCDUP_FIXTURES to their folder")


def sets_of_volumes() -> dict[str, list[Path]]:
    """Volumes that need no key, in order, by fixture and backup set."""
    sets: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(FIXTURES.rglob("*")) if FIXTURES else []:
        match = re.fullmatch(r"(.*duplicity-.*)\.vol(\d+)\.difftar(\.gz)?|((?:df|di)\..*)\.([0-9a-z]+)\.dt(\.z)?", path.name)
        if match:
            number = int(match[2]) if match[2] else int(match[5], 36)
            fixture = path.relative_to(FIXTURES).parts[0]
            sets.setdefault(f"{fixture}: {match[1] or match[4]}", []).append((number, path))
    return {name: [path for _, path in sorted(volumes)] for name, volumes in sets.items()}


SETS = sets_of_volumes()


def plain(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def volume(*members: bytes) -> bytes:
    stream = b"".join(members)
    return stream + difftar.end(len(stream))


def pieces_of(*volumes: bytes, cut: int = 1 << 20) -> list[Piece]:
    reader = DifftarReader()
    pieces: list[Piece] = []
    for data in volumes:
        for at in range(0, len(data), cut):
            pieces += reader.feed(data[at : at + cut])
        pieces += reader.end_volume()
    return pieces + reader.finish()


def joined(pieces: list[Piece]) -> list[tuple[str, Entry, bytes]]:
    """Whole entries; checks that beginnings and ends are right."""
    entries: list[tuple[str, Entry, bytes]] = []
    is_open = False
    for piece in pieces:
        assert piece.begins is not is_open
        if piece.begins:
            entries.append((piece.verb, piece.entry, piece.data))
        else:
            verb, entry, data = entries.pop()
            assert (piece.verb, piece.entry) == (verb, entry)
            entries.append((verb, entry, data + piece.data))
        is_open = not piece.ends
    assert not is_open
    return entries


def as_tarfile_reads(volumes: list[bytes]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for data in volumes:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            for info in archive:
                content = archive.extractfile(info) if info.isreg() else None
                yield info, content.read() if content else b""


def expected_of(volumes: list[bytes]) -> list[tuple[str, bytes, int, bytes]]:
    """Verb, path, uid, content of each entry of a set by way of tarfile."""
    entries: list[tuple[str, bytes, int, bytes]] = []
    last = ""
    for info, content in as_tarfile_reads(volumes):
        verb, _, path = info.name.partition("/")
        if verb.startswith("multivol_"):
            verb, path = verb.removeprefix("multivol_"), path.rpartition("/")[0]
            if last == (verb, path):
                content = entries.pop()[3] + content
        last = (verb, path)
        entries.append((verb, os.fsencode("" if path == "." else path), info.uid, content))
    return entries


@needs_fixtures
@pytest.mark.parametrize("name", SETS)
def test_stock_volumes_read_as_tarfile_reads_them(name: str) -> None:
    volumes = [plain(path) for path in SETS[name]]

    whole = joined(pieces_of(*volumes))

    assert [(verb, entry.path, entry.uid, data) for verb, entry, data in whole] == expected_of(volumes)
    assert joined(pieces_of(*volumes, cut=10_007)) == whole


@needs_fixtures
@pytest.mark.parametrize("name", SETS)
def test_our_members_equal_those_of_stock(name: str) -> None:
    """Written anew from what was read of them, volumes of stock come out byte for byte."""
    for path in SETS[name]:
        data = plain(path)
        members = []
        reader = TarReader()
        for chunk in reader.feed(data):
            members.append(rewritten(chunk.entry, chunk.data))

        ours = volume(*members)

        assert ours == data


def rewritten(member: Entry, data: bytes) -> bytes:
    word, _, name = member.path.partition(b"/")
    path = name if word.startswith(b"multivol") else inner_path(name, member, 0)
    if word == b"deleted":
        return difftar.deleted(path)
    if word in (b"snapshot", b"diff"):
        entry = member._replace(path=path)
        return difftar.diff(entry, data) if word == b"diff" else difftar.snapshot(entry, data)
    path, _, number = path.rpartition(b"/")
    entry = member._replace(path=inner_path(path, member, 0))
    return difftar.multivol("diff" if word == b"multivol_diff" else "snapshot", entry, int(number), data)


@needs_fixtures
def test_fixtures_are_not_few() -> None:
    assert len(SETS) >= 15
    assert sum(map(len, SETS.values())) >= 28


path_names = st.lists(
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"s").replace(b".", b"_")),
    min_size=1,
    max_size=4,
)


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, Entry, bytes]]:
    paths = sorted(draw(st.lists(path_names, max_size=6, unique_by=tuple)))
    result = []
    for path in paths:
        kind = draw(st.sampled_from([REG, REG, REG, DIR, SYM, FIFO, CHR]))
        verb = draw(st.sampled_from(["snapshot", "diff"])) if kind == REG else "snapshot"
        data = draw(st.binary(max_size=700)) if kind == REG else b""
        link, device = (b"target" if kind == SYM else b""), ((8, 1) if kind == CHR else (0, 0))
        result.append((verb, FILE._replace(path=b"/".join(path), kind=kind, link=link, dev=device), data))
    return result


@steady
@given(members(), st.data())
def test_reading_inverts_writing_whatever_the_cuts_and_volumes(items: list[tuple[str, Entry, bytes]], data: st.DataObject) -> None:
    volumes: list[list[bytes]] = [[]]
    for verb, entry, content in items:
        split = entry.kind == REG and data.draw(st.booleans())
        for member in parts_of(verb, entry, content) if split else [whole_member(verb, entry, content)]:
            if data.draw(st.integers(0, 3)) == 0:
                volumes.append([])
            volumes[-1].append(member)
    cut = data.draw(st.sampled_from([1, 7, 511, 512, 513, 1000, 10240, 1 << 20]) if len(items) < 3 else st.just(1000))

    read = joined(pieces_of(*(volume(*some) for some in volumes), cut=cut))

    assert [(verb, entry._replace(size=0), content) for verb, entry, content in read] == items


def whole_member(verb: str, entry: Entry, content: bytes) -> bytes:
    return difftar.diff(entry, content) if verb == "diff" else difftar.snapshot(entry, content)


def parts_of(verb: str, entry: Entry, content: bytes) -> list[bytes]:
    """Parts of 100 bytes: a reader takes any size (format specification, section 4.2)."""
    return [
        difftar.multivol("diff" if verb == "diff" else "snapshot", entry, 1 + at // 100, content[at : at + 100])
        for at in range(0, len(content) + 1, 100)
    ]


def test_a_small_member_is_one_piece_and_a_split_file_ends_with_an_empty_one() -> None:
    big = FILE._replace(path=b"g")
    data = volume(difftar.snapshot(FILE, b"x"), difftar.multivol_run("snapshot", big, 1, bytes(PART)), difftar.deleted(b"h"))

    pieces = pieces_of(data)

    assert [(piece.verb, piece.entry.path, len(piece.data), piece.begins, piece.ends) for piece in pieces] == [
        ("snapshot", b"f", 1, True, True),
        ("snapshot", b"g", PART, True, False),
        ("snapshot", b"g", 0, False, True),
        ("deleted", b"h", 0, True, True),
    ]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 16 * PART])
def test_a_multivol_run_is_its_members_in_a_row(size: int) -> None:
    data = random.Random(size).randbytes(size)
    parts = [data[at : at + PART] for at in range(0, size, PART)] or [b""]

    run = difftar.multivol_run("diff", FILE, 9, data)

    assert run == b"".join(difftar.multivol("diff", FILE, 9 + index, part) for index, part in enumerate(parts))


@steady
@given(st.binary(max_size=600), st.binary(max_size=600), st.sampled_from([b"", b"plain", "ü".encode(), b"x" * 95, b"x" * 200]))
def test_a_pair_is_its_two_members(data: bytes, signature: bytes, path: bytes) -> None:
    entry = FILE._replace(path=path)

    assert difftar.pair(entry, data, signature) == (difftar.snapshot(entry, data), sigtar.signature(entry, signature))


def test_names_of_members() -> None:
    """Format specification, section 4."""
    root, folder = FILE._replace(path=b"", kind=DIR), FILE._replace(path=b"d", kind=DIR)
    single = FILE._replace(path=b"")
    written = [
        difftar.snapshot(root), difftar.snapshot(folder), difftar.snapshot(single), difftar.diff(single, b"d"),
        difftar.multivol("diff", single, 1, b""), difftar.multivol("snapshot", FILE, 12, b""), difftar.deleted(b"a/b"),
    ]  # fmt: skip

    assert [member[:100].rstrip(b"\0") for member in written] == [
        b"snapshot/./", b"snapshot/d/", b"snapshot/", b"diff/", b"multivol_diff/./1", b"multivol_snapshot/f/12", b"deleted/a/b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "stream",
    [
        difftar.snapshot(FILE._replace(path=b""), b"small"),
        difftar.diff(FILE._replace(path=b""), b"small"),
        difftar.multivol("snapshot", FILE._replace(path=b""), 1, b"small") + difftar.multivol("snapshot", FILE._replace(path=b""), 2, b""),
    ],
)
def test_a_source_of_a_single_file_is_the_root(stream: bytes) -> None:
    ((_, entry, data),) = joined(pieces_of(volume(stream)))

    assert (entry.path, entry.kind, data) == (b"", REG, b"small")


def member(name: bytes, kind: bytes = REG, data: bytes = b"") -> bytes:
    return tar.member(name, FILE._replace(kind=kind), data)


@pytest.mark.parametrize("name", [b"snapshot/", b"snapshot/.", b"snapshot/./"])
def test_the_root_has_three_names(name: bytes) -> None:
    (piece,) = pieces_of(volume(member(name, DIR)))

    assert (piece.entry.path, piece.entry.kind) == (b"", DIR)


@pytest.mark.parametrize(
    "bad",
    [
        member(b"snapshot/../etc/passwd"),
        member(b"snapshot//etc/passwd"),
        member(b"snapshot/a/../../b"),
        member(b"snapshot/a//b"),
        member(b"snapshot/a/./b"),
        member(b"snapshot/a/"),
        member(b"deleted/.."),
        member(b"deleted/a/", DIR),
        member(b"deleted/a", REG, b"x"),
        member(b"deleted/a", SYM),
        member(b"diff/a", DIR),
        member(b"diff/a/"),
        member(b"multivol_snapshot/../a/1"),
        member(b"multivol_snapshot/1"),
        member(b"multivol_snapshot//1"),
        member(b"multivol_snapshot/a/"),
        member(b"multivol_snapshot/a/0"),
        member(b"multivol_snapshot/a/-1"),
        member(b"multivol_snapshot/a/x"),
        member(b"multivol_snapshot/a/" + b"9" * 13),
        member(b"multivol_snapshot/a/1", DIR),
        member(b"multivol_deleted/a/1"),
        member(b"signature/a"),
        member(b"snapshot"),
        member(b"foo/a"),
        member(b"/snapshot/a"),
        member(b""),
        member(b"snapshot/" + b"x" * 4097),
        member(b"snapshot/a", b"1"),
    ],
)
def test_members_that_the_format_does_not_know_are_refused(bad: bytes) -> None:
    """P7, P4: with the offset of the member."""
    good = difftar.snapshot(FILE._replace(path=b"A"), b"x")

    with pytest.raises(FormatError) as caught:
        pieces_of(volume(good, bad))
    assert caught.value.offset == 1024 or len(bad) > 1536  # behind a pax header


@pytest.mark.parametrize(
    ("first", "second"), [(b"b", b"a"), (b"a", b"a"), (b"sort/a", b"sort"), (b"a.b", b"a/b"), (b"sort/a b", b"sort/a"), (b"x", b"")]
)
def test_a_file_out_of_order_is_an_error(first: bytes, second: bytes) -> None:
    with pytest.raises(FormatError, match="out of order"):
        pieces_of(volume(difftar.deleted(first), difftar.deleted(second)))
    with pytest.raises(FormatError, match="out of order"):
        pieces_of(volume(difftar.deleted(first)), volume(difftar.deleted(second)))


def part(number: int, path: bytes = b"f", data: bytes = b"x") -> bytes:
    return difftar.multivol("snapshot", FILE._replace(path=path), number, data)


@pytest.mark.parametrize(
    "stream",
    [
        (part(1) + part(3),),
        (part(1) + part(1),),
        (part(1), part(3)),
        (part(1) + part(2, b"g"),),
        (difftar.deleted(b"a") + part(2),),
        (difftar.deleted(b"a"), part(2)),
        (part(1) + difftar.multivol("diff", FILE, 2, b""),),
        (part(1) + difftar.snapshot(FILE),),
        (difftar.snapshot(FILE), part(2)),
    ],
)
def test_parts_of_a_file_are_consecutive(stream: tuple[bytes, ...]) -> None:
    with pytest.raises(FormatError, match=r"missing|out of order"):
        pieces_of(*map(volume, stream))


def test_parts_go_on_in_the_next_volume() -> None:
    pieces = pieces_of(volume(part(1, data=b"one")), volume(part(2, data=b"two") + part(3, data=b"")))

    assert joined(pieces) == [("snapshot", FILE._replace(size=3), b"onetwo")]


def test_reading_may_begin_within_a_split_file() -> None:
    pieces = pieces_of(volume(part(4, data=b"four") + part(5, data=b"five") + part(1, b"g")))

    assert [(piece.entry.path, piece.data, piece.begins, piece.ends, piece.first_part) for piece in pieces] == [
        (b"f", b"four", True, False, 4),
        (b"f", b"five", False, False, 4),
        (b"f", b"", False, True, 4),
        (b"g", b"x", True, False, 1),
        (b"g", b"", False, True, 1),
    ]


def test_a_split_file_of_one_path_is_not_joined_with_the_next_path() -> None:
    assert [data for _, _, data in joined(pieces_of(volume(part(1) + part(1, b"g") + part(2, b"g"))))] == [b"x", b"xx"]


def test_a_cut_volume_is_an_error() -> None:
    """P4."""
    whole = volume(difftar.snapshot(FILE, b"data"))
    for size in (0, 1, 511, 512, 514, 1000, 1024, 1100, 1535):
        reader = DifftarReader()
        reader.feed(whole[:size])
        with pytest.raises(FormatError, match="cut"):
            reader.finish() if size else reader.end_volume()
        with pytest.raises(FormatError, match="cut"):
            reader.end_volume()


def test_garbage_behind_the_end_of_a_volume_is_ignored() -> None:
    """Stock pads encrypted volumes with it (format specification, section 10.2)."""
    one, two = volume(difftar.deleted(b"a")), volume(difftar.deleted(b"b"))

    assert pieces_of(one + b"\x8c\r\x04" * 700, two) == pieces_of(one, two)


def test_an_empty_set_has_no_pieces() -> None:
    assert difftar.end(0) == bytes(10240)
    assert pieces_of(bytes(10240)) == []


def test_mutated_volumes_are_refused_or_read() -> None:
    """P4, P9: never anything but a FormatError, and never a path that leads outside."""
    rng = random.Random(4)
    stream = [
        difftar.snapshot(FILE, b"data"),
        part(1, b"g"),
        part(2, b"g"),
        difftar.deleted(b"h/i"),
        difftar.snapshot(FILE._replace(path=b"z", kind=DIR)),
    ]
    for _ in range(1500):
        bad = bytearray(b"".join(rng.sample(stream, rng.randint(1, 5))))
        at = rng.randrange(len(bad) // 512) * 512
        bad[at + rng.choice([*range(30), 156, 124 + 10])] = rng.choice(b"/.01259\0\xff")
        blank = bad[at : at + 148] + b" " * 8 + bad[at + 156 : at + 512]
        bad[at + 148 : at + 156] = b"%06o\0 " % sum(blank)
        try:
            pieces = pieces_of(volume(bytes(bad)))
        except FormatError:
            continue
        joined(pieces)
        for piece in pieces:
            assert not {b"", b".", b".."} & set(piece.entry.path.split(b"/")) or not piece.entry.path


def test_errors_name_the_volume() -> None:
    reader = DifftarReader(where="vol1")
    reader.feed(volume(difftar.deleted(b"b")))
    reader.end_volume()
    reader.where = "vol2"

    with pytest.raises(FormatError, match="^vol2: .*out of order.*at byte 0"):
        reader.feed(volume(difftar.deleted(b"a")))
    for act in (reader.finish, DifftarReader(where="vol2").end_volume):
        with pytest.raises(FormatError, match="^vol2: .*cut"):
            act()
