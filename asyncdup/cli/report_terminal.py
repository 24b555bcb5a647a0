"""The screen of a terminal: lines above, one progress line below them, drawn by rich. Imported only where there is a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from asyncdup.cli.printable import printable
from asyncdup.cli.report import WARNING, put_line


class TerminalScreen:
    """Draws on the terminal behind standard error, else on that behind standard output. No colours where NO_COLOR is set.

    Redraws happen when they are asked for, in the caller's task; rich's refreshing thread is not used. What goes to a stream that is no
    terminal is written there as plain lines.
    """

    interval = 0.25

    def __init__(self, out: TextIO, err: TextIO, *, environ: Mapping[str, str], width: int | None = None) -> None:
        self._out = out
        self._err = err
        self._console = Console(
            file=err if err.isatty() else out,
            no_color=bool(environ.get("NO_COLOR")),
            width=width,
            highlight=False,
            markup=False,
            emoji=False,
            _environ=environ,
        )
        self._live: Live | None = None

    def write(self, text: str, level: int, block: Sequence[str] = ()) -> None:
        style = "red" if level <= 1 else "yellow" if level <= WARNING else ""
        stream = self._err if level <= 1 else self._out
        for line in block if block and stream.isatty() else (text,):
            self._line(stream, printable(line), style)

    def result(self, text: str) -> None:
        self._line(self._out, printable(text) if self._out.isatty() else text, "")

    def show(self, text: str, *, waiting: bool) -> None:
        line = Text(
            printable(text), style="bold yellow" if waiting else "", no_wrap=not waiting, overflow="fold" if waiting else "ellipsis"
        )
        if self._live is None:
            self._live = Live(line, console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
            self._console.show_cursor(True)  # rich hides it, and a third Ctrl-C leaves no time to bring it back
        self._live.update(line, refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, stream: TextIO, text: str, style: str) -> None:
        if stream.isatty():
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            put_line(stream, text)
