"""The benchmarks of backends run: no time is looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_benchmarks_of_backends_run_with_few_objects(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--scale=0.01", "--rounds=1", "--only=asyncdup file", f"--work={tmp_path}", f"--json={report}"]

    done = subprocess.run([sys.executable, "-m", "benchmarks.backends", *words], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "objects of 8 MiB" in done.stdout and "| asyncdup file |" in done.stdout
    cells = json.loads(report.read_text())["cells"]
    assert len(cells) == 3 * 3 * 2, "sizes, flights, put and get"
    assert all(cell["cpu"] > 0 and cell["bytes"] >= cell["size"] for cell in cells)
    assert list(tmp_path.iterdir()) == [report]
