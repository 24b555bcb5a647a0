"""``asyncdup prune URL --keep-…``: which backups stay, which go, and that what stays restores (P1)."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncdup.archive import retention
from asyncdup.archive.chains import Collection, collect
from asyncdup.archive.retention import Keep
from asyncdup.backends.base import ObjectInfo
from asyncdup.formats.names import SetId, manifest_name, signatures_name, volume_name
from tests.commands.conftest import tree
from tests.commands.days import DAY, START, Days

EVENING = START  # of Tuesday, 2023-11-14, 22:13 UTC


@pytest.fixture(autouse=True)
def universal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Days are those of the local zone."""
    monkeypatch.setenv("TZ", "UTC")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


def at(day: float) -> int:
    return int(EVENING + day * DAY)


def collection(*chains: list[float], lost: frozenset[float] = frozenset()) -> Collection:
    """Chains by the days of their sets, each of two volumes; those of ``lost`` days have no first one."""
    names = []
    for days in chains:
        for place, day in enumerate(days):
            set_id = SetId("inc" if place else "full", at(days[place - 1]) if place else None, at(day))
            volumes = [2] if day in lost else [1, 2]
            names += [manifest_name(set_id), signatures_name(set_id, ".gz"), *(volume_name(set_id, each, ".gz") for each in volumes)]
    return collect([ObjectInfo(name, 10) for name in names], now=at(1000))


def going(*chains: list[float], lost: frozenset[float] = frozenset(), **keep: int) -> list[float]:
    return [(each.end - EVENING) / DAY for each in retention.thinned(collection(*chains, lost=lost), Keep(**keep)).removal.sets]


FULLS = [[float(day)] for day in range(60)]


def test_of_fulls_each_rule_keeps_the_newest_of_its_periods() -> None:
    """Days 58 and 59 are 2024-01-11 and 12; Sundays are days 5, 12, …; months end on days 16 and 47."""
    gone = going(*FULLS, daily=2, weekly=3, monthly=12, yearly=1)

    assert sorted(set(map(float, range(60))) - set(gone)) == [16, 47, 54, 58, 59]


def test_of_several_backups_in_a_day_the_newest_stays() -> None:
    assert going([0.0], [0.02], [0.04], [1.0], daily=7) == [0.02, 0.0]


def test_days_without_a_backup_do_not_count() -> None:
    assert going([0.0], [10.0], [20.0], [30.0], daily=3) == [0.0]


def test_what_a_kept_set_is_built_upon_stays_and_is_named() -> None:
    thinning = retention.thinned(collection([0, 1, 2, 3], [4, 5]), Keep(daily=1, weekly=2))

    assert [(each.end - EVENING) / DAY for each, _ in thinning.kept] == [5]
    assert [words for _, words in thinning.kept] == [("daily", "weekly")]
    assert [(each.end - EVENING) / DAY for each in thinning.removal.sets] == [3, 2, 1, 0]
    assert [(each.end - EVENING) / DAY for each in thinning.removal.dependent] == [4]


def test_an_old_chain_shrinks_from_its_end_only() -> None:
    """Monthly wants day 16, the last of November, and of December day 40: day 17 goes, and 14 and 15 stay below 16."""
    assert going([14, 15, 16, 17], [40], [50, 51], monthly=3) == [17]


def test_the_newest_chain_stays_whole() -> None:
    assert going([0, 1, 2, 3], daily=1) == []


def test_a_damaged_set_is_not_what_a_rule_keeps() -> None:
    assert going([0.0], [0.02], [1.0], lost=frozenset({0.02}), daily=2) == [0.02]


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    for day in range(8):
        days.write("file", b"day %d\n" % day)
        days.backup("full" if day % 4 == 0 else "incremental")
    days.write("file", b"day 8\n")
    days.backup("full")
    return days


def test_without_force_it_lists_and_says_why_each_stays(days: Days) -> None:
    before = sorted(os.listdir(days.target))

    assert days.run("prune", days.url, "--keep-daily=2", "--keep-weekly=2") == 0
    assert sorted(os.listdir(days.target)) == before
    assert "Would be deleted:" in days.said and "--force deletes them" in days.said
    assert "full of Wed Nov 22 22:13:20 2023: daily, weekly" in days.said
    assert "incremental of Tue Nov 21 22:13:20 2023: daily" in days.said
    assert "Stay too, since a kept backup is built upon them" in days.said


def test_with_force_it_deletes_and_all_that_is_kept_restores(days: Days) -> None:
    """Daily: days 8 and 7; weekly: days 8 and 5 (a Sunday). Day 7 needs its chain, 4 to 7; the chain 0 to 3 goes."""
    assert days.run("prune", days.url, "--keep-daily=2", "--keep-weekly=2", "--force") == 0
    assert "Deleted:" in days.said and "4 sets, " in days.said

    for day in (4, 5, 6, 7, 8):
        assert days.run("restore", days.url, str(days.folder / f"restored{day}"), f"--time={days.time(day)}") == 0
        assert tree(days.folder / f"restored{day}") == {"file": b"day %d\n" % day}
    assert days.run("restore", days.url, str(days.folder / "restored3"), f"--time={days.time(3)}") == 1
    assert days.run("check", days.url, "--read-data") == 0


def test_the_end_of_an_old_chain_goes_and_its_beginning_restores(days: Days) -> None:
    """Weekly: days 8 and 5. Nothing needs days 6 and 7, which stand on 5."""
    assert days.run("prune", days.url, "--keep-weekly=2", "--force") == 0
    assert "6 sets, " in days.said

    assert days.run("restore", days.url, str(days.folder / "restored"), f"--time={days.time(7)}") == 0
    assert tree(days.folder / "restored") == {"file": b"day 5\n"}
    assert days.run("check", days.url, "--read-data") == 0
    days.write("file", b"day 9\n")
    days.backup("incremental")


def test_a_second_run_finds_nothing(days: Days) -> None:
    days.run("prune", days.url, "--keep-weekly=2", "--force")

    assert days.run("prune", days.url, "--keep-weekly=2", "--force") == 0
    assert "nothing deleted" in days.said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [([], "prune wants to know what to keep"), (["--keep-daily=0"], "--keep-daily wants"), (["--keep-weekly=few"], "--keep-weekly wants")],
)
def test_what_is_to_be_kept_must_be_said(days: Days, words: list[str], complaint: str) -> None:
    assert days.run("prune", days.url, "--force", *words) == 23
    assert complaint in days.complained
    assert len(list(days.target.glob("*manifest*"))) == 9
