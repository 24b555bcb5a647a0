"""What the searches for counterexamples need. Modules of a test folder are imported by its name: test folders are no packages."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes take most of a small backup's time, and nobody pulls the plug here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Gives folders, in memory if that can be had; all of a test's are gone after it, and the one before when the next is asked for."""
    fast = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(dir=fast if os.access(fast, os.W_OK) and shutil.disk_usage(fast).free > 100 << 20 else tmp_path))
    last: list[Path] = []

    def make() -> Path:
        if last:
            shutil.rmtree(last.pop(), ignore_errors=True)
        last.append(Path(tempfile.mkdtemp(dir=home)))
        return last[0]

    yield make
    shutil.rmtree(home, ignore_errors=True)
