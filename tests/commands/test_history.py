"""``asyncdup history URL PATH``: what happened to a path in which backup, from signature archives alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncdup.formats.names import format_time
from tests.commands.days import Days


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    """letters/one: new, changed, gone, back as another one, as it is in a new chain, gone with the next chain."""
    days = Days(tmp_path, capfdbinary)
    days.write("letters/one", b"x" * 600)
    days.write("other")
    days.backup()  # 0
    days.write("letters/one", b"y" * 600, mode=0o600)
    days.backup()  # 1
    days.remove("letters/one")
    days.backup()  # 2
    days.write("letters/one", b"")
    days.backup()  # 3
    days.backup("full")  # 4
    days.remove("letters/one")
    days.backup("full")  # 5
    return days


def versions(days: Days, path: str = "letters/one") -> list[tuple[int, str]]:
    assert days.run("history", days.url, path, "--json") == 0
    return [(days.day_of(each["backup"]["time"]), each["what"]) for each in json.loads(days.said)["versions"]]


def test_each_change_is_a_version_over_all_chains(days: Days) -> None:
    assert versions(days) == [(0, "new"), (1, "changed"), (2, "deleted"), (3, "new"), (5, "deleted")]
    assert versions(days, "other") == [(0, "new")]


def test_a_folder_has_versions_too_and_the_root(days: Days) -> None:
    assert [what for _, what in versions(days, "letters/")] == ["new", "changed", "changed", "changed", "changed"]
    assert versions(days, ".")[0] == (0, "new")


def test_json_has_time_mode_and_the_size_up_to_a_block(days: Days) -> None:
    days.run("history", days.url, "letters/one", "--json")

    record = json.loads(days.said)
    first, second, gone, empty, _ = record["versions"]
    assert (record["v"], record["path"], record["backups"]) == (1, "letters/one", 6)
    assert (first["backup"]["type"], first["mode"], first["mtime"]) == ("full", "0644", "2023-11-14T21:13:20Z")
    assert (first["size_min"], first["size_max"]) == (513, 1024)
    assert (second["backup"]["type"], second["mode"]) == ("incremental", "0600")
    assert "mtime" not in gone
    assert (empty["size_min"], empty["size_max"]) == (0, 0)


def test_a_person_gets_a_table(days: Days) -> None:
    assert days.run("history", days.url, "letters/one") == 0

    lines = days.said.splitlines()
    assert lines[0] == "letters/one: 5 versions in 6 backups"
    assert [line.split()[5] for line in lines[2:]] == ["new", "changed", "deleted", "new", "deleted"]
    assert "-rw-r--r--           <= 1,024" in lines[2] and "-rw-------" in lines[3]


def test_no_volume_is_read(days: Days) -> None:
    for volume in days.target.glob("*difftar*"):
        volume.write_bytes(b"")

    assert len(versions(days)) == 5


def test_a_path_that_was_never_there_is_an_error(days: Days) -> None:
    assert days.run("history", days.url, "letters/two") == 19
    assert "letters/two is in none of 6 backups" in days.complained


def test_a_backup_without_its_signature_archive_is_named_and_left_out(days: Days) -> None:
    (lost,) = [path for path in days.target.glob("*new-signatures*") if f"to.{format_time(days.time(2))}" in path.name]
    lost.unlink()

    assert days.run("history", days.url, "letters/one") == 62
    assert "what that backup did is not known" in days.said
    assert "5 backups" in days.said


def test_a_damaged_signature_archive_is_no_history(days: Days, tmp_path: Path) -> None:
    """P4: from the target, since the local copy is whole."""
    (sigtar, *_) = days.target.glob("*full-signatures*")
    sigtar.write_bytes(sigtar.read_bytes()[:-20])

    assert days.run("history", days.url, "letters/one", "--name=afresh") == 30
    assert sigtar.name in days.complained


def test_an_empty_target_has_none(days: Days, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert days.run("history", f"file://{tmp_path / 'empty'}", "other") == 1
    assert "there is no complete backup" in days.complained
