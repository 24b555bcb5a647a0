"""What the crash tests need. Modules of other test folders are imported by their folder's name: test folders are no packages."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from interop.stock import Stock, find_python


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """Stock duplicity 3.2.1, once a worker."""
    python = find_python(TESTS.parent, os.environ)
    if python is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("stock duplicity 3.2.1 is not here: see tests/interop")
    program = Stock(python, tmp_path_factory.mktemp("stock"))
    yield program
    program.close()


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes take most of a small backup's time, and nobody pulls the plug here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that is none, if there is one."""
    fast = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=fast if os.access(fast, os.W_OK) and shutil.disk_usage(fast).free > 100 << 20 else tmp_path)
    yield Path(folder)
    shutil.rmtree(folder)
