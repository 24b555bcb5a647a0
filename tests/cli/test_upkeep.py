"""The commands that look after a target, by the command line: what they say, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdup.archive.lock import Holder
from asyncdup.cli.main import main

pytestmark = pytest.mark.realtime

START, DAY = 1_700_000_000, 86_400
Run = Callable[..., int]


@pytest.fixture
def asyncdup(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``asyncdup WORDS URL`` a number of days after the start; the exit code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(b"content")

    def run(*words: str, day: int = 30, **_: object) -> int:
        capsys.readouterr()
        return main(
            [*words, f"file://{tmp_path}/target", "--no-encryption", f"--tempdir={tmp_path}", f"--current-time={START + day * DAY}"]
        )

    for day, action in ((0, "full"), (1, "incremental"), (10, "full"), (20, "full")):
        assert run(action, str(tmp_path / "source"), day=day) == 0
    return run


def manifests(tmp_path: Path) -> int:
    return len(list((tmp_path / "target").glob("*.manifest")))


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["remove-older-than", "15D"], 1),  # both older chains ended before day 15
        (["ro", "25D"], 2),
        (["remove-all-but-n-full", "1"], 1),
        (["ra", "2"], 2),
        (["remove-all-inc-of-but-n-full", "1"], 3),
        (["remove-older-than", "2023-11-14"], 4),
    ],
)
def test_removals_list_and_with_force_delete(
    words: list[str], left: int, asyncdup: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asyncdup(*words) == 0
    listed = capsys.readouterr().out
    assert manifests(tmp_path) == 4
    assert asyncdup(*words, "--force") == 0
    done = capsys.readouterr().out

    assert manifests(tmp_path) == left
    if left == 4:
        assert "No old backup sets found, nothing deleted." in listed
    else:
        assert "Would be deleted:" in listed and "--force" in listed
        assert "Deleted:" in done and "Would" not in done


@pytest.mark.parametrize("count", ["0", "x", "1.5", "99999999999999999999"])
def test_a_count_that_is_none_is_wrong_use(count: str, asyncdup: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncdup("remove-all-but-n-full", count, "--force") == 23
    assert "whole number" in capsys.readouterr().err
    assert manifests(tmp_path) == 4


def test_check_says_what_it_found_to_people_and_programs(asyncdup: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncdup("check", "--read-data") == 0
    assert "No damage found." in capsys.readouterr().out
    volume = min((tmp_path / "target").glob("*vol1*"))
    volume.write_bytes(b"x")

    assert asyncdup("check") == 0
    assert asyncdup("check", "--read-data") == 21
    assert f"DAMAGE: {volume.name}" in capsys.readouterr().out
    assert asyncdup("check", "--sample=100%", "--json") == 21
    assert json.loads(capsys.readouterr().out)["findings"][0]["name"] == volume.name


def test_a_lock_is_shown_and_refuses_until_it_is_removed(asyncdup: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = float(START + 30 * DAY)
    lock = tmp_path / "target/asyncdup-lock-01"
    lock.write_bytes(Holder(host="elsewhere", pid=7, command="full", started=now - 60, refreshed=now).encode())

    assert asyncdup("cleanup", "--force") == 23
    assert "locked by full on elsewhere (process 7, begun 1m00s ago)" in capsys.readouterr().err
    assert asyncdup("unlock") == 0
    assert "Locked by full on elsewhere" in capsys.readouterr().out
    assert asyncdup("unlock", "--force") == 0
    assert not lock.exists()
    assert asyncdup("cleanup", "--force") == 0
    assert "No extraneous files found" in capsys.readouterr().out
