"""File names: everything that duplicity 3.2.1 recognises is recognised, and nothing else; what is built reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.formats.names import (
    MAX_NAME,
    Kind,
    ParsedName,
    Prefixes,
    SetId,
    cache_name,
    jsonstat_name,
    manifest_name,
    parse_name,
    parse_names,
    signatures_name,
    volume_name,
)
from asyncdup.units import LATEST

FIXTURES = Path(__file__).parents[1] / "fixtures"
NOW = 1_700_000_000
T, U = "20231114T221320Z", "20231115T221320Z"
FULL, INC = SetId("full", None, NOW), SetId("inc", NOW, NOW + 86400)
NONE = Prefixes()


def parsed(name: str, prefixes: Prefixes = NONE) -> ParsedName:
    found = parse_name(name, prefixes, NOW)
    assert found is not None, name
    return found


@pytest.mark.parametrize(
    ("name", "kind", "set_id", "number"),
    [
        (f"duplicity-full.{T}.vol1.difftar.gz", "volume", FULL, 1),
        (f"duplicity-full.{T}.vol001.difftar", "volume", FULL, 1),
        (f"duplicity-inc.{T}.to.{U}.vol12.difftar.gpg", "volume", INC, 12),
        (f"duplicity-full.{T}.manifest", "manifest", FULL, None),
        (f"duplicity-inc.{T}.to.{U}.manifest.gpg", "manifest", INC, None),
        (f"duplicity-full-signatures.{T}.sigtar.gz", "signatures", FULL, None),
        (f"duplicity-new-signatures.{T}.to.{U}.sigtar", "signatures", INC, None),
        (f"duplicity-full.{T}.jsonstat.gz", "jsonstat", FULL, None),
        (f"duplicity-inc.{T}.to.{U}.jsonstat", "jsonstat", INC, None),
        ("df.s44we8.a.dt.z", "volume", FULL, 10),
        ("di.s44we8.s46r28.1.dt.g", "volume", INC, 1),
        ("df.s44we8.m", "manifest", FULL, None),
        ("di.s44we8.s46r28.m.g", "manifest", INC, None),
        ("dfs.s44we8.st.z", "signatures", FULL, None),
        ("dns.s44we8.s46r28.st", "signatures", INC, None),
    ],
)
def test_long_and_short_names_of_every_kind(name: str, kind: Kind, set_id: SetId, number: int | None) -> None:
    found = parsed(name)

    assert (found.name, found.kind, found.set, found.number) == (name, kind, set_id, number)
    assert found.is_proper and not found.partial
    assert found.short == name.startswith(("df", "di", "dns"))


@pytest.mark.parametrize(
    ("suffix", "compressed", "encrypted", "proper"),
    [
        ("", False, False, True),
        (".gz", True, False, True),
        (".z", True, False, True),
        (".gpg", False, True, True),
        (".g", False, True, True),
        (".p7m", False, True, True),
        (".gz.tmp", False, False, False),
        (".x.gpg", False, True, False),
        (".part", False, False, False),
        (".part.gz", True, False, False),
    ],
)
def test_suffixes_are_judged_by_the_end_of_the_name(suffix: str, compressed: bool, encrypted: bool, proper: bool) -> None:
    """Format specification, section 2.1: stock takes "vol1.difftar.gz.tmp" for volume 1; we see it, and that it is not proper."""
    found = parsed(f"duplicity-full.{T}.vol1.difftar{suffix}")

    assert (found.compressed, found.encrypted, found.is_proper) == (compressed, encrypted, proper)
    assert found.partial == suffix.startswith(".part")


@pytest.mark.parametrize("name", [f"duplicity-full.{T}.manifest.part", "df.s44we8.m.p", "dfs.s44we8.st.p.z"])
def test_partial_files_of_stock_are_told_apart(name: str) -> None:
    assert parsed(name).partial
    assert not parsed(name).is_proper


@pytest.mark.parametrize(
    ("field", "end"),
    [
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20+01:00", NOW - 3600),
        ("20231114t221320z", NOW),
        ("1700000000", NOW),
        ("5", 5),
        ("3D", NOW - 3 * 86400),
        ("3d", NOW - 3 * 86400),
    ],
)
def test_old_forms_of_times_are_read(field: str, end: int) -> None:
    """Observed: duplicity 3.2.1 upper-cases the field and reads any time string."""
    assert parsed(f"duplicity-full.{field}.manifest").set == SetId("full", None, end)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        ".asyncdup-1f-0-abc",
        f".asyncdup-duplicity-full.{T}.vol1.difftar.gz",
        f"xduplicity-full.{T}.manifest",
        f"DUPLICITY-FULL.{T}.manifest",
        f"duplicity-full.{T}.vol0.difftar",
        f"duplicity-full.{T}.vol{'9' * 20}.difftar",
        f"duplicity-full.{T}.vol{'9' * 5000}.difftar",
        f"duplicity-full.{T}.vol١.difftar",
        f"duplicity-full.{T}.vol1.difftargz",
        f"duplicity-full.{T}.manifest\n",
        f"duplicity-full.{T}.x.manifest",
        f"duplicity-inc.{T}.manifest",
        f"duplicity-inc.{T}.jsonstat.gz",
        "duplicity-full.now.manifest",
        "duplicity-full.0.manifest",
        "duplicity-full.-5.manifest",
        "duplicity-full.20231314T221320Z.manifest",
        "duplicity-full.2023-11-14T22_13_20Z.manifest",
        "df.S44WE8.m",
        "df.0.m",
        "df.s44we8.0.dt",
        "df.s44we8.1.dtz",
        "df.s44we8zzzzzzzzzzz.m",
        "df.s44we8.st",
        f"duplicity-full.{T}.manifest." + "x" * MAX_NAME,
    ],
)
def test_other_names_are_nobodys(name: str) -> None:
    """P6: temporary names of ours never parse."""
    assert parse_name(name, NONE, NOW) is None


def test_prefixes_are_part_of_every_name() -> None:
    prefixes = Prefixes("P-", "a_", "m_", "s_", "j_")
    names = [
        volume_name(FULL, 3, ".gz", prefixes),
        manifest_name(INC, ".gpg", prefixes),
        signatures_name(INC, "", prefixes),
        jsonstat_name(FULL, ".gz", prefixes),
    ]

    assert names[0] == f"P-a_duplicity-full.{T}.vol3.difftar.gz"
    assert [found.kind for found in parse_names(names, prefixes, NOW)] == ["volume", "manifest", "signatures", "jsonstat"]
    assert parse_names(names, NONE, NOW) == []
    assert parse_names([manifest_name(FULL)], prefixes, NOW) == []


def test_a_prefix_is_not_an_expression() -> None:
    assert parse_name(f"xxduplicity-full.{T}.manifest", Prefixes(".."), NOW) is None
    assert parsed(f"..duplicity-full.{T}.manifest", Prefixes("..")).set == FULL


@pytest.mark.parametrize(
    ("name", "cached"),
    [
        (manifest_name(INC, ".gpg"), manifest_name(INC)),
        (signatures_name(INC, ".gpg"), signatures_name(INC, ".gz")),
        (signatures_name(FULL), signatures_name(FULL, ".gz")),
        (jsonstat_name(FULL, ".gpg"), jsonstat_name(FULL, ".gz")),
        ("dfs.s44we8.st.z", "dfs.s44we8.st.gz"),
        ("di.s44we8.s46r28.m", "di.s44we8.s46r28.m"),
    ],
)
def test_names_in_the_archive_folder(name: str, cached: str) -> None:
    """Format specification, sections 2 and 12; short names observed with duplicity 3.2.1."""
    assert cache_name(parsed(name)) == cached


set_ids = st.one_of(
    st.builds(lambda end: SetId("full", None, end), st.integers(1, LATEST)),
    st.builds(lambda start, end: SetId("inc", start, end), st.integers(1, LATEST), st.integers(1, LATEST)),
)
affixes = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=80)
@given(set_ids, st.integers(1, 9_999_999), st.sampled_from(["", ".gz", ".gpg"]), affixes, affixes)
def test_what_is_built_reads_back(set_id: SetId, number: int, suffix: str, outer: str, inner: str) -> None:
    prefixes = Prefixes(outer, inner, inner, inner, inner)
    if outer.startswith(".asyncdup-"):
        return

    volume = parsed(volume_name(set_id, number, suffix, prefixes), prefixes)

    assert (volume.set, volume.number, volume.suffix, volume.kind) == (set_id, number, suffix, "volume")
    for build, kind in ((manifest_name, "manifest"), (signatures_name, "signatures"), (jsonstat_name, "jsonstat")):
        found = parsed(build(set_id, suffix, prefixes), prefixes)
        assert (found.set, found.suffix, found.kind, found.is_proper) == (set_id, suffix, kind, True)


@settings(max_examples=80)
@given(st.from_regex(r"\A(duplicity-(full|inc)|d[fins]+)[.0-9a-zT:+-]*\Z") | st.text(max_size=60))
def test_any_name_is_something_or_nothing(name: str) -> None:
    """M5: a listing is input from outside; it never raises."""
    found = parse_name(name, NONE, NOW)

    assert found is None or (found.name == name and 0 < found.set.end <= LATEST)


def test_all_names_of_the_fixtures_are_recognised() -> None:
    prefixes = Prefixes("P-", "a_", "m_", "s_", "j_")
    count = 0
    for folder in sorted(FIXTURES.glob("*/remote")):
        for path in folder.iterdir():
            found = parse_name(path.name, prefixes if path.name.startswith("P-") else NONE, NOW)
            assert found is not None and found.is_proper, path
            count += 1

    assert count > 50


def test_volumes_are_numbered_from_one() -> None:
    with pytest.raises(ValueError, match="0"):
        volume_name(FULL, 0)
