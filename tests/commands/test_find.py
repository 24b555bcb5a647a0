"""``asyncdup find URL GLOB``: paths over all backups, or in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.days import Days


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    days.write("a.txt")
    days.write("sub/b.txt")
    days.write("sub/deep/c.txt")
    days.write("sub/c.jpg")
    days.backup()  # 0
    days.write("a.txt", b"changed\n")
    days.write("d.txt")
    days.remove("sub/b.txt")
    days.backup()  # 1
    days.remove("d.txt")
    days.backup("full")  # 2
    return days


def found(days: Days, *words: str) -> dict[str, tuple[int, int, bool, int]]:
    assert days.run("find", days.url, *words, "--json") == 0
    return {
        each["path"]: (days.day_of(each["first"]), days.day_of(each["last"]), each["live"], each["versions"])
        for each in map(json.loads, days.said.splitlines()[:-1])
    }


def test_all_times_tell_when_a_path_was_seen_first_and_last_and_in_how_many_forms(days: Days) -> None:
    assert found(days, "*.txt") == {
        "a.txt": (0, 2, True, 2),
        "d.txt": (1, 1, False, 1),
        "sub/b.txt": (0, 0, False, 1),
        "sub/deep/c.txt": (0, 2, True, 1),
    }


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("c.*", ["sub/c.jpg", "sub/deep/c.txt"]),  # without a slash: the name, wherever it is
        ("sub/*.txt", ["sub/b.txt"]),  # with one: the whole path
        ("sub/**", ["sub/b.txt", "sub/c.jpg", "sub/deep", "sub/deep/c.txt"]),
        ("./sub/c.jpg", ["sub/c.jpg"]),
        ("[ab].tx?", ["a.txt", "sub/b.txt"]),
        ("deep/", ["sub/deep"]),
    ],
)
def test_patterns_match_names_or_whole_paths(days: Days, pattern: str, paths: list[str]) -> None:
    assert sorted(found(days, pattern)) == paths


def test_one_time_lists_what_was_there_then(days: Days) -> None:
    assert list(found(days, "*.txt", f"--time={days.time(1)}")) == ["a.txt", "d.txt", "sub/deep/c.txt"]

    assert days.run("find", days.url, "a.txt", f"--time={days.time(0)}") == 0
    assert days.said.startswith("-rw-r--r--") and days.said.endswith("  a.txt\n")


def test_a_person_gets_a_line_for_each(days: Days) -> None:
    assert days.run("find", days.url, "?.txt") == 0

    lines = days.said.splitlines()
    assert len(lines) == 4
    assert " - now " in lines[0] and lines[0].endswith("2 versions  a.txt")
    assert " - now " not in lines[1] and lines[1].endswith("1 version  d.txt")


def test_nothing_found_is_exit_code_1_and_no_error(days: Days) -> None:
    assert days.run("find", days.url, "*.png") == 1
    assert (days.said, days.complained) == ("", "")


@pytest.mark.parametrize(("pattern", "words"), [("/etc", "not a path inside"), ("../x", "not a path inside"), ("[z-a]", "no range")])
def test_a_pattern_that_could_match_nothing_is_refused(days: Days, pattern: str, words: str) -> None:
    assert days.run("find", days.url, pattern) not in (0, 1)
    assert words in days.complained


def test_a_time_before_the_first_backup_is_an_error(days: Days) -> None:
    assert days.run("find", days.url, "*", f"--time={days.time(-1)}") == 1
    assert "no backup is as old" in days.complained


def test_wrong_use_says_what_is_wanted(days: Days) -> None:
    assert days.run("find", days.url) == 23
    assert "find wants URL PATTERN" in days.complained
