from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncdup.cli.main import main


@pytest.mark.slow
def test_the_status_as_json_has_chains_and_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, url = tmp_path / "source", f"file://{tmp_path}/target"
    source.mkdir()
    for day in range(2):
        (source / str(day)).write_text("x")
        assert main(["backup", str(source), url, "--no-encryption", "-v0", f"--current-time={1_700_000_000 + day * 86400}"]) == 0
    capsys.readouterr()

    assert main(["collection-status", url, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    (chain,) = found["chains"]
    assert [(each["type"], each["time"], each["volumes"], each["encrypted"]) for each in chain["sets"]] == [
        ("full", "2023-11-14T22:13:20Z", 1, False),
        ("incremental", "2023-11-15T22:13:20Z", 1, False),
    ]
    assert all(each["size"] > 0 for each in chain["sets"])
    assert (chain["newest"], chain["defects"], found["warnings"]) == (True, [], [])
