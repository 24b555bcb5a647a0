"""The benchmarks run: no time is looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_local_benchmarks_run_on_a_tiny_tree(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--scale=0.0005", "--rounds=1", "--stock=none", "--only=full-mixed,restore-mixed", f"--work={tmp_path}", f"--json={report}"]

    done = subprocess.run([sys.executable, "-m", "benchmarks.local", *words], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "| restore-mixed: restore of it |" in done.stdout
    assert [case["name"] for case in json.loads(report.read_text())["cases"]] == ["full-mixed", "restore-mixed"]
    assert list(tmp_path.iterdir()) == [report]
