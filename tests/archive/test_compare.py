"""Comparing a tree with an archive: what is a difference, and the words for it."""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from asyncdup.archive.compare import TreeComparer
from asyncdup.archive.walk import Walker
from asyncdup.formats.tar import DIR, REG, SYM, Entry

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the superuser")


def archived(root: Path) -> list[tuple[Entry, bytes]]:
    """What a backup of ``root`` would hold."""
    found = []
    walker = Walker(os.fsencode(root), on_warning=lambda warning: pytest.fail(warning.message))
    for each in walker:
        content = b""
        if each.entry.kind == REG:
            handle = walker.open(each)
            content = os.read(handle, 1 << 20)
            os.close(handle)
        found.append((each.entry, content))
    return found


def compare(root: Path, archive: Iterable[tuple[Entry, bytes]], *, compare_data: bool = True, piece: int = 7) -> tuple[list[str], int]:
    """Lines without what they begin with, and the number of entries compared."""
    lines: list[str] = []
    walker = Walker(os.fsencode(root), on_warning=lambda warning: None)
    comparer = TreeComparer(walker, compare_data=compare_data, on_difference=lambda found: lines.append(found.line))
    for entry, content in archive:
        if entry.kind == REG:
            file = comparer.file(entry)
            for at in range(0, len(content), piece):
                file.write(content[at : at + piece])
            file.close()
        else:
            comparer.simple(entry)
    comparer.finish()
    assert comparer.differences == len(lines)
    assert all(line.startswith("Difference found: ") for line in lines)
    return [line.removeprefix("Difference found: ") for line in lines], comparer.compared


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("data", "empty", "mode", "mtime", "folder/inside", "tofolder", "gone/inside", "z"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"" if name == "empty" else b"content of " + name.encode())
    (root / "link").symlink_to("x")
    os.mkfifo(root / "pipe")
    for path in (*root.rglob("*"), root):
        if not path.is_symlink():
            os.utime(path, (5, 5))
    return root


def keep_time(path: Path) -> None:
    os.utime(path, (5, 5))


def test_an_unchanged_tree_has_no_difference(tree: Path) -> None:
    archive = archived(tree)

    assert compare(tree, archive) == ([], len(archive))


def test_each_kind_of_difference_is_named_as_duplicity_does(tree: Path) -> None:
    """Format specification, section 18. Observed: duplicity 3.2.1, verify --compare-data; one line for a path, parts of a lost folder each."""
    archive = archived(tree)
    (tree / "data").write_bytes(b"CONTENT of data")
    (tree / "mode").chmod(0o600)
    (tree / "mtime").write_bytes(b"other, but only the time is named")
    os.utime(tree / "mtime", (1_500_000_000, 1_500_000_000))
    (tree / "tofolder").unlink()
    (tree / "tofolder/new").mkdir(parents=True)
    (tree / "gone/inside").unlink()
    (tree / "gone").rmdir()
    (tree / "link").unlink()
    (tree / "link").symlink_to("y")
    (tree / "aaa").touch()
    for path in (tree, tree / "data", tree / "mode"):
        keep_time(path)
    uid, gid = os.geteuid(), os.getegid()

    lines, compared = compare(tree, archive)

    assert [line for line in lines if "mtime" not in line] == [
        "New file aaa",
        "Data for file data is different",
        "File gone is missing",
        "File gone/inside is missing",
        "Symlink link points to y, expected x",
        f"File mode has permissions {uid}:{gid} 600, expected {uid}:{gid} 644",
        "File tofolder has type dir, expected reg",
        "New file tofolder/new",
    ]
    now, then = (time.asctime(time.localtime(mtime)) for mtime in (1_500_000_000, 5))
    assert [line for line in lines if "mtime" in line] == [f"File mtime has mtime {now}, expected {then}"]
    assert compared == len(archive) + 2


@pytest.mark.parametrize("content", [b"content of dat", b"content of data!", b"", b"Content of data", b"content of datA"])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_any_other_content_is_found_whatever_the_pieces(tree: Path, content: bytes, piece: int) -> None:
    archive = archived(tree)
    (tree / "data").write_bytes(content)
    keep_time(tree / "data")

    assert compare(tree, archive, piece=piece)[0] == ["Data for file data is different"]
    assert compare(tree, archive, compare_data=False)[0] == []


def test_short_reads_are_gone_on_with(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archived(tree)
    real = os.read
    monkeypatch.setattr(os, "read", lambda handle, size: real(handle, min(size, 2)))

    assert compare(tree, archive)[0] == []


def test_a_file_that_cannot_be_read_is_a_difference(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archived(tree)

    def broken(handle: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", broken)

    lines, _ = compare(tree, archive)
    assert "File data could not be read: Input/output error" in lines


def test_an_archive_and_a_tree_of_nothing_in_common(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    keep_time(tmp_path / "other")
    (tmp_path / "other").chmod(stat.S_IMODE(tree.stat().st_mode))

    lines, _ = compare(tmp_path / "other", archived(tree))

    assert [line for line in lines if not line.endswith("is missing")] == []
    lines, _ = compare(tree, archived(tmp_path / "other"))
    assert [line for line in lines if not line.startswith("New file")] == []


def test_a_single_file_is_compared_under_the_name_of_the_root(tree: Path) -> None:
    archive = archived(tree / "data")
    (tree / "data").write_bytes(b"x")
    keep_time(tree / "data")

    assert compare(tree / "data", archive) == (["Data for file . is different"], 1)


def test_a_folder_where_a_file_was_archived(tree: Path) -> None:
    assert compare(tree / "folder", archived(tree / "data"))[0] == ["File . has type dir, expected reg", "New file inside"]


def test_an_aborted_file_gives_no_line_of_its_own(tree: Path) -> None:
    """P3: that the archive cannot give it was reported already."""
    lines: list[str] = []
    before = len(os.listdir("/proc/self/fd"))
    comparer = TreeComparer(
        Walker(os.fsencode(tree), on_warning=print), compare_data=True, on_difference=lambda found: lines.append(found.line)
    )
    for entry, _ in archived(tree):
        if entry.kind == REG:
            file = comparer.file(entry)
            file.write(b"wrong")
            file.abort()
        else:
            comparer.simple(entry)
    comparer.finish()

    assert lines == [] and len(os.listdir("/proc/self/fd")) <= before


def test_a_file_swapped_for_a_symlink_meanwhile_is_not_read(tree: Path) -> None:
    """P13."""
    lines: list[str] = []
    archive = archived(tree)
    walker = Walker(os.fsencode(tree), on_warning=print)
    comparer = TreeComparer(walker, compare_data=True, on_difference=lambda found: lines.append(found.line))
    real = walker.open

    def swap(found: object) -> int:
        (tree / "data").unlink(missing_ok=True)
        (tree / "data").symlink_to("z")
        return real(found)  # type: ignore[arg-type]

    walker.open = swap  # type: ignore[method-assign, assignment]
    for entry, content in archive[:2]:
        if entry.kind == REG:
            file = comparer.file(entry)
            file.write(content)
            file.close()
        else:
            comparer.simple(entry)
    walker.close()

    assert len(lines) == 1 and "data could not be read" in lines[0]


@needs_root
def test_owners_are_compared_by_name_where_known(tree: Path) -> None:
    archive = [
        (entry._replace(uid=4711, uname=pwd.getpwuid(0).pw_name.encode()) if entry.path == b"data" else entry, content)
        for entry, content in archived(tree)
    ]

    assert compare(tree, archive)[0] == []
    os.chown(tree / "data", 5, 0)
    assert compare(tree, archive)[0] == ["File data has permissions 5:0 644, expected 0:0 644"]


@needs_root
def test_devices_are_compared_by_number(tree: Path) -> None:
    os.mknod(tree / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    keep_time(tree)
    archive = archived(tree)
    (tree / "null").unlink()
    os.mknod(tree / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    keep_time(tree)

    assert compare(tree, archive)[0] == ["Device file null has numbers (1, 5), expected (1, 3)"]


@pytest.mark.parametrize("mtime", [2**70, -5])
def test_impossible_archived_values_are_differences_not_errors(tmp_path: Path, mtime: int) -> None:
    """P3: an archive may hold any number."""
    (tmp_path / "a").touch()
    keep_time(tmp_path / "a")
    os.utime(tmp_path, (5, 5))
    root, (file, _) = archived(tmp_path)

    lines, _ = compare(tmp_path, [root, (file._replace(mtime=mtime, uid=-7, uname=b""), b"")])
    assert len(lines) == 1 and "permissions" in lines[0]
    lines, _ = compare(tmp_path, [root, (file._replace(mtime=mtime), b"")])
    assert len(lines) == 1 and "mtime" in lines[0]


def test_times_before_the_epoch_are_equal(tmp_path: Path) -> None:
    """Format specification, section 11: two mtimes <= 0 are equal."""
    os.utime(tmp_path, (-9, -9))
    ((root, content),) = archived(tmp_path)

    assert root.kind == DIR and root.mtime == 0
    assert compare(tmp_path, [(root._replace(mtime=-3), content)])[0] == []


def test_the_time_of_a_symlink_does_not_count(tree: Path) -> None:
    archive = [(entry._replace(mtime=1, mode=0o700) if entry.kind == SYM else entry, content) for entry, content in archived(tree)]

    assert compare(tree, archive)[0] == []
