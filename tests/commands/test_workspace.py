"""The private folder of a run: gone afterwards; that of a dead run is swept by the next one, that of a live run never."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from asyncdup.commands.workspace import PREFIX, workspace
from asyncdup.errors import AsyncdupError

HOLD = """
import sys, time
from pathlib import Path
from asyncdup.commands.workspace import workspace
with workspace(Path(sys.argv[1])) as path:
    (path / "volume").write_bytes(b"data")
    print(path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that has one, with a file in it."""
    return subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)


def test_it_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    """P15."""
    before = os.umask(0)
    try:
        with workspace(tmp_path) as path:
            (path / "folder").mkdir()
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert path.parent == tmp_path
    finally:
        os.umask(before)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_that_of_a_dead_run_is_swept_and_that_of_a_live_one_is_not(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())

        with workspace(tmp_path):
            assert (theirs / "volume").exists()
        other.kill()
        other.wait()
        assert theirs.exists()

        with workspace(tmp_path) as path:
            assert list(tmp_path.iterdir()) == [path]


def test_what_only_looks_like_one_is_left_alone(tmp_path: Path) -> None:
    """A file, and a link to somebody's folder."""
    (tmp_path / (PREFIX + "file")).write_bytes(b"")
    (tmp_path / "precious").mkdir()
    (tmp_path / (PREFIX + "link")).symlink_to("precious")

    with workspace(tmp_path):
        pass

    assert (tmp_path / "precious").exists()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_one_that_is_swept_before_it_is_locked_is_made_again(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run, which begins at the same time, takes it for a dead one's."""
    swept: list[Path] = []
    mkdtemp, flock = tempfile.mkdtemp, fcntl.flock

    def made(**how: Any) -> str:
        path = mkdtemp(**how)
        if moment == "before it is opened" and not swept:
            swept.append(Path(path))
            os.rmdir(path)
        return path

    def locked(descriptor: int, how: int) -> None:
        if moment == "before it is locked" and not swept:
            swept.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
            os.rmdir(swept[0])
        flock(descriptor, how)

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    monkeypatch.setattr(fcntl, "flock", locked)

    with workspace(tmp_path) as path:
        assert path.is_dir() and swept and path != swept[0]


def test_a_parent_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    """X6: exit code 30, as stock's."""
    with (
        pytest.raises(AsyncdupError, match="no temporary files can be made in .*/gone: No such file or directory") as caught,
        workspace(tmp_path / "gone"),
    ):
        pass

    assert caught.value.exit_code == 30 and "--tempdir" in str(caught.value.hint)
