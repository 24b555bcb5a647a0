"""What the remove commands take away, and in which order its files go. Pure (format specification, section 20)."""

from __future__ import annotations

import pytest

from asyncdup.archive import retention
from asyncdup.archive.chains import Collection, collect
from asyncdup.backends.base import ObjectInfo
from asyncdup.formats.names import SetId, manifest_name, signatures_name, volume_name

DAY = 86_400
START = 1_700_000_000


def day(number: int) -> int:
    return START + number * DAY


def collection(*chains: list[int], extra: list[SetId] | None = None) -> Collection:
    """Chains, each by the days of its sets, every set with two volumes."""
    ids = [
        SetId("inc" if place else "full", day(days[place - 1]) if place else None, day(days[place]))
        for days in chains
        for place in range(len(days))
    ]
    names = []
    for set_id in [*ids, *(extra or [])]:
        names += [manifest_name(set_id), signatures_name(set_id, ".gz"), volume_name(set_id, 1, ".gz"), volume_name(set_id, 2, ".gz")]
    return collect([ObjectInfo(name, 10) for name in names], now=day(1000))


def days(removal: retention.Removal) -> list[int]:
    return [(backup_set.end - START) // DAY for backup_set in removal.sets]


THREE = ([0, 1, 2], [10, 11], [20, 21])


@pytest.mark.parametrize(
    ("time", "expected"),
    [(0, []), (2, []), (2.5, [2, 1, 0]), (11, [2, 1, 0]), (12, [2, 1, 0, 11, 10]), (500, [2, 1, 0, 11, 10])],
)
def test_chains_that_ended_before_the_time_go_but_never_the_newest(time: float, expected: list[int]) -> None:
    removal = retention.older_than(collection(*THREE), int(START + time * DAY))

    assert sorted(days(removal)) == sorted(expected)
    for chain in removal.chains:
        ends = [backup_set.end for backup_set in removal.sets if backup_set in chain.sets]
        assert ends == sorted(ends, reverse=True)


def test_old_sets_of_a_chain_that_stays_are_named_as_needed() -> None:
    removal = retention.older_than(collection(*THREE), day(1) + 1)

    assert not removal.sets
    assert [each.end for each in removal.dependent] == [day(0), day(1)]
    assert not removal.active_is_old
    assert retention.older_than(collection(*THREE), day(99)).active_is_old


@pytest.mark.parametrize(("count", "expected"), [(1, [0, 1, 2, 10, 11]), (2, [0, 1, 2]), (3, []), (9, [])])
def test_the_newest_fulls_are_counted(count: int, expected: list[int]) -> None:
    assert sorted(days(retention.all_but_n_full(collection(*THREE), count))) == expected


@pytest.mark.parametrize(("count", "expected"), [(1, [1, 2, 11]), (2, [1, 2]), (3, [1, 2]), (4, [])])
def test_of_incrementals_alone_the_full_stays(count: int, expected: list[int]) -> None:
    removal = retention.all_incrementals_of_but_n_full(collection(*THREE, [5]), count)

    assert sorted(days(removal)) == expected
    assert not any(backup_set.is_full for backup_set in removal.sets)
    assert all(len(chain.sets) > 1 for chain in removal.chains)


def test_nothing_is_removed_from_nothing() -> None:
    assert retention.older_than(Collection(), day(1)) == retention.Removal()
    assert retention.all_but_n_full(Collection(), 1) == retention.Removal()


def test_a_set_that_was_replaced_goes_with_its_chain_unless_it_is_newer_than_the_time() -> None:
    """It restores, so somebody may want it; and without its chain it would be an orphan."""
    replaced = SetId("inc", day(0), day(1))
    beside = SetId("inc", day(1), day(7))  # upon the one that was replaced

    found = collection([0, 2], [20], extra=[replaced, beside])

    assert days(retention.older_than(found, day(8))) == [7, 2, 1, 0]
    assert days(retention.older_than(found, day(5))) == []


def test_of_a_set_the_manifest_goes_first_and_volumes_last() -> None:
    """A kill in between leaves an unfinished set, by its looks, that the next backup and cleanup find by its volumes."""
    found = collection([0], [10])

    ((heads, rest),) = retention.steps(retention.older_than(found, day(5)).sets)

    assert heads == [manifest_name(SetId("full", None, day(0))), signatures_name(SetId("full", None, day(0)), ".gz")]
    assert rest == [volume_name(SetId("full", None, day(0)), number, ".gz") for number in (2, 1)]
