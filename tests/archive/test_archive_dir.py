"""The archive folder: one writer, whole files, nothing for others to read."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from asyncdup.archive.archive_dir import ArchiveDir, default_base, folder_name
from asyncdup.errors import LockedError


def test_a_second_run_in_the_process_is_refused_and_does_not_break_the_first(tmp_path: Path) -> None:
    """P10: closing another descriptor of a file drops the process's POSIX locks on it, so the second run must not even open it."""
    first, second = ArchiveDir(tmp_path, "n"), ArchiveDir(tmp_path, "n")
    first.lock()

    with pytest.raises(LockedError, match="another run"):
        second.lock()

    assert not lockable_elsewhere(tmp_path / "n" / "lockfile")
    first.unlock()
    second.lock()
    second.unlock()


def test_the_lock_holds_against_another_process_and_ends_with_the_run(tmp_path: Path) -> None:
    """P10."""
    folder = ArchiveDir(tmp_path, "n")
    folder.lock()
    assert not lockable_elsewhere(tmp_path / "n" / "lockfile")

    folder.unlock()

    assert lockable_elsewhere(tmp_path / "n" / "lockfile")


def test_the_lock_of_another_process_is_reported(tmp_path: Path) -> None:
    """P10: exit code 23, as stock duplicity's."""
    folder = ArchiveDir(tmp_path, "n")
    folder.create()
    with open(tmp_path / "n" / "lockfile", "w") as file, locked_by_child(file.name), pytest.raises(LockedError) as caught:
        folder.lock()

    assert caught.value.exit_code == 23


class locked_by_child:
    """Another process holds the lock."""

    def __init__(self, path: str) -> None:
        code = f"import fcntl,sys; f=open({path!r},'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
        self.child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> None:
        assert self.child.stdout is not None and self.child.stdout.readline() == b"held\n"

    def __exit__(self, *_: object) -> None:
        self.child.communicate()


def lockable_elsewhere(path: Path) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            descriptor = os.open(path, os.O_RDWR)
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_folders_are_0700_and_files_0600_whatever_the_umask(tmp_path: Path) -> None:
    """P15."""
    before = os.umask(0)
    try:
        folder = ArchiveDir(tmp_path / "base", "n")
        folder.create()
        folder.write("m", b"x")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "base" / "n").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "base" / "n" / "m").stat().st_mode) == 0o600


def test_a_file_is_the_owners_only_from_its_first_byte_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: before it has its name, too."""
    modes: list[int] = []
    folder = ArchiveDir(tmp_path, "n")
    folder.create()
    monkeypatch.setattr(ArchiveDir, "adopt", lambda self, temporary, name: modes.append(stat.S_IMODE(temporary.stat().st_mode)))

    folder.write("m", b"x")

    assert modes == [0o600]


def test_a_failed_write_leaves_the_old_file_and_sweep_removes_the_rest(tmp_path: Path) -> None:
    """P6."""
    folder = ArchiveDir(tmp_path, "n")
    folder.create()
    folder.write("m", b"old")
    folder.temporary("m").write_bytes(b"half of the n")

    assert folder.read("m") == b"old"
    folder.sweep()
    assert folder.names() == ["m"]


def test_names_of_a_folder_that_is_not_there() -> None:
    assert ArchiveDir(Path("/nonexistent"), "n").names() == []


def test_the_folder_is_where_stock_duplicity_looks() -> None:
    """Format, section 12: the MD5 of the URL as given (observed: duplicity 3.2.1)."""
    assert default_base({"XDG_CACHE_HOME": "/c"}) == Path("/c/duplicity")
    assert default_base({"HOME": "/h"}) == Path("/h/.cache/duplicity")
    assert folder_name("file:///tmp/x") == "a5daeb7eabdc8706e28c62e2eb9ff0e1"
