"""Manifests: stock's bytes from records, records from stock's bytes, and nothing from damaged ones (P4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.errors import FormatError
from asyncdup.formats import manifest
from asyncdup.formats.manifest import Manifest, VolumeRecord
from asyncdup.formats.tar import key

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLAIN = sorted([*FIXTURES.glob("*/remote/*.manifest"), *FIXTURES.glob("*/remote/*.m"), *FIXTURES.glob("*/cache/c/*.manifest.part")])
SHA1 = "367a6bce360df0831340092fde45efb2ebb2e16d"
HASHES = {"SHA1": SHA1}


def block(number: int, start: str = ". ", end: str = "z ", digest: str = f"SHA1 {SHA1}") -> bytes:
    return f"Volume {number}:\n    StartingPath   {start} \n    EndingPath     {end} \n    Hash {digest}\n".encode()


def volume(number: int, start: bytes = b"", end: bytes = b"z") -> VolumeRecord:
    return VolumeRecord(number=number, start_path=start, end_path=end, hashes=HASHES)


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_stock_manifests_are_written_back_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()

    parsed = manifest.parse(data, where=path.name, file_list=True)

    assert manifest.write(parsed) == data
    assert list(parsed.volumes) == list(range(1, len(parsed.volumes) + 1))


def test_there_are_manifests_to_test_with() -> None:
    assert len(PLAIN) > 12


def test_records_say_what_the_manifest_of_a_chain_says() -> None:
    data = (FIXTURES / "plain-chain" / "remote" / "duplicity-full.20231114T221320Z.manifest").read_bytes()

    parsed = manifest.parse(data)

    assert (parsed.hostname, parsed.localdir, parsed.files, parsed.files_changed) == (b"testhost", b"source", 13, None)
    assert parsed.volumes[1].start_path == b"" and parsed.volumes[1].end_path == b"big.bin"
    assert (parsed.volumes[1].start_block, parsed.volumes[1].end_block) == (None, 1)
    assert parsed.volumes[1].sha1 is not None and len(parsed.volumes[1].sha1) == 40


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", b"."),
        (b"a/b", b"a/b"),
        (b"sp ace", b'"sp\\x20ace"'),
        (b"new\nline", b'"new\\x0aline"'),
        (b"quote'\"\\back", b'"quote\\x27\\x22\\x5cback"'),
        (b"bad-\xff\xfe", b"bad-\xff\xfe"),
        (b"nbsp-\xc2\xa0x", b"nbsp-\xc2\xa0x"),
        (b"\x01\x1c\x7f", b"\x01\x1c\x7f"),
    ],
)
def test_paths_are_quoted_as_stock_quotes_them(path: bytes, text: bytes) -> None:
    assert manifest.file_line("new", path) == b"    new      " + text + b"\n"


@pytest.mark.parametrize(
    ("source", "localdir"),
    [(b"./s", b"s"), (b"s/", b"s"), (b"s//a/./b/", b"s/a/b"), (b".", b"."), (b"/", b"/"), (b"//home/u/", b"/home/u"), (b"../x", b"../x")],
)
def test_the_source_is_named_without_dots_and_spare_slashes(source: bytes, localdir: bytes) -> None:
    assert manifest.localdir_of(source) == localdir


# --- P4: what is damaged is refused -------------------------------------------------------------------------------------------------

HEAD = b"Hostname h\nLocaldir s\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "no volumes"),
        (HEAD, "no volumes"),
        (HEAD + b"Filelist 0\n", "no volumes"),
        (HEAD + block(2), "lacks volume 1"),
        (block(1) + block(3), "lacks volume 2"),
        (block(0), "from 1"),
        (block(1)[:-1], "cut off"),
        (block(1, digest="SHA1 " + SHA1[:-1]), "40 hexadecimal"),
        (block(1, digest="SHA1 " + "g" * 40), "40 hexadecimal"),
        (block(1, digest="SHA999 abcd"), "hash that can be checked"),
        (block(1).replace(b"Hash SHA1 " + SHA1.encode(), b""), "does not belong|hash"),
        (block(1) + b"    Hash SHA1 " + SHA1.encode() + b"\n", "second SHA1"),
        (block(1).replace(b"EndingPath  ", b"StartingPath"), "second StartingPath"),
        (block(1, start="../x "), r"\.\. component"),
        (block(1, start="/x "), "component"),
        (block(1, start="a//b "), "component"),
        (block(1, start='"a\\x00b" '), "NUL"),
        (block(1, start='"a '), "quote"),
        (block(1, start='"a\\q" '), "quote"),
        (block(1, start="zz ", end="a "), "begins after"),
        (block(1, start="x" * 5000 + " ", end="y "), "too long"),
        (block(1) + b"garbage\n", "belongs to nothing"),
        (block(1) + b"\0\0\0\n", "belongs to nothing"),
        (HEAD + HEAD + block(1), "second Hostname"),
        (block(1) + b"Filelist 2\n    new      a\n", "1 entries"),
        (block(1) + b"Filelist 1\n    odd      a\n", "0 entries"),
        (block(1) + b"Filelist 0\nFilelist 0\n", "second file list"),
        (block(1) + b"Filelist 0\n    new      a\n", "belongs to nothing"),
    ],
)
def test_damage_is_an_error_with_its_offset(data: bytes, said: str) -> None:
    """P4: a 0-byte, cut, hash-less or holed manifest is damage, not a smaller set."""
    with pytest.raises(FormatError, match=said) as caught:
        manifest.parse(data, where="M", file_list=True)

    assert caught.value.offset is not None and 0 <= caught.value.offset <= len(data)
    assert str(caught.value).startswith("M: ")


def test_a_cut_anywhere_is_an_error_or_ends_before_the_file_list_or_a_volume() -> None:
    """P4. A cut between two blocks cannot be seen in the text; the volumes at the target then outnumber those of the manifest."""
    data = HEAD + block(1) + block(2) + b"Filelist 2\n    new      a\n    deleted  b\n"
    whole_until = {len(HEAD + block(1)): 1, len(HEAD + block(1) + block(2)): 2}

    for cut in range(len(data)):
        if cut in whole_until:
            parsed = manifest.parse(data[:cut])
            assert len(parsed.volumes) == whole_until[cut] and parsed.files is None
        else:
            with pytest.raises(FormatError):
                manifest.parse(data[:cut])


def test_a_manifest_over_64_mib_is_not_read() -> None:
    with pytest.raises(FormatError, match="67108865"):
        manifest.parse(bytes(manifest.MAX_SIZE + 1))


# --- what readers must take ---------------------------------------------------------------------------------------------------------


def test_blocks_may_come_in_any_order_and_case() -> None:
    data = b"filelist 1\n  NEW  a\nVOLUME 1:\n endingpath z\n STARTINGPATH . \n hash sha1 " + SHA1.upper().encode() + b"\nhostname H\n"

    parsed = manifest.parse(data, file_list=True)

    assert parsed.volumes == {1: volume(1)}
    assert (parsed.hostname, parsed.files_changed) == (b"H", (("new", b"a"),))


def test_md5_alone_is_enough_to_check_a_volume() -> None:
    assert manifest.parse(block(1, digest="MD5 " + "a" * 32)).volumes[1].sha1 is None


def test_the_last_of_repeated_volumes_counts() -> None:
    """Format specification, section 3: 1 2 3 4 4 5 after a resume."""
    data = b"".join(block(number, end=f"y{at} ") for at, number in enumerate([1, 2, 3, 4, 4, 5]))

    parsed = manifest.parse(data)

    assert sorted(parsed.volumes) == [1, 2, 3, 4, 5]
    assert parsed.volumes[4].end_path == b"y4"


def test_volumes_beyond_the_last_block_are_dropped() -> None:
    """Format specification, section 3: 1 2 3 2 means 1, 2."""
    assert sorted(manifest.parse(b"".join(map(block, [1, 2, 3, 2]))).volumes) == [1, 2]


def test_stock_resumed_manifest_of_the_fixture_reads() -> None:
    text = (FIXTURES / "interrupted-full" / "after-resume.txt").read_bytes()

    parsed = manifest.parse(text[text.index(b"Hostname") :])

    assert (len(parsed.volumes), parsed.files) == (11, 5)


# --- which volumes a path needs ------------------------------------------------------------------------------------------------------


def test_volumes_for_a_path_are_those_whose_bounds_embrace_it() -> None:
    """And the neighbours of a path that lies on a bound, or between two: a wrong bound must not hide it (P3)."""
    parsed = Manifest(volumes={1: volume(1, b"", b"a/b"), 2: volume(2, b"a/b", b"sort/a b"), 3: volume(3, b"sort/a/x", b"z")})

    numbers = {
        path: [record.number for record in parsed.volumes_for(path)]
        for path in (b"", b"a", b"a/a", b"a/b", b"a/c", b"sort", b"sort/a", b"t", b"zz")
    }

    expected = {b"": [1, 2, 3], b"a": [1, 2], b"a/a": [1], b"a/b": [1, 2], b"a/c": [2], b"sort": [2, 3], b"sort/a": [2, 3]}
    assert numbers == expected | {b"t": [3], b"zz": [3]}


short_paths = st.lists(st.sampled_from([b"a", b"b", b"b!", b"c"]), max_size=3).map(b"/".join)


def below(path: bytes, wanted: bytes) -> bool:
    parts = wanted.split(b"/") if wanted else []
    return path.split(b"/")[: len(parts)] == parts


@settings(max_examples=300)
@given(st.lists(st.lists(short_paths, min_size=1, max_size=4), min_size=1, max_size=5), short_paths, st.data())
def test_one_wrong_bound_hides_no_path_and_right_ones_cost_at_most_the_neighbours(
    content: list[list[bytes]], wanted: bytes, data: st.DataObject
) -> None:
    """P3. ``content``: paths of the entries in each volume, once they are in order; one that repeats is a file that is split."""
    ordered = iter(sorted((path for held in content for path in held), key=key))
    held = {number: [next(ordered) for _ in paths] for number, paths in enumerate(content, 1)}
    volumes = {number: volume(number, paths[0], paths[-1]) for number, paths in held.items()}
    holding = {number for number, paths in held.items() if any(below(path, wanted) for path in paths)}

    chosen = {record.number for record in Manifest(volumes=volumes).volumes_for(wanted)}
    assert holding <= chosen
    if holding and wanted:
        assert chosen <= {number + step for number in holding for step in (-1, 0, 1)}

    number, bound, wrong = (
        data.draw(st.sampled_from(sorted(volumes))),
        data.draw(st.sampled_from(["start_path", "end_path"])),
        data.draw(short_paths),
    )
    right = volumes[number]
    wrong_one = replace(right, start_path=wrong) if bound == "start_path" else replace(right, end_path=wrong)
    damaged = volumes | {number: wrong_one}
    assert holding <= {record.number for record in Manifest(volumes=damaged).volumes_for(wanted)}


# --- writing -------------------------------------------------------------------------------------------------------------------------

names = (
    st.binary(min_size=1, max_size=8)
    .map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"0"))
    .filter(lambda n: n not in (b".", b".."))
)
paths = st.lists(names, max_size=3).map(b"/".join)
blocks = st.none() | st.integers(1, 10**9)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    bounds = [sorted(draw(st.lists(paths, min_size=2, max_size=2)), key=key) for _ in range(draw(st.integers(1, 4)))]
    volumes = {
        number: VolumeRecord(
            number=number, start_path=start, start_block=draw(blocks), end_path=end, end_block=draw(blocks), hashes={"SHA1": "0" * 40}
        )
        for number, (start, end) in enumerate(bounds, 1)
    }
    changed = tuple(draw(st.lists(st.tuples(st.sampled_from(["new", "changed", "deleted"]), paths.filter(bool)), max_size=4)))
    localdir = draw(st.none() | paths.filter(bool))
    return Manifest(hostname=b"h", localdir=localdir, volumes=volumes, files=len(changed), files_changed=changed)


@settings(max_examples=80)
@given(manifests())
def test_what_is_written_reads_back(record: Manifest) -> None:
    assert manifest.parse(manifest.write(record), file_list=True) == record


@settings(max_examples=80)
@given(st.binary(max_size=80), st.data())
def test_any_bytes_are_a_manifest_or_a_format_error(junk: bytes, data: st.DataObject) -> None:
    """M5: also a true manifest with some bytes changed."""
    true = HEAD + block(1) + block(2) + b"Filelist 1\n    new      a\n"
    at = data.draw(st.integers(0, len(true)))

    for text in (junk, true[:at] + junk + true[at:], true[:at] + junk + true[at + len(junk) :]):
        try:
            assert manifest.parse(text, file_list=True).volumes
        except FormatError as error:
            assert error.offset is not None


def test_a_long_file_list_is_written_in_pieces() -> None:
    """P9: from an iterator, and nothing holds more than a piece."""
    lines = (manifest.file_line("new", b"dir/file-%d" % number) for number in range(20_000))

    pieces = list(manifest.write_file_list(20_000, lines))

    assert len(pieces) > 5
    assert max(map(len, pieces)) < 2 * manifest.LIST_PIECE
    assert manifest.parse(block(1) + b"".join(pieces)).files == 20_000


def test_lines_that_arrive_in_any_pieces_are_counted() -> None:
    assert b"".join(manifest.write_file_list(2, [b"    new ", b"     a\n    new      b\n"])).endswith(b"b\n")
    with pytest.raises(ValueError, match="2 lines has 1"):
        list(manifest.write_file_list(2, [b"    new      a\n"]))


def test_a_volume_without_sha1_is_never_written() -> None:
    """Stock's restore crashes on it (format specification, section 3)."""
    with pytest.raises(ValueError, match="volume 7"):
        manifest.write_volume(VolumeRecord(number=7, start_path=b"", end_path=b""))


def test_an_empty_host_name_is_left_out() -> None:
    assert manifest.write_head(b"", b"s") == b"Localdir s\n"
