"""A backup says of how many files the format cannot keep all (format specification, section 11), and changes nothing else for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncdup.archive import produce
from tests.commands.days import Days

SAID = "duplicity's format has no place for "


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    days.write("plain")
    return days


def said_of_it(days: Days, *words: str) -> str:
    days.backup("backup", *words)
    return "".join(line.removeprefix(SAID) for line in days.said.splitlines() if line.startswith(SAID))


def test_hard_links_are_told_of_where_they_are_stored(days: Days) -> None:
    for name in ("content", "empty"):
        os.link(days.write(name, name.encode() if name == "content" else b""), days.source / f"{name}-too")

    assert said_of_it(days) == "hard links (4 files, each of which becomes a file of its own)"
    assert said_of_it(days) == ""  # nothing new was stored


def test_attributes_are_told_of_and_labels_that_a_policy_sets_are_not(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"labelled": ["security.selinux"], "acl": ["security.selinux", "system.posix_acl_access"]}
    for name in found:
        days.write(name)
    monkeypatch.setattr(produce, "_list_attributes", lambda handle: found.get(Path(os.readlink(f"/proc/self/fd/{handle}")).name, []))

    assert said_of_it(days) == "extended attributes or ACLs (1 of 3 files looked at)"


def test_a_file_system_without_attributes_has_none(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> list[str]:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(produce, "_list_attributes", refuse)

    assert said_of_it(days) == ""


def test_cron_is_told_nothing(days: Days) -> None:
    os.link(days.source / "plain", days.source / "too")

    assert said_of_it(days, "--verbosity=warning") == ""
    assert (days.said, days.complained) == ("", "")
