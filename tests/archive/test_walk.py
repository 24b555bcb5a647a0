"""The walk: order, what is in an entry, what is left out and reported, where it starts, what it holds open."""

from __future__ import annotations

import errno
import gc
import grp
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.archive import handles
from asyncdup.archive.selection import Decision
from asyncdup.archive.walk import LONGEST_PATH, Found, Walker
from asyncdup.errors import UsageError
from asyncdup.events import Warning
from asyncdup.formats.tar import CHR, DIR, FIFO, REG, SYM, key

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the superuser")


class Rules:
    """A selection by a table; what is not in it is included."""

    def __init__(self, **decisions: Decision) -> None:
        self.decisions = {os.fsencode(path): decision for path, decision in decisions.items()}
        self.asked: list[bytes] = []
        self.mtimes: dict[bytes, int | None] = {}

    def decide(self, path: bytes, is_dir: bool, mtime: int | None = None) -> Decision:
        self.asked.append(path)
        self.mtimes[path] = mtime
        return self.decisions.get(path, Decision.INCLUDE)


def walk(root: Path, **options: object) -> Walker:
    options.setdefault("on_warning", lambda warning: pytest.fail(warning.message))
    return Walker(os.fsencode(root), **options)  # type: ignore[arg-type]


def paths(root: Path, **options: object) -> list[bytes]:
    return [found.entry.path for found in walk(root, **options)]


def tree(root: Path, *names: str) -> Path:
    """Files of these names, folders where a name ends with a slash."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
    return root


@pytest.fixture
def open_handles() -> Iterator[Callable[[], int]]:
    """Counts handles opened since; checks that the test leaves none."""
    gc.collect()  # what earlier tests left to the collector must not be closed while this one counts
    before = len(os.listdir("/proc/self/fd"))
    yield lambda: len(os.listdir("/proc/self/fd")) - before
    assert len(os.listdir("/proc/self/fd")) <= before


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the superuser's rights."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


# Order and entries.


def test_order_is_that_of_path_components_as_bytes_and_parents_come_first(tmp_path: Path) -> None:
    """Format specification, section 1: the example of the text."""
    tree(tmp_path, "sort/B", "sort/a/", "sort/a b", "sort/a-dir/x", "sort/a.b")

    assert paths(tmp_path) == [b"", b"sort", b"sort/B", b"sort/a", b"sort/a b", b"sort/a-dir", b"sort/a-dir/x", b"sort/a.b"]


def test_names_that_are_not_utf8_sort_by_their_bytes(tmp_path: Path) -> None:
    names = [b"bad-\xff", b"bad-\x80", "ü".encode(), "\ue000".encode(), "\U00010000".encode(), b"new\nline", b"z"]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()

    assert paths(tmp_path) == [b"", *sorted(names)]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.sampled_from("ab -."), min_size=1, max_size=3).map("".join).filter(lambda s: s.strip(".")), max_size=8))
def test_order_equals_the_order_of_keys(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    for index, name in enumerate(names):
        (root / "/".join(names[max(0, index - 2) : index] + [name])).mkdir(parents=True, exist_ok=True)

    found = paths(root)

    assert found == sorted(found, key=key)
    assert len(found) == 1 + sum(len(folders) for _, folders, _ in os.walk(root))


def test_an_entry_says_what_lstat_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o4750)
    os.utime(tmp_path / "file", (5, 7))
    os.symlink(b"some\xff/where", os.fsencode(tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")

    root, file, link, pipe = walk(tmp_path)

    status = os.lstat(tmp_path / "file")
    assert root.entry.kind == DIR and root.entry.size == 0
    assert file.entry.kind == REG and file.stat.st_ino == status.st_ino
    assert (file.entry.mode, file.entry.size, file.entry.mtime) == (0o4750, 5, 7)
    assert (file.entry.uid, file.entry.gid) == (status.st_uid, status.st_gid)
    assert link.entry.kind == SYM and link.entry.link == b"some\xff/where"
    assert pipe.entry.kind == FIFO


@needs_root
def test_devices_have_their_numbers_and_can_be_left_out(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(tmp_path / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 0))

    assert [(found.entry.kind, found.entry.dev) for found in walk(tmp_path)][1:] == [(b"4", (7, 0)), (CHR, (1, 3))]
    assert paths(tmp_path, exclude_device_files=True) == [b""]


@pytest.mark.parametrize(
    ("nanoseconds", "seconds"), [(1_500_000_000_999_999_999, 1_500_000_001), (1_500_000_000_900_000_000, 1_500_000_000), (-5, 0)]
)
def test_mtime_is_rounded_as_duplicity_does(tmp_path: Path, nanoseconds: int, seconds: int) -> None:
    """Format specification, section 5."""
    os.utime(tmp_path, ns=(0, nanoseconds))

    assert next(walk(tmp_path)).entry.mtime == seconds


def test_owner_names_are_those_of_this_host_unless_numeric(tmp_path: Path) -> None:
    status = os.stat(tmp_path)

    entry = next(walk(tmp_path)).entry

    assert entry.uname == pwd.getpwuid(status.st_uid).pw_name.encode()
    assert entry.gname == grp.getgrgid(status.st_gid).gr_name.encode()
    assert next(walk(tmp_path, numeric=True)).entry[7:9] == (b"", b"")


@needs_root
def test_an_owner_without_a_name_has_an_empty_one(tmp_path: Path) -> None:
    os.chown(tmp_path, 3_000_000, 3_000_001)

    entry = next(walk(tmp_path)).entry

    assert entry[3:5] == (3_000_000, 3_000_001)
    assert entry[7:9] == (b"", b"")


# The root.


def test_a_single_file_is_the_root_entry_and_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    walker = walk(tmp_path / "file")

    (found,) = walker

    assert found.entry.path == b"" and found.entry.kind == REG
    handle = walker.open(found)
    assert os.read(handle, 100) == b"content"
    os.close(handle)


def test_a_root_that_is_a_symlink_is_followed_but_no_other(tmp_path: Path) -> None:
    tree(tmp_path / "real", "inside")
    (tmp_path / "real/loop").symlink_to("..")
    (tmp_path / "root").symlink_to("real")

    assert paths(tmp_path / "root") == [b"", b"inside", b"loop"]


def test_a_root_that_cannot_be_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="neither a folder nor a regular file"):
        list(walk(tmp_path / "pipe"))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        list(walk(tmp_path / "missing"))


# What is left out.


def test_sockets_are_left_out_without_a_warning_and_counted(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        handle = os.open(tmp_path, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{handle}/socket")  # the name of a socket must be short
        os.close(handle)
    walker = walk(tmp_path)

    assert [found.entry.path for found in walker] == [b""]
    assert walker.sockets == 1 and walker.errors == 0


def test_an_excluded_folder_is_not_entered(tmp_path: Path) -> None:
    tree(tmp_path, "a/in", "b/in", "c")
    rules = Rules(a=Decision.EXCLUDE, c=Decision.EXCLUDE)

    assert paths(tmp_path, selection=rules) == [b"", b"b", b"b/in"]
    assert b"a/in" not in rules.asked


def test_a_selection_hears_the_time_of_regular_files_only(tmp_path: Path) -> None:
    """Format specification, section 25: ``--exclude-older-than`` is for regular files."""
    tree(tmp_path, "a/", "b")
    os.utime(tmp_path / "b", (1, 77))
    rules = Rules()

    paths(tmp_path, selection=rules)

    assert rules.mtimes == {b"a": None, b"b": 77}


def test_a_scanned_folder_comes_only_with_something_in_it(tmp_path: Path) -> None:
    """Format specification, section 25: folders that might hold a match are written only when something inside is."""
    tree(tmp_path, "a/x/y/keep", "a/z", "b/no", "c/d/", "e")
    rules = Rules(
        **{"a": Decision.SCAN, "a/x": Decision.SCAN, "a/x/y": Decision.SCAN, "a/z": Decision.EXCLUDE},
        **{"b": Decision.SCAN, "b/no": Decision.EXCLUDE, "c": Decision.SCAN, "c/d": Decision.SCAN},
    )

    assert paths(tmp_path, selection=rules) == [b"", b"a", b"a/x", b"a/x/y", b"a/x/y/keep", b"e"]


def test_a_folder_with_the_mark_is_left_out_altogether(tmp_path: Path) -> None:
    tree(tmp_path, "a/.nobackup", "a/x", "b/x", "b/deep/.nobackup")

    assert paths(tmp_path, skip_if_present=[b".nobackup"]) == [b"", b"b", b"b/x"]


def test_a_mark_in_the_root_leaves_out_nothing_as_in_stock(tmp_path: Path) -> None:
    tree(tmp_path, ".nobackup", "x")
    warnings: list[Warning] = []

    assert paths(tmp_path, skip_if_present=[b".nobackup"], on_warning=warnings.append) == [b"", b".nobackup", b"x"]
    assert warnings == []


def test_other_filesystems_are_left_out_with_their_mount_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "mnt/x", "own/x")
    inode = os.stat(tmp_path / "mnt").st_ino
    real = os.stat

    def elsewhere(*args: object, **options: object) -> os.stat_result:
        status = real(*args, **options)  # type: ignore[arg-type]
        return os.stat_result((*status[:2], 99, *status[3:])) if status.st_ino == inode else status

    monkeypatch.setattr(os, "stat", elsewhere)

    assert paths(tmp_path, one_filesystem=True) == [b"", b"own", b"own/x"]
    assert b"mnt/x" in paths(tmp_path)


def test_a_path_that_no_archive_can_hold_is_reported(tmp_path: Path) -> None:
    """P9: names are at most 4096 bytes, those of members included."""
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir("n" * 250, dir_fd=handle)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    warnings: list[Warning] = []

    found = paths(tmp_path, on_warning=warnings.append)

    assert max(map(len, found)) <= LONGEST_PATH
    assert len(found) == 17 and len(warnings) == 1 and "too long" in warnings[0].message


# What goes wrong (P13).


def test_what_vanishes_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    """P13."""
    tree(tmp_path, "a", "b", "c")
    warnings: list[Warning] = []
    walker = walk(tmp_path, on_warning=warnings.append)
    next(walker)
    (tmp_path / "b").unlink()

    assert [found.entry.path for found in walker] == [b"a", b"c"]
    assert walker.errors == 1
    assert (warnings[0].code, warnings[0].path) == (10, "b") and "vanished" in warnings[0].message


def test_an_excluded_path_that_cannot_be_looked_at_is_no_problem(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    walker = walk(tmp_path, selection=Rules(b=Decision.EXCLUDE))
    next(walker)
    (tmp_path / "b").unlink()

    assert [found.entry.path for found in walker] == [b"a"]
    assert walker.errors == 0


@needs_root
def test_an_unreadable_folder_is_left_out_and_reported() -> None:
    warnings: list[Warning] = []
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: another user must be able to come here
        root = tree(Path(folder), "closed/x", "open/x", "names-only/x")
        for name, mode in (("", 0o755), ("closed", 0o700), ("names-only", 0o744)):
            (root / name).chmod(mode)
        with as_nobody():
            walker = walk(root, on_warning=warnings.append)
            assert [found.entry.path for found in walker] == [b"", b"names-only", b"open", b"open/x"]

    assert [warning.path for warning in warnings] == ["closed", "names-only/x"] and walker.errors == 2
    assert "Permission denied" in warnings[0].message


@pytest.mark.parametrize("swapped_for", ["symlink", "fifo", "file"])
def test_a_file_that_was_swapped_is_not_opened(tmp_path: Path, swapped_for: str) -> None:
    """P13: no symlink is followed, no fifo waited for, no other file read under its name."""
    tree(tmp_path, "file", "other")
    walker = walk(tmp_path)
    found = next(found for found in walker if found.entry.path == b"file")
    (tmp_path / "file").rename(tmp_path / "moved")
    if swapped_for == "symlink":
        (tmp_path / "file").symlink_to("other")
    elif swapped_for == "fifo":
        os.mkfifo(tmp_path / "file")
    else:
        (tmp_path / "file").write_bytes(b"another")

    with pytest.raises(OSError) as caught:
        walker.open(found)
    walker.close()
    assert (caught.value.errno == errno.ELOOP) is (swapped_for == "symlink")  # what a symlink leads to is not even looked at


def test_a_folder_that_was_swapped_for_a_symlink_is_not_entered(tmp_path: Path) -> None:
    """P13."""
    tree(tmp_path / "tree", "a", "folder/x")
    tree(tmp_path / "secret", "x")
    warnings: list[Warning] = []
    walker = walk(tmp_path / "tree", on_warning=warnings.append)
    real = walker._look

    def swap(name: bytes, path: bytes) -> Found | None:
        found = real(name, path)
        if path == b"folder":
            (tmp_path / "tree/folder").rename(tmp_path / "tree/moved")
            (tmp_path / "tree/folder").symlink_to(tmp_path / "secret")
        return found

    walker._look = swap  # type: ignore[method-assign]

    assert [found.entry.path for found in walker] == [b"", b"a"]
    assert [warning.path for warning in warnings] == ["folder"]


# Where it starts (P2).

RESUMED = ["a/x", "b/c/d", "b/c/e/f", "b/c.d", "b/g", "c"]


@pytest.mark.parametrize(
    "start", [b"", b"a", b"a/x", b"b", b"b/c/d", b"b/c/e", b"b/c/dd", b"b/c/e/f", b"b/c.d/never", b"b/z/x", b"c", b"d"]
)
def test_a_walk_can_start_at_or_after_any_path_there_or_gone(tmp_path: Path, start: bytes) -> None:
    """P2: what comes before is not looked at, and nothing is given out twice or left out."""
    tree(tmp_path, *RESUMED)
    everything = paths(tmp_path)

    assert paths(tmp_path, start_at=start) == [path for path in everything if key(path) >= key(start)]
    assert paths(tmp_path, start_after=start) == [path for path in everything if key(path) > key(start)]


def test_a_start_that_became_a_file_is_passed(tmp_path: Path) -> None:
    """P2: a name below it is not mistaken for the same name beside it."""
    tree(tmp_path, "a", "b", "x/b")

    assert paths(tmp_path, start_at=b"a/b") == [b"b", b"x", b"x/b"]


def test_starting_late_looks_at_no_name_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *(f"{name}/file" for name in "abcdefgh"))
    looked = 0
    real = os.stat

    def count(*args: object, **options: object) -> os.stat_result:
        nonlocal looked
        looked += 1
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", count)

    assert paths(tmp_path, start_after=b"g/file") == [b"h", b"h/file"]
    assert looked == 5  # root, g, g/file, h, h/file


# What it holds open.


def test_a_tree_deeper_than_the_handles_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_handles: Callable[[], int]) -> None:
    """P9: the number of open handles does not depend on the tree."""
    monkeypatch.setattr(handles, "MAX_OPEN", 5)
    tree(tmp_path, "/".join("d" * 40) + "/file", "d/d/d/z/y", "z")
    most = 0
    found = []

    walker = walk(tmp_path)
    for each in walker:
        most = max(most, open_handles())
        found.append(each.entry.path)
        if each.entry.kind == REG:
            os.close(walker.open(each))

    assert found == [
        b"",
        *(b"/".join([b"d"] * n) for n in range(1, 41)),
        b"/".join([b"d"] * 40 + [b"file"]),
        b"d/d/d/z",
        b"d/d/d/z/y",
        b"z",
    ]
    assert most == 5


def test_a_tree_moved_while_it_is_walked_ends_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: on the way up the folder above must be the one that was left."""
    monkeypatch.setattr(handles, "MAX_OPEN", 2)
    tree(tmp_path / "tree", "a/b/c/d/e", "a/b/z", "z")
    tree(tmp_path / "elsewhere", "secret")
    warnings: list[Warning] = []
    found = []

    for each in walk(tmp_path / "tree", on_warning=warnings.append):
        found.append(each.entry.path)
        if each.entry.path == b"a/b/c/d":
            (tmp_path / "tree/a/b/c").rename(tmp_path / "elsewhere/c")

    assert found == [b"", b"a", b"a/b", b"a/b/c", b"a/b/c/d", b"a/b/c/d/e"]
    assert warnings and all("moved" in warning.message for warning in warnings)


def test_a_walk_that_is_given_up_closes_its_handles(tmp_path: Path, open_handles: Callable[[], int]) -> None:
    tree(tmp_path, "a/b/c/d")

    with walk(tmp_path) as walker:
        for found in walker:
            if found.entry.path == b"a/b/c":
                break
        assert open_handles() == 4
