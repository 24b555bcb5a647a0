"""V4: the run's figures for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asyncdup.events import (
    AttemptFinished,
    EpisodeClosed,
    EpisodeOpened,
    Event,
    JobStarted,
    RetryScheduled,
    Unblocked,
    VolumeStored,
    Warning,
)
from asyncdup.observe.prometheus import Metrics, write_metrics

RUN: tuple[Event, ...] = (
    JobStarted(t=1.0, action="full", source='/a "b"\n', target="sftp://nas/c"),
    AttemptFinished(t=2.0, verb="put", name="v", outcome="error", bytes=5),
    RetryScheduled(t=2.0, verb="put", name="v", delay=1.0, error_class="retry", error="reset"),
    AttemptFinished(t=4.0, verb="put", name="v", outcome="ok", bytes=70),
    VolumeStored(t=4.0, number=1, name="v", size=70),
    EpisodeOpened(t=5.0, episode="e", error="full"),
    EpisodeClosed(t=8.0, episode="e", by="api", waited=3.0),
    Unblocked(t=8.0, what="gate", seconds=3.5),
    Unblocked(t=8.0, what="spool", seconds=9.0),
    Warning(t=9.0, message="unreadable"),
)
_LINE = re.compile(r'(?:# (?:HELP|TYPE) [a-z_]+ .+|[a-z_]+\{(?:[a-z]+="(?:[^"\\\n]|\\[\\n"])*",?)+\} [0-9.]+)')


def metrics(events: tuple[Event, ...] = RUN) -> Metrics:
    heard = Metrics("full")
    for event in events:
        heard(event)
    return heard


def values(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0].removeprefix("asyncdup_").removeprefix("last_run_")
            outcome = re.search(r'outcome="(\w+)"', line)
            found[f"{name} {outcome[1]}" if outcome else name] = float(line.rpartition(" ")[2])
    return found


def test_the_file_has_the_figures_of_the_run() -> None:
    assert values(metrics().text(exit_code=0, now=1.7e9)) == {
        "timestamp_seconds": 1.7e9, "last_success_timestamp_seconds": 1.7e9, "exit_code": 0, "duration_seconds": 8.0, "moved_bytes": 75,
        "volumes": 1, "volume_bytes": 70, "attempts ok": 1, "attempts error": 1, "attempts cancelled": 0, "retries": 1, "episodes": 1,
        "waited_seconds": 3.0, "gate_closed_seconds": 3.5, "warnings": 1,
    }  # fmt: skip


def test_every_line_is_of_the_text_format() -> None:
    text = metrics().text(exit_code=62, now=1.5)

    assert text.endswith("\n")
    assert [line for line in text.splitlines() if not _LINE.fullmatch(line)] == []
    assert 'source="/a \\"b\\"\\n"' in text
    names = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names))


def test_a_failed_run_keeps_the_time_of_the_last_success(tmp_path: Path) -> None:
    path = tmp_path / "asyncdup.prom"

    write_metrics(path, metrics(), exit_code=0, now=100.25)
    write_metrics(path, metrics(), exit_code=50, now=200.0)
    write_metrics(path, Metrics("full"), exit_code=23, now=300.0)

    found = values(path.read_text())
    assert (found["last_success_timestamp_seconds"], found["timestamp_seconds"], found["exit_code"]) == (100.25, 300.0, 23)


def test_without_any_success_there_is_no_time_of_one(tmp_path: Path) -> None:
    path = tmp_path / "asyncdup.prom"
    path.write_bytes(b"\xff garbage asyncdup_last_success_timestamp_seconds{} 1e1e\n")

    write_metrics(path, metrics(), exit_code=50, now=200.0)

    assert "last_success_timestamp_seconds" not in values(path.read_text())


def test_a_collector_may_read_it_and_never_sees_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "asyncdup.prom"
    path.write_text("old")
    before = path.open()

    write_metrics(path, metrics(), exit_code=0, now=1.0)

    assert before.read() == "old"  # replaced, not written over
    before.close()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["asyncdup.prom"]


def test_where_it_cannot_be_put_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "asyncdup.prom").mkdir()

    with pytest.raises(OSError):
        write_metrics(tmp_path / "asyncdup.prom", metrics(), exit_code=0, now=1.0)

    assert [each.name for each in tmp_path.iterdir()] == ["asyncdup.prom"]
