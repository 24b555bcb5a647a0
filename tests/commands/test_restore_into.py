"""Restoring into a tree that is there: what is replaced, what is kept, and that nothing else is touched (P3, P7, P8); several paths at once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.commands.conftest import tree
from tests.commands.days import Days


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    days.write("a", b"archived a")
    days.write("b", b"archived b")
    days.write("sub/c", b"archived c")
    days.write("sub/deep/d", b"archived d")
    (days.source / "link").symlink_to("a")
    days.touch(days.source / "link")
    days.backup()
    return days


@pytest.fixture
def there(tmp_path: Path, days: Days) -> Path:
    """A tree with an older ``a``, a newer ``b``, a folder ``sub`` with a mode of its own, and things that are in no archive."""
    there = tmp_path / "there"
    (there / "sub").mkdir(parents=True)
    (there / "mine").write_text("mine")
    (there / "sub" / "mine").write_text("mine, too")
    archived = days.time(0) - 3600
    for name, age in (("a", -1), ("b", 1)):
        (there / name).write_text(f"present {name}")
        os.utime(there / name, (archived + age, archived + age))
    os.utime(there / "mine", (5, 5))
    (there / "sub").chmod(0o750)
    return there


def restore(days: Days, there: Path, *words: str) -> int:
    return days.run("restore", days.url, str(there), *words)


@pytest.mark.parametrize(
    ("rule", "a", "b", "count"),
    [
        ("never", b"present a", b"present b", "0 were replaced, 2 kept"),
        ("older", b"archived a", b"present b", "1 were replaced, 1 kept"),
        ("always", b"archived a", b"archived b", "2 were replaced, 0 kept"),
    ],
)
def test_each_rule_replaces_what_it_says_and_touches_nothing_that_is_not_in_the_backup(
    days: Days, there: Path, rule: str, a: bytes, b: bytes, count: str
) -> None:
    assert restore(days, there, f"--overwrite={rule}") == 0, days.complained

    found = tree(there)
    assert (found["a"], found["b"], found["sub/c"], found["sub/deep/d"]) == (a, b, b"archived c", b"archived d")
    assert (found["mine"], found["sub/mine"], found["link"]) == (b"mine", b"mine, too", "-> a")
    assert (there / "mine").stat().st_mtime == 5
    assert f"of what was there already {count}" in days.said


@pytest.mark.parametrize(("rule", "mode"), [("never", 0o750), ("older", 0o750), ("always", 0o755)])
def test_a_folder_that_is_there_gets_the_archived_attributes_only_with_always(days: Days, there: Path, rule: str, mode: int) -> None:
    assert restore(days, there, f"--overwrite={rule}") == 0

    assert stat.S_IMODE((there / "sub").stat().st_mode) == mode
    assert stat.S_IMODE((there / "sub" / "deep").stat().st_mode) == stat.S_IMODE((days.source / "sub" / "deep").stat().st_mode)


def test_without_a_rule_a_tree_that_is_there_is_refused_and_the_way_named(days: Days, there: Path) -> None:
    before = tree(there)

    assert restore(days, there) == 11
    assert "--overwrite=never, older or always" in days.complained
    assert tree(there) == before


def test_force_is_always_unless_a_rule_is_given(days: Days, there: Path) -> None:
    assert restore(days, there, "--force", "--overwrite=never") == 0
    assert (there / "a").read_bytes() == b"present a"
    assert restore(days, there, "--force") == 0
    assert (there / "a").read_bytes() == b"archived a"


@pytest.mark.parametrize("rule", ["never", "older", "always"])
def test_a_symlink_in_the_tree_is_never_a_way_out_of_it(days: Days, there: Path, tmp_path: Path, rule: str) -> None:
    """P7: as a parent it is refused or replaced; as a file it is replaced or kept, not written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (outside / "deep").mkdir()
    (there / "sub" / "mine").unlink()
    (there / "sub").rmdir()
    (there / "sub").symlink_to(outside)
    (there / "a").unlink()
    (there / "a").symlink_to(outside / "victim")
    for link in ("sub", "a"):
        os.utime(there / link, (1, 1), follow_symlinks=False)

    code = restore(days, there, f"--overwrite={rule}")

    assert tree(outside) == {"victim": b"untouched", "deep": "folder"}
    if rule == "never":
        assert code == 30 and "sub/c: not restored" in days.said
        assert (there / "sub").is_symlink() and (there / "a").is_symlink()
    else:
        assert code == 0
        assert (there / "sub" / "c").read_bytes() == b"archived c" and not (there / "a").is_symlink()


@pytest.mark.parametrize(("rule", "code"), [("never", 0), ("always", 30)])
def test_a_folder_where_a_file_should_be_stays_and_is_told_of(days: Days, there: Path, rule: str, code: int) -> None:
    """P3: kept as asked for, or named as what could not be restored; never emptied."""
    (there / "a").unlink()
    (there / "a").mkdir()
    (there / "a" / "inside").write_text("precious")

    assert restore(days, there, f"--overwrite={rule}") == code
    assert tree(there / "a") == {"inside": b"precious"}
    assert ("a: not restored" in days.said) is (code == 30)
    assert not [path for path in there.iterdir() if path.name.startswith(".asyncdup-")]


def test_read_only_files_and_folders_are_replaced_and_written_into(days: Days, there: Path) -> None:
    (there / "a").chmod(0o400)
    (there / "sub").chmod(0o500)

    assert restore(days, there, "--overwrite=always") == 0
    assert (there / "a").read_bytes() == b"archived a" and (there / "sub" / "c").read_bytes() == b"archived c"


def test_a_second_restore_with_older_replaces_nothing(days: Days, there: Path) -> None:
    restore(days, there, "--overwrite=always")
    restore(days, there, "--overwrite=older")

    assert "0 were replaced, 4 kept" not in days.said  # files are kept, the symlink is one of them
    assert "0 were replaced, 5 kept" in days.said


def test_a_single_file_follows_the_rule_too(days: Days, there: Path) -> None:
    assert restore(days, there / "b", "--path-to-restore=b", "--overwrite=older") == 0
    assert (there / "b").read_bytes() == b"present b"
    assert restore(days, there / "b", "--path-to-restore=b", "--overwrite=always") == 0
    assert (there / "b").read_bytes() == b"archived b"


def test_another_rule_is_wrong_use(days: Days, there: Path) -> None:
    assert restore(days, there, "--overwrite=sometimes") == 23
    assert "never, older, always" in days.complained


def test_several_paths_go_to_their_own_places(days: Days, tmp_path: Path) -> None:
    new = tmp_path / "new"

    assert restore(days, new, "-r", "sub/deep", "-r", "b", "-r", "sub/deep/d") == 0
    assert tree(new) == {"b": b"archived b", "sub": "folder", "sub/deep": "folder", "sub/deep/d": b"archived d"}
    assert (new / "sub" / "deep").stat().st_mtime == (days.source / "sub" / "deep").stat().st_mtime


def test_one_path_becomes_the_target_as_ever(days: Days, tmp_path: Path) -> None:
    assert restore(days, tmp_path / "new", "-r", "sub/deep/") == 0
    assert tree(tmp_path / "new") == {"d": b"archived d"}


def test_of_several_paths_those_that_are_not_there_are_named_and_the_others_restored(days: Days, tmp_path: Path) -> None:
    assert restore(days, tmp_path / "new", "-r", "b", "-r", "nothing", "-r", "sub/none") == 19
    assert "nothing and sub/none are not in the backup" in days.complained
    assert tree(tmp_path / "new") == {"b": b"archived b"}


def test_several_paths_into_a_tree_never_pass_a_symlink(days: Days, there: Path, tmp_path: Path) -> None:
    """P7: the folders above a path are not in what is restored, so nothing may take their place."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (there / "sub" / "mine").unlink()
    (there / "sub").rmdir()
    (there / "sub").symlink_to(outside)

    assert restore(days, there, "-r", "a", "-r", "sub/c", "--overwrite=always") == 30
    assert tree(outside) == {} and (there / "a").read_bytes() == b"archived a"


def test_verify_takes_one_path(days: Days) -> None:
    assert days.run("verify", days.url, str(days.source / "a"), "-r", "a", "-r", "b") == 23
    assert "one path" in days.complained
