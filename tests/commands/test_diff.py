"""``asyncdup diff URL``: what differs between two backups, within a chain and across chains."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.commands.days import Days


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    days.write("same")
    days.write("grows", b"x")
    days.write("sub/goes")
    (days.source / "link").symlink_to("same")
    days.backup()  # 0
    days.write("grows", b"x" * 1000)
    days.write("sub/comes")
    days.remove("sub/goes")
    days.backup()  # 1
    (days.source / "same").chmod(0o600)
    (days.source / "link").unlink()
    (days.source / "link").symlink_to("grows")
    days.touch(days.source / "link")
    days.backup("full")  # 2
    return days


def differences(days: Days, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    assert days.run("diff", days.url, *words, "--json") == 0
    *lines, last = map(json.loads, days.said.splitlines())
    return {each["path"]: each for each in lines}, last


def test_without_times_the_newest_is_compared_with_the_one_before(days: Days) -> None:
    found, last = differences(days)

    assert {path: each["changed"] for path, each in found.items()} == {".": ["time"], "link": ["target"], "same": ["mode"]}
    assert (days.day_of(last["before"]["time"]), days.day_of(last["after"]["time"])) == (1, 2)
    assert (last["new"], last["changed"], last["deleted"]) == (0, 3, 0)


def test_within_a_chain_new_changed_and_deleted_are_told_apart(days: Days) -> None:
    found, _ = differences(days, f"--from={days.time(0)}", f"--to={days.time(1)}")

    assert {path: each["what"] for path, each in found.items() if path not in (".", "sub")} == {
        "grows": "changed",
        "sub/comes": "new",
        "sub/goes": "deleted",
    }
    assert found["grows"]["changed"] == ["size", "content", "time"]
    assert found["sub/comes"]["before"] is None and found["sub/goes"]["after"] is None


def test_across_chains_nothing_is_said_of_what_is_the_same(days: Days) -> None:
    found, last = differences(days, f"--from={days.time(0)}")

    assert "sub/goes" in found and last["after"]["type"] == "full"
    days.run("diff", days.url, f"--from={days.time(2)}")
    assert days.said.startswith("0 new, 0 changed, 0 deleted from ")


def test_a_content_that_changed_with_its_time_put_back_is_found_by_its_signature(days: Days) -> None:
    path = days.source / "same"
    status = path.stat()
    path.write_bytes(b"CONTENT\n")
    os.utime(path, (status.st_atime, status.st_mtime))
    days.backup("full")

    found, _ = differences(days)

    assert found["same"]["changed"] == ["content"]


def test_time_is_another_word_for_to(days: Days) -> None:
    _, last = differences(days, f"--time={days.time(1)}")

    assert (days.day_of(last["before"]["time"]), days.day_of(last["after"]["time"])) == (0, 1)


def test_a_person_gets_a_line_for_each_and_a_sum(days: Days) -> None:
    assert days.run("diff", days.url) == 0

    assert days.said.splitlines()[:3] == ["changed   .  (time)", "changed   link  (target)", "changed   same  (mode)"]
    assert days.said.splitlines()[3].startswith("0 new, 3 changed, 0 deleted from ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--from=20000101T000000Z"], "no backup is as old"),
        (["--to=1700000000"], "no backup before the one of"),
        (["--from=1700172800", "--to=1700086400"], "is newer than the second"),
    ],
)
def test_times_that_cannot_be_compared_are_named(days: Days, words: list[str], complaint: str) -> None:
    assert days.run("diff", days.url, *words) == 1
    assert complaint in days.complained


def test_a_time_that_is_none_is_wrong_use(days: Days) -> None:
    assert days.run("diff", days.url, "--from=yesterday-ish") == 23
    assert "--from" in days.complained
