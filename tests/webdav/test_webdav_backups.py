"""Full, incremental and restore over WebDAV by the command line, four transfers at once; stock duplicity reads and continues the chain."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
STOCK = Path(os.environ.get("ASYNCDUP_STOCK") or Path(__file__).parents[2] / ".stock" / "bin" / "python").with_name("duplicity")


def run(program: list[str], *words: str, home: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "BACKEND_PASSWORD": "s3cret wörd", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*program, *words, "--no-encryption", f"--archive-dir={home}/cache"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def chain(dav: Any, tmp_path: Path) -> tuple[str, Path]:
    """A full and an incremental backup at the server, and their source."""
    source, ours, url = tmp_path / "source", [sys.executable, "-m", "asyncdup"], f"{dav.url}/deeper/place"
    source.mkdir()
    for number in range(5):
        (source / f"file {number}").write_bytes(random.Random(number).randbytes(600_000))
    run(ours, "full", "--concurrency=4", "--volsize=1", str(source), url, home=tmp_path / "a")
    (source / "file 2").write_bytes(b"changed")
    (source / "new").write_bytes(random.Random(7).randbytes(200_000))
    run(ours, "incremental", "--concurrency=4", "--volsize=1", str(source), url, home=tmp_path / "a")
    stored = [path.name for path in (dav.folder / "target/deeper/place").iterdir()]
    assert len(stored) >= 8 and not any(name.startswith(".") for name in stored)
    return url, source


def test_a_chain_over_webdav_comes_back_without_the_cache(chain: tuple[str, Path], tmp_path: Path) -> None:
    url, source = chain
    run([sys.executable, "-m", "asyncdup"], "restore", "--concurrency=4", url, str(tmp_path / "out"), home=tmp_path / "b")
    assert contents(tmp_path / "out") == contents(source)


@pytest.mark.interop
def test_stock_restores_and_continues_a_chain_over_webdav(chain: tuple[str, Path], tmp_path: Path) -> None:
    if not STOCK.exists():
        if os.environ.get("CI"):
            pytest.fail("stock duplicity is not here")
        pytest.skip("stock duplicity 3.2.1 is not here: ASYNCDUP_STOCK may name a python that has it")
    url, source = chain

    run([str(STOCK)], "restore", url, str(tmp_path / "out"), home=tmp_path / "c")

    assert contents(tmp_path / "out") == contents(source)
    (source / "later").write_bytes(b"later")
    run([str(STOCK)], "incremental", "--allow-source-mismatch", str(source), url, home=tmp_path / "c")
    run([sys.executable, "-m", "asyncdup"], "restore", url, str(tmp_path / "again"), home=tmp_path / "d")
    assert contents(tmp_path / "again") == contents(source)
