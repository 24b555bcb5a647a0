"""The progress line of a terminal, on a fake one."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

from asyncdup.cli.report import NOTICE, Report
from asyncdup.cli.report_terminal import TerminalScreen
from asyncdup.events import EpisodeOpened, GateChanged, Notice, Scanned, Warning

PLAIN: Mapping[str, str] = {"TERM": "xterm-256color", "NO_COLOR": "1"}
COLOURED: Mapping[str, str] = {"TERM": "xterm-256color"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(out: io.StringIO, err: io.StringIO, environ: Mapping[str, str] = PLAIN) -> TerminalScreen:
    return TerminalScreen(out, err, environ=environ, width=60)


def test_the_line_is_drawn_over_itself_and_gone_at_the_end() -> None:
    terminal = Terminal()
    report = Report(screen(terminal, terminal))

    report.on_event(Scanned(files=1, bytes=1, t=0.0))
    report.on_event(Scanned(files=2, bytes=2, t=0.1))  # too soon for another redraw
    report.on_event(Notice(message="hello", t=0.15))
    report.on_event(Scanned(files=3, bytes=3, t=0.3))
    report.end_progress()

    text = terminal.getvalue()
    assert "1 file, 1 B" in text and "3 files, 3 B" in text
    assert "2 files" not in text
    assert "hello\n" in text
    assert text.endswith("\x1b[2K")  # the last thing is that the line is erased
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there


def test_the_cursor_is_never_left_hidden() -> None:
    """A third Ctrl-C ends the process without any clean-up (X4)."""
    terminal = Terminal()
    report = Report(screen(terminal, terminal))

    report.on_event(Scanned(files=1, bytes=1))

    text = terminal.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    report.end_progress()


@pytest.mark.parametrize(("environ", "coloured"), [(PLAIN, False), (COLOURED, True)])
def test_no_color_is_respected(environ: Mapping[str, str], coloured: bool) -> None:
    terminal = Terminal()

    Report(screen(terminal, terminal, environ)).line("warned", 2)

    assert ("\x1b[33m" in terminal.getvalue()) is coloured


def test_a_long_line_is_cut_but_a_wait_is_told_whole() -> None:
    terminal = Terminal()
    report = Report(screen(terminal, terminal), verbosity=NOTICE)

    report._screen.show("x" * 200, waiting=False)
    assert "x" * 61 not in terminal.getvalue()

    report.on_event(
        EpisodeOpened(
            episode="e", error="disk full", hint="make room on the server", resume=("rm /some/long/path/of/a/flag", "kill -USR1 1")
        )
    )
    report.end_progress()

    lines = terminal.getvalue().splitlines()
    assert any(line.endswith("  rm /some/long/path/of/a/flag") for line in lines) and any(line.endswith("  kill -USR1 1") for line in lines)
    assert any("WAITING for you: disk full (make room on the server)" in line for line in lines)


def test_a_wait_is_on_the_progress_line_at_once() -> None:
    """N4: the line was drawn a moment ago, and would be due only later."""
    terminal = Terminal()
    report = Report(screen(terminal, terminal), verbosity=NOTICE)
    report.on_event(GateChanged(state="BACKOFF", why="Connection refused", lane="l", t=1.0))
    assert "retrying: Connection refused" in terminal.getvalue()

    report.on_event(EpisodeOpened(episode="e", error="disk full", resume=("rm f",), lane="l", t=1.01))

    assert "WAITING for you (to go on: rm f): disk full" in terminal.getvalue()
    report.end_progress()


def test_output_that_is_piped_stays_clean_while_the_line_is_on_the_other_stream() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    report = Report(screen(pipe, terminal))

    report.on_event(Scanned(files=1, bytes=1))
    report.result("a listed name")
    report.on_event(Warning(message="careful"))
    report.end_progress()

    assert pipe.getvalue() == "a listed name\nwarning: careful\n"
    assert "1 file" in terminal.getvalue()


def test_errors_reach_a_redirected_standard_error_as_plain_lines() -> None:
    terminal, log = Terminal(), io.StringIO()
    report = Report(screen(terminal, log))

    report.on_event(EpisodeOpened(episode="e", error="disk full"))
    report.end_progress()

    assert log.getvalue() == "WAITING for you: disk full\n"


def test_names_cannot_steer_the_terminal() -> None:
    terminal = Terminal()

    Report(screen(terminal, terminal)).result("a\x1b[2Jb\udcff[red]")

    assert terminal.getvalue() == "a\\x1b[2Jb\\xff[red]\n"
