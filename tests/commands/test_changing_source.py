"""P13 from end to end: what changes while it is read is named, counted once for each file, in the exit code, and looked at again next time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdup.archive.walk import Found, Walker
from asyncdup.cli.main import main

Happens = Callable[[Path], None]


def vanish(path: Path) -> None:
    path.unlink()


def refuse(path: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def shrink(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    for name in ("first", "second", "third"):
        (root / name).write_bytes(name.encode() * 1000)
        os.utime(root / name, (1_500_000_000, 1_500_000_000))
    return root


def run(tmp_path: Path, *words: str) -> int:
    common = ["--no-encryption", "--archive-dir", str(tmp_path / "cache"), "--name", "c", "--tempdir", str(tmp_path)]
    return main([*words, *common])


@pytest.mark.parametrize("happens", [vanish, refuse, grow, shrink])
def test_a_file_that_changes_is_named_once_and_makes_62(
    tmp_path: Path, source: Path, happens: Happens, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Walker.open

    def meddle(walker: Walker, found: Found) -> int:
        if found.entry.path == b"second":
            happens(source / "second")
        return real(walker, found)

    with monkeypatch.context() as patch:
        patch.setattr(Walker, "open", meddle)
        code = run(tmp_path, "full", str(source), f"file://{tmp_path / 'target'}")

    out = capsys.readouterr().out
    assert code == 62
    assert "Errors 1\n" in out
    assert 1 <= out.count("/second ") + out.count(" second ") + out.count("\nsecond ") <= 2  # at once, and again at the end

    assert run(tmp_path, "incremental", str(source), f"file://{tmp_path / 'target'}", "--current-time", "4000000000") == 0
    assert run(tmp_path, "restore", f"file://{tmp_path / 'target'}", str(tmp_path / "restored")) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "restored").iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }


def test_a_backup_without_trouble_is_0(tmp_path: Path, source: Path) -> None:
    assert run(tmp_path, "full", str(source), f"file://{tmp_path / 'target'}") == 0
