"""A restore of one large volume over S3 asks for it in ranges side by side (O7), by the command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3.conftest import Place

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

_SIZE = 40 << 20  # random bytes, so that the volume is as large


def asyncdup(place: Place, folder: Path, *words: str) -> None:
    common = ["--archive-dir", str(folder / "cache"), "--tempdir", str(folder), "--s3-endpoint-url", place.endpoint, "--concurrency=4"]
    done = subprocess.run(
        [sys.executable, "-m", "asyncdup", *words, *common],
        env={"PATH": os.environ["PATH"], **place.environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_restore_of_one_large_volume_fetches_it_in_ranges(weed_place: Place, tmp_path: Path) -> None:
    source, target, log = tmp_path / "source", tmp_path / "restored", tmp_path / "log.json"
    source.mkdir()
    data = random.Random(6).randbytes(_SIZE)
    (source / "large").write_bytes(data)
    asyncdup(weed_place, tmp_path, "full", str(source), weed_place.url, "--no-encryption", "--volsize=200")

    asyncdup(weed_place, tmp_path, "restore", weed_place.url, str(target), "--no-encryption", f"--log-json={log}")

    assert (target / "large").read_bytes() == data
    events = [json.loads(line) for line in log.read_text().splitlines()]
    ended = [event for event in events if event.get("event") == "AttemptFinished" and event["verb"] == "range"]
    assert {event["outcome"] for event in ended} <= {"ok", "cancelled"}, "on a slow machine one may be asked for twice"
    right = [event["bytes"] for event in ended if event["outcome"] == "ok"]
    assert len(right) >= 4 and sum(right) >= _SIZE
