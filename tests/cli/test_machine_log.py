"""The log for programs, record by record."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from asyncdup.cli.machine_log import MachineLog, control_of, escaped, log_failure
from asyncdup.cli.report import DEBUG, ERROR, INFO, NOTICE, WARNING, PlainScreen, Report
from asyncdup.errors import ChainError, UsageError
from asyncdup.events import EntryDone, Progress, Scanned, SourceCounted, VolumeRead, Warning


def written(text: str, level: int, code: int = 1, extra: str = "") -> str:
    stream = io.StringIO()
    MachineLog([stream]).write(text, level, code=code, extra=extra)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("level", "name"),
    [(ERROR, "ERROR"), (WARNING, "WARNING"), (NOTICE, "NOTICE"), (4, "NOTICE"), (INFO, "INFO"), (8, "INFO"), (DEBUG, "DEBUG")],
)
def test_a_record_begins_with_stocks_name_of_its_level(level: int, name: str) -> None:
    assert written("text", level) == f"{name} 1\n. text\n\n"


def test_a_record_has_a_dot_before_each_line_of_text_and_ends_with_an_empty_one() -> None:
    assert written("one\n\nthree", NOTICE, 3, "extra") == "NOTICE 3 extra\n. one\n. \n. three\n\n"
    assert written("", INFO, 2, "100") == "INFO 2 100\n\n"


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("a b", "'a b'"),
        ("it's", "'it\\x27s'"),
        ("a\\b", "'a\\\\b'"),
        ("é€", "'\\xe9\\u20ac'"),
        ("a\nb", "'a\\nb'"),
        ("\udcff", "'\\udcff'"),
    ],
)
def test_a_name_is_one_word_of_ascii_in_quotes(name: str, extra: str) -> None:
    assert escaped(name) == extra


def test_events_have_the_codes_that_front_ends_know() -> None:
    entries = [EntryDone(what=what, path="p", kind="reg") for what in ("new", "changed", "deleted", "written")]

    assert [control_of(event) for event in entries] == [(4, "'p'"), (5, "'p'"), (6, "'p'"), (7, "'p' reg")]
    assert control_of(Warning(message="m", code=10, path="p")) == (10, "'p'")
    assert control_of(Warning(message="m")) == (1, "")


def report(verbosity: int) -> tuple[Report, io.StringIO, io.StringIO]:
    out, log = io.StringIO(), io.StringIO()
    return Report(PlainScreen(out, out), verbosity=verbosity, logs=MachineLog([log])), out, log


def test_progress_is_for_programs_alone_and_from_info_on() -> None:
    said, out, log = report(INFO)
    for event in (
        Scanned(files=2, bytes=700),
        VolumeRead(number=1, name="v", size=1, total=2),
        VolumeRead(number=1, name="w", size=1, total=2),
    ):
        said.on_event(event)
    quiet, _, silence = report(NOTICE)
    quiet.on_event(Scanned(files=2, bytes=700))

    assert [line for line in log.getvalue().splitlines() if line.startswith("INFO 2")] == ["INFO 2 700", "INFO 2 1 2", "INFO 2 2 2"]
    assert "700" not in out.getvalue()
    assert silence.getvalue() == ""


def test_with_a_counted_source_a_program_is_told_what_stock_tells_it() -> None:
    """Moved, elapsed, per cent, to go, rate, stalled."""
    log = io.StringIO()
    out = io.StringIO()
    said = Report(PlainScreen(out, out, progress_rate=3.0), verbosity=NOTICE, logs=MachineLog([log]))
    said.on_event(SourceCounted(t=100.0, files=4, bytes=4000, full=True))
    said.on_event(Progress(t=101.0, bytes=600))
    said.on_event(Scanned(t=110.0, files=1, bytes=1000))
    said.on_event(Scanned(t=120.0, files=3, bytes=3000))

    assert [line for line in log.getvalue().splitlines() if line.startswith("NOTICE")] == [
        "NOTICE 16 600 10 25 30 67 0",
        "NOTICE 16 600 20 75 7 0 1",
    ]
    assert "3 of 4 files" in out.getvalue()


def test_a_warning_is_one_record_with_its_path() -> None:
    said, _, log = report(NOTICE)
    said.on_event(Warning(message="p could not be read", code=10, path="p"))

    assert log.getvalue() == "WARNING 10 'p'\n. warning: p could not be read\n\n"


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_v2_a_stream_that_takes_no_more_is_left_alone() -> None:
    other = io.StringIO()
    log = MachineLog([Gone(), other])
    log.write("one", NOTICE)
    log.write("two", NOTICE)

    assert other.getvalue() == "NOTICE 1\n. one\n\nNOTICE 1\n. two\n\n"


@pytest.mark.parametrize(
    ("error", "control"),
    [
        (UsageError("no"), "ERROR 23 CommandLineError"),
        (ChainError("no", exit_code=17), "ERROR 17"),
        (RuntimeError("no"), "ERROR 30 RuntimeError"),
    ],
)
@pytest.mark.parametrize("attached", [True, False])
def test_the_last_record_of_a_failed_run_is_its_exit_code(error: Exception, control: str, attached: bool, tmp_path: Path) -> None:
    file = tmp_path / "log"
    words = [f"--log-file={file}"] if attached else ["--log-file", str(file)]
    log_failure(["full", *words, "src"], "what\nhint", error)

    assert file.read_text() == f"{control}\n. what\n. hint\n\n"


@pytest.mark.parametrize("words", [["--log-fd"], ["--log-fd=x"], ["--log-file=/not/there/x"], ["--log-file"], []])
def test_a_failure_whose_log_is_what_is_wrong_is_told_on_standard_error_only(words: list[str]) -> None:
    log_failure(words, "what", UsageError("what"))
