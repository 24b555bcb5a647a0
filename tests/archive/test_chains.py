"""Listings -> sets and chains: what can be restored, what a new set is built upon, what is missing, and that it is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.archive.chains import BackupSet, Chain, Collection, collect, partial_files
from asyncdup.backends.base import ObjectInfo
from asyncdup.errors import ChainError
from asyncdup.formats.names import Prefixes, SetId, format_time, manifest_name, signatures_name, volume_name

FIXTURES = Path(__file__).parents[1] / "fixtures"
DAY = 86400
NOW = 10_000 * DAY


def full(end: int) -> SetId:
    return SetId("full", None, end * DAY)


def inc(start: int, end: int) -> SetId:
    return SetId("inc", start * DAY, end * DAY)


def files(set_id: SetId, volumes: int = 1, suffix: str = ".gz") -> list[str]:
    """All names of a complete set."""
    manifest_suffix = ".gpg" if suffix == ".gpg" else ""
    numbers = range(1, volumes + 1)
    return [
        *(volume_name(set_id, number, suffix) for number in numbers),
        manifest_name(set_id, manifest_suffix),
        signatures_name(set_id, suffix),
    ]


def unfinished(set_id: SetId, volumes: int = 1) -> list[str]:
    return [volume_name(set_id, number, ".gz") for number in range(1, volumes + 1)]


def collection(*names: str | list[str], prefixes: Prefixes | None = None) -> Collection:
    flat = [name for item in names for name in ([item] if isinstance(item, str) else item)]
    return collect([ObjectInfo(name, 100) for name in flat], prefixes=prefixes or Prefixes(), now=NOW)


def ends(sets: tuple[BackupSet, ...]) -> list[int]:
    return [backup_set.end // DAY for backup_set in sets]


def chains(found: Collection) -> list[list[int]]:
    return [ends(chain.sets) for chain in found.chains]


TWO_CHAINS = [files(full(1)), files(inc(1, 2)), files(full(3)), files(inc(3, 4)), files(inc(4, 5))]


# --- what is there ------------------------------------------------------------------------------------------------------------------


def test_sets_chains_and_what_they_are_made_of() -> None:
    found = collection(*TWO_CHAINS, "README", "photo.jpg")

    assert chains(found) == [[1, 2], [3, 4, 5]]
    assert found.newest_chain is found.chains[1]
    assert not (found.unfinished or found.orphaned or found.forks or found.orphaned_signatures or found.warnings())
    assert found.chains[0].last == BackupSet(
        id=inc(1, 2),
        volumes={1: volume_name(inc(1, 2), 1, ".gz")},
        manifest=manifest_name(inc(1, 2)),
        signatures=signatures_name(inc(1, 2), ".gz"),
        sizes=dict.fromkeys(files(inc(1, 2)), 100),
    )


def test_an_empty_target_is_an_empty_collection() -> None:
    found = collection()

    assert (found.sets, found.chains, found.newest_chain, found.latest, found.base()) == ((), (), None, None, (None, []))
    with pytest.raises(ChainError, match="no complete backup"):
        found.chain_for()


@pytest.mark.parametrize("folder", ["two-chains", "plain-chain", "odd-names-types"])
def test_status_is_that_of_stock(folder: str) -> None:
    """The machine lines of collection-status, as duplicity 3.2.1 wrote them for the fixture."""
    said = (FIXTURES / folder / "stock-output" / "collection-status.log-fd.txt").read_text().splitlines()
    lines = [line for line in said if line.startswith(("chain-", " ", "orphaned-", "incomplete-"))]

    found = collection([path.name for path in (FIXTURES / folder / "remote").iterdir()])

    assert found.status_lines() == lines


def test_status_of_a_chain_without_signatures() -> None:
    """Observed: duplicity 3.2.1, fixture two-chains without its newest full-signatures."""
    found = collection(*TWO_CHAINS[:2], [name for name in files(full(3), 2, ".gpg") if "signatures" not in name])

    times = [format_time(day * DAY) for day in (1, 2, 3)]
    assert found.status_lines() == [
        "chain-no-sig 0",
        f" full {times[0]} 1 noenc",
        f" inc {times[1]} 1 noenc",
        "chain-no-sig 1",
        f" full {times[2]} 2 enc",
        "orphaned-sets-num 0",
        "incomplete-sets-num 0",
    ]


@pytest.mark.parametrize("folder", ["short-names", "symmetric-gpg", "no-compression"])
def test_every_form_of_names_makes_a_chain(folder: str) -> None:
    found = collection([path.name for path in (FIXTURES / folder / "remote").iterdir()])

    assert [len(chain.sets) for chain in found.chains] == [2]
    assert found.base() == (found.newest_chain, [])
    assert found.chains[0].encrypted == (folder == "symmetric-gpg")


def test_files_under_other_prefixes_are_not_seen() -> None:
    names = [path.name for path in (FIXTURES / "prefixes-jsonstat" / "remote").iterdir()]

    found = collection(names, prefixes=Prefixes("P-", "a_", "m_", "s_", "j_"))

    assert [ends(chain.sets) for chain in found.chains] and len(found.sets) == 2
    assert all(backup_set.jsonstat for backup_set in found.sets)
    assert collection(names).sets == ()


# --- which sets restore a time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "sets"), [(1, [1]), (1.5, [1]), (2, [1, 2]), (2.9, [1, 2]), (3, [3]), (4, [3, 4]), (99, [3, 4, 5]), (None, [3, 4, 5])]
)
def test_a_time_is_restored_from_the_newest_set_at_or_before_it(day: float | None, sets: list[int]) -> None:
    found = collection(*TWO_CHAINS)

    assert ends(found.sets_for(None if day is None else int(day * DAY))) == sets


def test_a_time_before_the_first_backup_is_refused() -> None:
    """P3. Stock restores the first full, exit 0 (format specification, section 23)."""
    with pytest.raises(ChainError, match=format_time(DAY)) as caught:
        collection(*TWO_CHAINS).chain_for(DAY - 1)

    assert format_time(DAY) in (caught.value.hint or "")


def test_a_set_without_manifest_is_ignored_but_named() -> None:
    """P1, P6: the manifest is the commit."""
    found = collection(*TWO_CHAINS, unfinished(inc(5, 6), 2))

    assert ends(found.sets_for()) == [3, 4, 5]
    assert found.base()[0] == found.newest_chain
    assert [left.id for left in found.unfinished] == [inc(5, 6)]
    assert len(found.warnings()) == 1 and "vol1.difftar.gz" in found.warnings()[0]
    assert found.latest == 5 * DAY and 6 * DAY in found.taken_times


def test_an_unfinished_full_hides_no_chain() -> None:
    """P1."""
    found = collection(files(full(1)), files(inc(1, 2)), unfinished(full(3)))

    assert ends(found.sets_for()) == [1, 2]
    assert found.base()[0] == found.chains[0]


def test_a_set_built_upon_a_lost_manifest_is_not_passed_over_in_silence() -> None:
    """P3: restoring the newest time must not give an older one; the message names the missing file and what can be restored."""
    names = files(full(1)) + files(inc(1, 2)) + files(inc(2, 3)) + files(inc(3, 4))
    names.remove(manifest_name(inc(2, 3)))

    found = collection(names)

    with pytest.raises(ChainError, match=manifest_name(inc(2, 3))) as caught:
        found.chain_for()
    assert format_time(2 * DAY) in (caught.value.hint or "")
    assert ends(found.sets_for(3 * DAY)) == [1, 2]
    assert [lost.id for lost in found.orphaned] == [inc(3, 4)]


def test_a_set_whose_base_is_gone_says_which() -> None:
    found = collection(files(full(1)), files(inc(2, 3)))

    with pytest.raises(ChainError, match=f"no set of {format_time(2 * DAY)}"):
        found.chain_for()
    assert ends(found.sets_for(2 * DAY)) == [1]


def test_times_that_make_no_sense_orphan_a_set() -> None:
    found = collection(files(full(3)), files(inc(3, 3)), files(inc(5, 4)))

    assert [lost.id for lost in found.orphaned] == [inc(3, 3), inc(5, 4)]
    with pytest.raises(ChainError, match="make no sense"):
        found.chain_for()


def test_of_two_sets_with_the_same_start_the_later_end_is_in_the_chain() -> None:
    """Format specification, section 16; what it replaced can still be restored by its own time."""
    found = collection(files(full(1)), files(inc(1, 2)), files(inc(1, 3)), files(inc(3, 4)))

    assert chains(found) == [[1, 3, 4]]
    assert [fork.id for fork in found.forks] == [inc(1, 2)]
    assert ends(found.sets_for(2 * DAY)) == [1, 2]
    assert found.orphaned == ()


def test_an_unfinished_set_makes_room_for_the_one_made_anew() -> None:
    """P1: what stock or we left of a run, and the same run again."""
    found = collection(files(full(1)), unfinished(inc(1, 2)), files(inc(1, 3)))

    assert chains(found) == [[1, 3]]
    assert ends(found.sets_for()) == [1, 3]


def test_an_increment_follows_the_older_of_two_sets_that_end_together() -> None:
    """Observed: duplicity 3.2.1 puts it into the first chain with that end."""
    found = collection(files(full(1)), files(inc(1, 3)), files(full(3)), files(inc(3, 4)))

    assert chains(found) == [[3], [1, 3, 4]]
    assert ends(found.sets_for()) == [1, 3, 4]
    assert ends(found.sets_for(3 * DAY)) == [3]


def test_of_overlapping_chains_the_newest_set_counts() -> None:
    found = collection(files(full(1)), files(inc(1, 5)), files(full(3)))

    assert ends(found.sets_for(4 * DAY)) == [3]
    assert ends(found.sets_for()) == [1, 5]


# --- volumes -------------------------------------------------------------------------------------------------------------------------


def test_missing_volumes_are_named() -> None:
    names = files(full(1), volumes=5)
    names.remove(volume_name(full(1), 2, ".gz"))

    found = collection(names).sets[0]

    assert found.gaps == [2]
    with pytest.raises(ChainError, match=volume_name(full(1), 2, ".gz")) as caught:
        found.require([1, 2, 6])
    assert volume_name(full(1), 6, ".gz") in str(caught.value)
    assert caught.value.exit_code == 1
    assert found.size == 600
    assert found.require([3, 1]) == [volume_name(full(1), 3, ".gz"), volume_name(full(1), 1, ".gz")]


def test_a_chain_with_a_hole_is_nothing_to_build_upon() -> None:
    names = files(full(1), volumes=3) + files(inc(1, 2))
    names.remove(volume_name(full(1), 2, ".gz"))

    base, why = collection(names).base()

    assert base is None
    assert volume_name(full(1), 2, ".gz") in why[0]


def test_a_newest_set_without_signatures_is_taken_the_place_of() -> None:
    """Format specification, section 16: the last set is left out, with a warning."""
    names = files(full(1)) + files(inc(1, 2)) + files(inc(2, 3))
    names.remove(signatures_name(inc(2, 3), ".gz"))

    base, why = collection(names).base()

    assert base is not None and ends(base.sets) == [1, 2]
    assert "signature archive" in why[0]


@pytest.mark.parametrize("lost", [full(1), inc(1, 2)])
def test_older_signatures_cannot_be_done_without(lost: SetId) -> None:
    names = files(full(1)) + files(inc(1, 2)) + files(inc(2, 3))
    names.remove(signatures_name(lost, ".gz"))

    assert collection(names).base()[0] is None


@pytest.mark.parametrize(
    "stray",
    [
        volume_name(full(1), 1, ".gz.tmp"),
        volume_name(full(1), 1, ".part"),
        volume_name(full(1), 1, ""),
        volume_name(full(1), 9, ".gz.tmp"),
        manifest_name(full(1), ".part"),
        volume_name(full(1), 1, ".gpg.tmp"),
    ],
)
def test_foreign_files_with_a_volumes_name_are_strays(stray: str) -> None:
    """Stock stops with an assertion at some of them (format specification, section 2.1); we say so and go on."""
    found = collection(files(full(1), volumes=2), stray)

    assert found.sets[0].strays == (stray,)
    assert found.sets[0].volumes == {1: volume_name(full(1), 1, ".gz"), 2: volume_name(full(1), 2, ".gz")}
    assert stray in found.warnings()[0]


def test_a_plain_volume_never_stands_in_an_encrypted_set() -> None:
    """P17: not even where the encrypted one is missing."""
    names = files(full(1), volumes=2, suffix=".gpg")
    names.remove(volume_name(full(1), 2, ".gpg"))
    plain = [volume_name(full(1), 2, ".gz"), manifest_name(full(1)), signatures_name(full(1), ".gz")]

    found = collection(names, plain).sets[0]

    assert found.encrypted
    assert found.manifest == manifest_name(full(1), ".gpg") and found.signatures == signatures_name(full(1), ".gpg")
    assert list(found.volumes) == [1]
    assert sorted(found.strays) == sorted(plain)
    with pytest.raises(ChainError, match=volume_name(full(1), 2, ".gpg")):
        found.require([1, 2])


# --- removing ------------------------------------------------------------------------------------------------------------------------


def test_a_set_is_deleted_manifest_first_then_volumes_from_the_top() -> None:
    """Format specification, section 20: cut down half-way it is unfinished, not damaged."""
    names = collection(files(full(1), volumes=11)).sets[0].names

    assert names[0] == manifest_name(full(1))
    assert names[1:3] == [volume_name(full(1), 11, ".gz"), volume_name(full(1), 10, ".gz")]
    assert names[-1] == signatures_name(full(1), ".gz")
    assert sorted(names) == sorted(files(full(1), volumes=11))


@pytest.mark.parametrize(
    ("day", "removed", "kept"), [(1, [], []), (2, [], [1]), (2.5, [[1, 2]], []), (4.5, [[1, 2]], [3, 4]), (99, [[1, 2]], [3, 4, 5])]
)
def test_only_whole_chains_are_too_old_and_never_the_newest(day: float, removed: list[list[int]], kept: list[int]) -> None:
    """Format specification, section 20: remove-older-than."""
    old, stay = collection(*TWO_CHAINS).older_than(int(day * DAY))

    assert [ends(chain.sets) for chain in old] == removed
    assert ends(tuple(stay)) == kept


def test_the_nth_newest_full() -> None:
    found = collection(*TWO_CHAINS)

    assert [found.nth_newest_full(count) for count in (0, 1, 2, 3)] == [None, 3 * DAY, DAY, None]


def test_leftovers_are_unfinished_and_orphaned_sets_and_what_has_no_set() -> None:
    lone = signatures_name(full(7), ".gz")
    found = collection(*TWO_CHAINS, unfinished(full(6)), files(inc(8, 9)), lone, ".asyncdup-1-2-3")

    assert set(found.leftovers()) == {*unfinished(full(6)), *files(inc(8, 9)), lone, ".asyncdup-1-2-3"}
    assert found.orphaned_signatures == (lone,)
    assert found.temporary == (".asyncdup-1-2-3",)
    assert any(lone in warning for warning in found.warnings())


@pytest.mark.parametrize(
    ("older_than", "n_inc", "due"),
    [(None, None, False), (3 * DAY, None, False), (3 * DAY + 1, None, True), (None, 3, False), (None, 2, True), (None, 0, True)],
)
def test_when_a_full_is_due(older_than: int | None, n_inc: int | None, due: bool) -> None:
    chain = collection(*TWO_CHAINS).newest_chain

    assert chain is not None and chain.full_is_due(older_than=older_than, n_inc=n_inc) is due


def test_partial_files_of_stock_in_the_archive_folder() -> None:
    names = [path.name for path in (FIXTURES / "interrupted-full" / "cache" / "c").iterdir()]

    found = partial_files([*names, manifest_name(full(1)), "lockfile"], now=NOW)

    assert list(found.values()) == [[name for name in names if name.endswith(".part")]]


# --- properties ----------------------------------------------------------------------------------------------------------------------

set_ids = st.one_of(st.builds(full, st.integers(1, 9)), st.builds(inc, st.integers(1, 9), st.integers(1, 9)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(set_ids, st.integers(0, 3)), max_size=12), st.randoms(use_true_random=False))
def test_any_listing_in_any_order_gives_the_same_sound_collection(drawn: list[tuple[SetId, int]], rng: random.Random) -> None:
    """M5. What is restorable is a full followed by increments that fit, all with manifests."""
    names = []
    for set_id, lost in drawn:
        names += files(set_id, volumes=2)[lost:] if lost < 3 else unfinished(set_id)
    names = list(dict.fromkeys(names))
    shuffled = rng.sample(names, len(names))

    found = collection(names)

    assert collection(shuffled) == found
    assert sorted([name for backup_set in found.sets for name in backup_set.names] + [*found.orphaned_signatures]) == sorted(names)
    for chain in [*found.chains, *(Chain(sets) for sets in _restorable(found))]:
        assert chain.full.is_full and all(backup_set.is_complete for backup_set in chain.sets)
        assert [following.start for following in chain.sets[1:]] == [before.end for before in chain.sets[:-1]]
        assert [backup_set.end for backup_set in chain.sets] == sorted({backup_set.end for backup_set in chain.sets})


def _restorable(found: Collection) -> list[tuple[BackupSet, ...]]:
    sets = []
    for day in range(10):
        try:
            sets.append(found.sets_for(day * DAY))
        except ChainError as error:
            assert str(error)
    return sets


def test_a_hostile_listing_of_many_sets_is_sorted_out_quickly() -> None:
    """P9: no recursion, nothing worse than a sort."""
    names = []
    for day in range(1, 3000):
        names += [volume_name(inc(day, day + 1), 1), manifest_name(inc(day, day + 1)), manifest_name(inc(day, day + 2))]

    found = collection(names)

    assert found.chains == () and len(found.orphaned) == 5998
    with pytest.raises(ChainError, match=format_time(DAY)):
        found.chain_for()
