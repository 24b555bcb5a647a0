"""What a person reads: levels, lines, the closing block."""

from __future__ import annotations

import io
import os
import time

import pytest

from asyncdup.archive.statistics import Statistics
from asyncdup.cli.printable import printable
from asyncdup.cli.report import (
    DEBUG,
    ERROR,
    INFO,
    NOTICE,
    WARNING,
    OutputClosed,
    PlainScreen,
    Report,
    duration_text,
    size_text,
    statistics_lines,
    statistics_summary,
)
from asyncdup.events import (
    AttemptFinished,
    EpisodeOpened,
    Event,
    GateChanged,
    LimitChanged,
    Notice,
    Progress,
    RetryScheduled,
    Scanned,
    VolumeMade,
    VolumeRead,
    VolumeStored,
    Warning,
)

EVENTS: tuple[Event, ...] = (
    Notice(message="last full backup: never"),
    Warning(message="permission denied", path="a/b"),
    VolumeMade(number=1, name="vol1", size=2048),
    RetryScheduled(verb="put", name="vol1", delay=1.5, error_class="retry", error="ResetError: reset", why="reset"),
    AttemptFinished(verb="put", name="vol1", outcome="error", bytes=10, seconds=0.5, error="reset"),
    VolumeStored(number=1, name="vol1", size=2048),
    VolumeRead(number=1, name="vol1", size=2048, total=3),
    LimitChanged(old=4, new=2, why="throttled"),
    GateChanged(state="BACKOFF", why="no route"),
    EpisodeOpened(episode="e", error="disk full", resume=("rm f",)),
)


def said(verbosity: int, *events: Event, progress_rate: float | None = None) -> tuple[list[str], list[str]]:
    """Lines on standard output and on standard error."""
    out, err = io.StringIO(), io.StringIO()
    report = Report(PlainScreen(out, err, progress_rate=progress_rate), verbosity=verbosity)
    for event in events:
        report.on_event(event)
    report.end_progress()
    return out.getvalue().splitlines(), err.getvalue().splitlines()


def test_at_verbosity_notice_only_what_matters_is_said() -> None:
    out, err = said(NOTICE, *EVENTS)

    assert out == ["last full backup: never", "warning: a/b: permission denied", "the backend fails, it will be tried again: no route"]
    assert err == ["WAITING for you: disk full; to go on: rm f"]


def test_at_verbosity_info_every_volume_has_its_line() -> None:
    out, _ = said(INFO, *EVENTS)

    assert out[2:6] == [
        "volume 1 made: vol1, 2.0 KiB",
        "put vol1: ResetError: reset; again in 1.5 s",
        "volume 1 stored: vol1, 2.0 KiB",
        "volume 1 of 3 read: vol1, 2.0 KiB",
    ]
    assert "concurrency 4 -> 2: throttled" in out


@pytest.mark.parametrize(("verbosity", "lines"), [(ERROR, 0), (WARNING, 1), (NOTICE, 3), (INFO, 8), (DEBUG, 9)])
def test_each_level_adds_lines_and_errors_are_always_said(verbosity: int, lines: int) -> None:
    out, err = said(verbosity, *EVENTS)

    assert len(out) == lines
    assert len(err) == 1


def test_progress_makes_lines_only_where_asked_and_not_too_often() -> None:
    events = [Scanned(files=number, bytes=number, t=number * 0.1) for number in range(61)]

    assert said(NOTICE, *events) == ([], [])
    assert said(NOTICE, *events, progress_rate=3.0)[0] == ["starting", "30 files, 30 B", "60 files, 60 B"]


def test_many_warnings_are_counted_and_repeated_at_the_end() -> None:
    """P13: what was not stored as it is, is named in the summary."""
    out = io.StringIO()
    report = Report(PlainScreen(out, io.StringIO()))
    for number in range(25):
        report.on_event(Warning(message="unreadable", path=f"f{number}"))
    out.truncate(0)
    out.seek(0)

    report.repeat_warnings()

    lines = out.getvalue().splitlines()
    assert report.warned == 25
    assert (lines[0], lines[1], lines[-1], len(lines)) == ("25 warnings:", "  f0: unreadable", "  and 5 more", 22)


def test_hostile_names_cannot_write_to_the_terminal() -> None:
    out, _ = said(NOTICE, Warning(message="x", path="a\x1b[2J\nroot\u202e\udcff"))

    assert out == ["warning: a\\x1b[2J\\nroot\\u202e\\xff: x"]
    assert printable("grün ✓ 日本") == "grün ✓ 日本"


def test_results_leave_for_a_pipe_byte_for_byte() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape")

    Report(PlainScreen(out, io.StringIO()), verbosity=0).result([os.fsdecode(b"a\xff\x01"), "b"])

    assert raw.getvalue() == b"a\xff\x01\nb\n"


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_ends_a_listing_but_no_backup() -> None:
    report = Report(PlainScreen(Gone(), io.StringIO()))

    report.on_event(Notice(message="x"))

    with pytest.raises(OutputClosed):
        report.result("x")


def test_status_is_one_line() -> None:
    report = Report(PlainScreen(io.StringIO(), io.StringIO()))
    report.on_event(Progress(t=0.0, bytes=1024))

    assert report.status(1.0) == "asyncdup: 1.0 KiB/s"


def test_the_closing_block_is_stocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Format specification, section 21; the text is what duplicity 3.2.1 printed for the same figures."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    statistics = Statistics(
        start_time=1795373748.35,
        end_time=1795373748.36,
        source_files=3,
        source_file_size=3004099,
        new_files=3,
        new_file_size=3004099,
        delta_entries=3,
        raw_delta_size=3000003,
        total_destination_size_change=5844,
    )

    assert "\n".join(statistics_lines(statistics)) == (
        "--------------[ Backup Statistics ]--------------\n"
        "StartTime 1795373748.35 (Sun Nov 22 18:55:48 2026)\n"
        "EndTime 1795373748.36 (Sun Nov 22 18:55:48 2026)\n"
        "ElapsedTime 0.01 (0.01 seconds)\n"
        "SourceFiles 3\n"
        "SourceFileSize 3004099 (2.86 MB)\n"
        "NewFiles 3\n"
        "NewFileSize 3004099 (2.86 MB)\n"
        "DeletedFiles 0\n"
        "ChangedFiles 0\n"
        "ChangedFileSize 0 (0 bytes)\n"
        "ChangedDeltaSize 0 (0 bytes)\n"
        "DeltaEntries 3\n"
        "RawDeltaSize 3000003 (2.86 MB)\n"
        "TotalDestinationSizeChange 5844 (5.71 KB)\n"
        "Errors 0\n"
        "-------------------------------------------------"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.00 KB"),
        (10240, "10.0 KB"),
        (102400, "100 KB"),
        (1048552, "1024 KB"),
        (1048576, "1.00 MB"),
        (5 << 30, "5.00 GB"),
        (3 << 40, "3.00 TB"),
        (3 << 50, "3072 TB"),
        (-2048, "-2.00 KB"),
    ],
)
def test_sizes_read_as_stocks(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (0.004, "0.00 seconds"),
        (1, "1 second"),
        (1.5, "1.50 seconds"),
        (60, "1 minute"),
        (61, "1 minute 1 second"),
        (3661.25, "1 hour 1 minute 1.25 seconds"),
        (90061.5, "25 hours 1 minute 1.50 seconds"),
        (172800, "48 hours"),
    ],
)
def test_durations_read_as_stocks(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            {"source_files": 1200, "new_files": 3, "changed_files": 1, "errors": 2},
            "done: 3 new, 1 changed, 2 NOT READ of 1,200 files and folders; ",
        ),
        ({"source_files": 7}, "done: nothing changed of 7 files and folders; "),
    ],
)
def test_the_closing_line_says_what_was_found_and_stored(counts: dict[str, int], said: str) -> None:
    statistics = Statistics(start_time=100.0, end_time=112.0, total_destination_size_change=3 << 20, **counts)

    assert statistics_summary(statistics) == f"{said}3.0 MiB stored in 12.0s"
