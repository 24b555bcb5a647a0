"""Full, incremental and restore through rclone by the command line, four transfers at once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_chain_through_rclone_comes_back_without_the_cache(rclone_environ: dict[str, str], tmp_path: Path) -> None:
    source, url = tmp_path / "source", "rclone://disk:/deeper/place"
    source.mkdir()
    for number in range(5):
        (source / f"file {number}").write_bytes(random.Random(number).randbytes(600_000))

    def run(*words: str, cache: str) -> None:
        ours = [sys.executable, "-m", "asyncdup", *words, "--no-encryption", "--concurrency=4", f"--archive-dir={tmp_path}/{cache}"]
        done = subprocess.run(ours, env=rclone_environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("full", "--volsize=1", str(source), url, cache="a")
    (source / "file 2").write_bytes(b"changed")
    run("incremental", "--volsize=1", str(source), url, cache="a")
    run("restore", url, str(tmp_path / "out"), cache="b")

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    stored = [path.name for path in (tmp_path / "disk/deeper/place").iterdir()]
    assert len(stored) >= 8 and not any(name.startswith(".") for name in stored)
