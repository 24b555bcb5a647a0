"""Headers equal CPython's tarfile byte for byte; the reader takes what tarfile takes of it, and refuses damage and excess."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.errors import FormatError
from asyncdup.formats import tar, tar_reader
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, REG, SYM, Entry
from asyncdup.formats.tar_reader import Chunk, TarReader

FILE = Entry(b"", REG, 0o644, 1000, 1000, 1700000000, 0, b"user", b"group", b"", (0, 0))
steady = settings(derandomize=True, max_examples=60, deadline=None)  # the same examples in each run

component = st.binary(min_size=1, max_size=60).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"s"))
text_name = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).map(str.encode)
plain_name = st.from_regex(rb"[a-zA-Z0-9 ._-]{1,60}", fullmatch=True)
names = st.lists(component | text_name | plain_name, min_size=1, max_size=5).map(b"/".join)
ids = st.integers(0, 3000) | st.sampled_from([8**7 - 1, 8**7, 2**32 - 2]) | st.integers(0, 2**32 - 1)
times = st.integers(0, 2**33 - 1) | st.integers(2**33, 2**40)
owners = st.sampled_from(
    [b"", b"root", b"a-name-of-exactly-thirty-2-bytes", b"a-name-of-exactly-thirty-3-bytes!", "größe".encode(), b"\xff\xfe"]
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from([REG, REG, DIR, FIFO, SYM, CHR, BLK]))
    link = draw(names) if kind == SYM else b""
    device = draw(st.tuples(st.integers(0, 8**7 - 1), st.integers(0, 8**7 - 1))) if kind in (CHR, BLK) else (0, 0)
    size = draw(st.sampled_from([0, 1, 65536, 8**11 - 1, 8**11, 2**50])) if kind == REG else 0
    mode, uid, gid, mtime = draw(st.integers(0, 0o7777)), draw(ids), draw(ids), draw(times)
    return Entry(draw(names), kind, mode, uid, gid, mtime, size, draw(owners), draw(owners), link, device)


def as_tarfile_writes(name: bytes, entry: Entry, size: int) -> bytes:
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.type, info.mode, info.uid, info.gid, info.mtime, info.size = entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime, size
    info.uname, info.gname, info.linkname = (text.decode("utf-8", "surrogateescape") for text in (entry.uname, entry.gname, entry.link))
    info.devmajor, info.devminor = entry.dev
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def member_name(entry: Entry) -> bytes:
    return b"snapshot/" + entry.path + (b"/" if entry.kind == DIR else b"")


def archive(*members: bytes) -> bytes:
    stream = b"".join(members)
    return stream + tar.end(len(stream), 1)


def read(data: bytes, cuts: tuple[int, ...] = ()) -> list[tuple[Entry, bytes, int]]:
    """Whole members of an archive that is fed in pieces."""
    reader = TarReader()
    members: list[tuple[Entry, bytes, int]] = []
    for begin, stop in zip((0, *sorted(cuts)), (*sorted(cuts), len(data)), strict=True):
        for chunk in reader.feed(data[begin:stop]):
            join(members, chunk)
    reader.finish()
    return members


def join(members: list[tuple[Entry, bytes, int]], chunk: Chunk) -> None:
    if chunk.begins:
        members.append((chunk.entry, chunk.data, chunk.offset))
    else:
        entry, data, offset = members.pop()
        assert (entry, offset) == (chunk.entry, chunk.offset)
        members.append((entry, data + chunk.data, offset))
    assert chunk.ends == (len(members[-1][1]) == chunk.entry.size) or not chunk.data


@steady
@given(entries())
def test_header_equals_tarfile(entry: Entry) -> None:
    name = member_name(entry)

    assert tar.header(name, entry, entry.size) == as_tarfile_writes(name, entry, entry.size)


@pytest.mark.parametrize("length", [99, 100, 101])
@pytest.mark.parametrize("letter", [b"x", "é".encode(), b"\xff", "𝄞".encode()])
def test_header_equals_tarfile_where_a_name_gets_too_long(length: int, letter: bytes) -> None:
    for text in (letter * length, b"a" * (length - 1) + letter):
        link = FILE._replace(kind=SYM, link=text)

        assert tar.header(text, FILE, 0) == as_tarfile_writes(text, FILE, 0)
        assert tar.header(b"l", link, 0) == as_tarfile_writes(b"l", link, 0)


@pytest.mark.parametrize("length", range(80, 110))
def test_pax_record_counts_its_own_digits(length: int) -> None:
    name = b"n" * length + b"\xc3\xa4"

    assert tar.header(name, FILE, 0) == as_tarfile_writes(name, FILE, 0)


def test_negative_mtime_is_written_as_zero() -> None:
    assert tar.header(b"n", FILE._replace(mtime=-5), 0) == tar.header(b"n", FILE._replace(mtime=0), 0)


def test_a_long_list_of_owners_does_not_fill_the_memory() -> None:
    """P9: what is remembered of headers is bounded, on both sides."""
    headers = [tar.header(b"f", FILE._replace(uid=uid), 0) for uid in range(5000)]

    assert [entry.uid for entry, _, _ in read(archive(*headers))] == list(range(5000))
    assert len(tar._known) <= 4096
    assert len(tar_reader._ids_read) <= 4096


@steady
@given(entries(), entries(), st.binary(max_size=1100), st.binary(max_size=1100))
def test_twins_equal_two_members(first: Entry, second: Entry, data: bytes, signature: bytes) -> None:
    for entry in (first._replace(kind=REG, link=b"", dev=(0, 0)), second._replace(kind=REG, link=b"", dev=(0, 0), path=b"plain")):
        twins = tar.twins(b"snapshot/", data, b"signature/", signature, entry)

        assert twins in (
            None,
            (tar.member(b"snapshot/" + entry.path, entry, data), tar.member(b"signature/" + entry.path, entry, signature)),
        )


def test_twins_of_a_plain_entry_are_made_fast() -> None:
    assert tar.twins(b"a/", b"", b"b/", b"", FILE._replace(path=b"p" * 80)) is not None
    assert tar.twins(b"a/", b"", b"b/", b"", FILE._replace(path=b"p" * 81)) is None


@pytest.mark.parametrize(
    "entry", [FILE._replace(path=b"x" * 4097), FILE._replace(kind=SYM, link=b"x" * 4097), FILE._replace(kind=CHR, dev=(8**7, 0))]
)
def test_what_cannot_be_read_back_is_not_written(entry: Entry) -> None:
    with pytest.raises(FormatError):
        tar.header(b"snapshot/" + entry.path, entry, 0)


@steady
@given(st.lists(st.tuples(entries(), st.binary(max_size=1500)), max_size=5), st.data())
def test_any_cut_reads_the_same_members_as_were_written(items: list[tuple[Entry, bytes]], data: st.DataObject) -> None:
    items = [(entry, content if entry.kind == REG else b"") for entry, content in items]
    written = archive(*(tar.member(member_name(entry), entry, content) for entry, content in items))
    cuts = data.draw(st.lists(st.integers(0, len(written)), max_size=8))

    members = read(written, tuple(cuts))

    expected = [(entry._replace(path=member_name(entry), size=len(content)), content) for entry, content in items]
    assert [(entry, content) for entry, content, _ in members] == expected


def test_one_byte_at_a_time_reads_the_same() -> None:
    entry = FILE._replace(path="ü".encode() * 80)
    written = archive(tar.member(entry.path, entry, b"content"), tar.member(b"next", FILE, b"x" * 512))

    assert read(written, tuple(range(1, len(written)))) == read(written)


def test_a_member_wholly_in_the_fed_bytes_is_one_chunk() -> None:
    written = archive(tar.member(b"a", FILE, b"1"), tar.member(b"b", FILE), tar.member(b"c", FILE, bytes(600)))

    chunks = TarReader().feed(written)

    assert [(chunk.entry.path, chunk.begins, chunk.ends, chunk.offset) for chunk in chunks] == [
        (b"a", True, True, 0),
        (b"b", True, True, 1024),
        (b"c", True, True, 1536),
    ]


@steady
@given(st.data())
def test_foreign_tar_formats_read_as_tarfile_reads_them(data: st.DataObject) -> None:
    """GNU long names and base-256 numbers, ustar prefixes: what stock reads through tarfile (format specification, section 5)."""
    kind = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
    info = tarfile.TarInfo("/".join(data.draw(st.lists(st.text("abcd", min_size=1, max_size=60), min_size=1, max_size=4))))
    if kind == tarfile.GNU_FORMAT:
        info.uid, info.mtime = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(-(2**40), 2**40))
        info.type = data.draw(st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE]))
        info.linkname = "l" * data.draw(st.integers(1, 300)) if info.type == tarfile.SYMTYPE else ""
    try:
        header = info.tobuf(kind, "utf-8", "surrogateescape")
    except ValueError:
        return  # a name that ustar cannot hold

    ((entry, _, _),) = read(archive(header))

    assert (entry.path.decode(), entry.uid, entry.mtime, entry.link.decode()) == (info.name, info.uid, info.mtime, info.linkname)


def resum(header: bytes) -> bytes:
    """The header with the right checksum."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def with_field(at: int, value: bytes) -> bytes:
    header = tar.header(b"snapshot/x", FILE, 0)
    return resum(header[:at] + value + header[at + len(value) :])


def extension(kind: bytes, body: bytes) -> bytes:
    header = tar.header(b"././@PaxHeader", FILE._replace(kind=FIFO), len(body))
    return resum(header[:156] + kind + header[157:]) + body + bytes(-len(body) % 512)


def pax(*records: tuple[bytes, bytes]) -> bytes:
    return extension(b"x", b"".join(tar._pax_record(word, value) for word, value in records))


@pytest.mark.parametrize("kind", [b"1", b"7", b"g", b"X", b"S", b"D", b"A"])
def test_hard_links_and_unknown_types_are_refused(kind: bytes) -> None:
    """P7."""
    with pytest.raises(FormatError, match=r"type .* is refused"):
        read(archive(with_field(156, kind)))


@pytest.mark.parametrize("at", [0, 9, 101, 120, 130, 140, 149, 150, 156, 260, 270, 400, 511])
@pytest.mark.parametrize("warm", [False, True])
def test_a_flipped_bit_in_a_header_is_an_error_with_its_offset(at: int, warm: bool) -> None:
    """P4: a bad header in mid archive is an error, not the end; also where the rest of the header was seen before."""
    first, second = tar.member(b"snapshot/a", FILE, b"data"), bytearray(tar.member(b"snapshot/b", FILE, b"data"))
    second[at] ^= 0x10
    if not warm:
        tar_reader._ids_read.clear()
        tar_reader._rest_read.clear()

    with pytest.raises(FormatError, match="damaged") as caught:
        read(archive(first, bytes(second)))
    assert caught.value.offset == 1024


def test_every_single_bit_of_a_header_counts() -> None:
    """P4. Only padding of the checksum itself may change: a blank for its leading 0, or behind it."""
    header = tar.header(b"snapshot/a", FILE, 0)
    good = read(archive(header))
    random.seed(1)
    for bit in random.sample(range(512 * 8), 600):
        damaged = bytearray(header)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert read(archive(bytes(damaged))) == good
        except FormatError:
            continue
        assert bit // 8 in (148, 154, 155)


def test_old_signed_checksums_are_taken() -> None:
    """As tarfile takes them: some old programs added signed bytes."""
    blank = with_field(9, b"\xc3\xa4")
    blank = blank[:148] + b" " * 8 + blank[156:]
    signed = blank[:148] + b"%06o\0 " % (sum(blank) - 512) + blank[156:]

    assert read(archive(signed))[0][0].path == b"snapshot/\xc3\xa4"
    with pytest.raises(FormatError, match="checksum"):
        read(archive(blank[:148] + b"%06o\0 " % (sum(blank) - 256) + blank[156:]))


@pytest.mark.parametrize(
    "header",
    [
        with_field(124, b"0000000000x\0"),
        with_field(124, b"000000_0000\0"),
        with_field(124, b"\xff" + b"\xff" * 11),
        with_field(124, b"\x80" + b"\xff" * 11),
        with_field(124, b"\x81" + b"\0" * 11),
        with_field(108, b"\x80\0\0\1\0\0\0\0"),
        with_field(136, b"\x80" + b"\xff" * 11),
        with_field(100, b"999\0    "),
    ],
)
def test_numbers_that_are_none_or_out_of_range_are_refused(header: bytes) -> None:
    with pytest.raises(FormatError, match="no number, or out of range"):
        read(archive(header))


@pytest.mark.parametrize("field", [b"644     ", b"   644 \0", b"644\0\0\0\0\0", b"0000644 "])
def test_numbers_may_be_padded_as_other_programs_do(field: bytes) -> None:
    assert read(archive(with_field(100, field)))[0][0].mode == 0o644


@pytest.mark.parametrize("kind", [DIR, SYM, FIFO, CHR])
def test_data_of_other_types_are_refused(kind: bytes) -> None:
    """P4: tarfile would read such data as the next header."""
    header = with_field(124, b"%011o\0" % 10)

    with pytest.raises(FormatError, match="no regular file"):
        read(archive(resum(header[:156] + kind + header[157:]), bytes(512)))


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"13 path=abc\n",
        b"10 path=abc\n",
        b"11 path abc\n",
        b"06 =a\n",
        b"11 path=abc\0",
        b"0 path=abc\n",
        b"99999999 path=abc\n",
        b"5 a=\n11 path=abc\n\0",
    ],
)
def test_damaged_pax_headers_are_refused(body: bytes) -> None:
    with pytest.raises(FormatError, match="damaged pax header"):
        read(archive(extension(b"x", body), tar.member(b"a", FILE)))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(b"path", b"a\0b")], "NUL"),
        ([(b"linkpath", b"a\0b")], "NUL"),
        ([(b"uname", b"a\0b")], "NUL"),
        ([(b"path", b"x" * 4161)], "are the most"),
        ([(b"linkpath", b"x" * 4097)], "are the most"),
        ([(b"gname", b"x" * 4097)], "are the most"),
        ([(b"uid", b"-1")], "out of range"),
        ([(b"gid", b"4294967296")], "out of range"),
        ([(b"size", b"9223372036854775808")], "out of range"),
        ([(b"size", b"1e3")], "no number"),
        ([(b"mtime", b"nan")], "no number"),
        ([(b"mtime", b"9" * 4000)], "no number"),
        ([(b"GNU.sparse.major", b"1")], "sparse"),
    ],
)
def test_pax_values_that_nobody_can_use_are_refused(records: list[tuple[bytes, bytes]], message: str) -> None:
    """P7, P9."""
    with pytest.raises(FormatError, match=message):
        read(archive(pax(*records), tar.member(b"a", FILE)))


def test_pax_values_take_the_place_of_the_header() -> None:
    records = [
        (b"path", b"snapshot/other"),
        (b"uid", b"7"),
        (b"mtime", b"12.75"),
        (b"size", b"3"),
        (b"comment", b"whatever\n"),
        (b"gname", b""),
    ]
    member = tar.member(b"a", FILE) + b"abc" + bytes(509)

    ((entry, data, _),) = read(archive(pax(*records), member))

    assert (entry.path, entry.uid, entry.mtime, entry.gname, data) == (b"snapshot/other", 7, 12, b"", b"abc")


def test_an_extension_says_nothing_of_the_member_after_the_next() -> None:
    members = read(archive(pax((b"path", b"p"), (b"linkpath", b"l")), tar.member(b"a", FILE), tar.member(b"b", FILE)))

    assert [(entry.path, entry.link) for entry, _, _ in members] == [(b"p", b""), (b"b", b"")]


def test_a_pax_header_of_a_mebibyte_is_the_largest() -> None:
    """P9."""
    room = (1 << 20) - len(b"1048576 comment=\n")
    body = b"1048576 comment=" + b"c" * room + b"\n"

    assert len(body) == 1 << 20
    assert len(read(archive(extension(b"x", body), tar.member(b"a", FILE)), (100_000, 700_000))) == 1
    with pytest.raises(FormatError, match="too long"):
        TarReader().feed(extension(b"x", body + b"c")[:512])


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_extensions_are_neither_empty_nor_repeated_nor_last(kind: bytes) -> None:
    body = b"10 a=cdef\n" if kind == b"x" else b"name\0"
    member = tar.member(b"a", FILE)

    assert len(read(archive(extension(kind, body), member))) == 1
    with pytest.raises(FormatError, match="repeated"):
        read(archive(extension(kind, body), extension(kind, body), member))
    with pytest.raises(FormatError, match="empty"):
        read(archive(extension(kind, b""), member))
    with pytest.raises(FormatError, match="without its member"):
        read(archive(extension(kind, body)))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1023, 1024, 1536, 2047])
def test_a_cut_archive_is_an_error(size: int) -> None:
    """P4: the end mark is asked for."""
    written = archive(tar.member(b"a", FILE, bytes(600)))[:size]
    reader = TarReader()
    reader.feed(written)

    with pytest.raises(FormatError, match="cut") as caught:
        reader.finish()
    assert caught.value.offset == size


def test_what_follows_the_first_block_of_zeros_is_ignored() -> None:
    """Encrypted volumes of stock have such bytes (format specification, section 10.2)."""
    written = tar.member(b"a", FILE, b"data") + bytes(512)

    assert read(written + b"\x8c\x0d\x04" * 1000) == read(written)
    assert read(written + b"garbage", (len(written),)) == read(written)


@pytest.mark.parametrize(
    ("size", "blocks", "expected"),
    [(0, 1, 10240), (512, 1, 9728), (9728, 1, 512), (10240, 1, 10240), (0, 2, 10240), (9216, 2, 1024), (9728, 2, 10752)],
)
def test_end_of_an_archive(size: int, blocks: int, expected: int) -> None:
    assert tar.end(size, blocks) == bytes(expected)


def test_random_bytes_are_refused_or_end(worst: Callable[[bytes], None]) -> None:
    """P9: never anything but a FormatError."""
    random.seed(2)
    for _ in range(300):
        worst(random.randbytes(2048))


def test_mutated_archives_are_refused_or_read(worst: Callable[[bytes], None]) -> None:
    random.seed(3)
    name = "snapshot/ü".encode()
    good = archive(
        tar.member(name, FILE, b"data"), extension(b"L", b"long"), tar.member(b"a", FILE), tar.header(b"s", FILE._replace(kind=SYM), 0)
    )
    for _ in range(1500):
        bad = bytearray(good)
        for _ in range(random.randint(1, 4)):
            bad[random.randrange(4096)] = random.choice([0, 10, 32, 0x2F, 0x30, 0x31, 0x37, 0x4C, 0x78, 0x80, 0xFF])
        blocks = [bytes(bad[at : at + 512]) for at in range(0, 4096, 512)]
        worst(b"".join(resum(block) if random.random() < 0.7 else block for block in blocks))


@pytest.fixture
def worst() -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        reader = TarReader()
        try:
            reader.feed(data)
            reader.finish()
        except FormatError as error:
            assert error.offset is not None
            assert 0 <= error.offset <= len(data)

    return check


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        (b"", DIR, b""),
        (b"./", DIR, b""),
        (b".", DIR, b""),
        (b"", REG, b""),
        (b".", REG, b""),
        (b"docs/", DIR, b"docs"),
        (b"docs", DIR, b"docs"),
        (b"a/b", REG, b"a/b"),
        (b"..a/b..", REG, b"..a/b.."),
        (b"x" * 4096, REG, b"x" * 4096),
        (b"x" * 4096 + b"/", DIR, b"x" * 4096),
    ],
)
def test_inner_path(name: bytes, kind: bytes, path: bytes) -> None:
    assert tar_reader.inner_path(name, FILE._replace(path=b"snapshot/" + name, kind=kind), 0) == path


@pytest.mark.parametrize("kind", [DIR, REG])
@pytest.mark.parametrize(
    "name", [b"/", b"//", b"/etc", b"a//b", b"..", b"../a", b"a/..", b"a/../b", b"./a", b"a/.", b"a/./b", b"a//", b"../", b"x" * 4097]
)
def test_paths_that_may_lead_outside_are_refused(name: bytes, kind: bytes) -> None:
    """P7."""
    with pytest.raises(FormatError, match="refused") as caught:
        tar_reader.inner_path(name, FILE._replace(path=b"snapshot/" + name, kind=kind), 512)
    assert caught.value.offset == 512


def test_only_a_directory_may_have_a_trailing_slash() -> None:
    with pytest.raises(FormatError, match="refused"):
        tar_reader.inner_path(b"docs/", FILE._replace(path=b"snapshot/docs/"), 0)


@steady
@given(st.lists(st.lists(plain_name, min_size=1, max_size=3), min_size=2, max_size=6))
def test_keys_order_paths_as_tuples_of_components(paths: list[list[bytes]]) -> None:
    by_key = sorted((b"/".join(path) for path in paths), key=tar.key)

    assert by_key == [b"/".join(path) for path in sorted(paths)]


def test_shown_names_cannot_play_with_the_terminal() -> None:
    assert tar.shown(b"a\x1b[2J\n\xff") == repr("a\x1b[2J\n\\xff")
    assert len(tar.shown(b"x" * 5000)) < 300
