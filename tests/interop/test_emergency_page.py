"""The emergency page: its commands, run as typed by stock duplicity's own program."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from interop.stock import Stock

from asyncdup.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "emergency.md"
DAY = 86400


@pytest.mark.interop
@pytest.mark.slow
def test_stock_restores_as_the_emergency_page_says(tmp_path: Path, stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    """P18: everything, as it was two days ago, and one file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    letter = tmp_path / "Documents" / "letters" / "2024"
    letter.parent.mkdir(parents=True)
    for days, text in ((3, "Dear reader,\n"), (1, "Dear reader,\nhello.\n")):
        letter.write_text(text)
        words = [str(tmp_path / "Documents"), f"file://{tmp_path}/backup", "--no-encryption", "-v0"]
        assert main(["backup", *words, f"--current-time={int(time.time()) - days * DAY}"]) == 0
    (commands,) = re.findall(r"^```sh stock\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    path = f"{stock.python.parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-euc", commands], check=True, env={"HOME": str(tmp_path), "PATH": path}, cwd=tmp_path, capture_output=True)

    assert (tmp_path / "all" / "letters" / "2024").read_text() == "Dear reader,\nhello.\n"
    assert (tmp_path / "before" / "letters" / "2024").read_text() == "Dear reader,\n"
    assert (tmp_path / "letter").read_text() == "Dear reader,\nhello.\n"
