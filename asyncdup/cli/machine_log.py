"""stock duplicity's log for programs (``--log-fd``, ``--log-file``): what front ends such as Déjà Dup read.

A record is a control line, ``LEVEL CODE [EXTRA]``, then the text for a person with ``. `` before each line, then an empty line. Source: format
specification, section 21, and runs of duplicity 3.2.1. Records are for the verbosity that was asked for, as there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from asyncdup.cli.settings import Settings
from asyncdup.errors import UsageError, exit_code_of
from asyncdup.events import EntryDone, Event, Warning
from asyncdup.observe.tally import Tally

GENERIC: Final = 1
PROGRESS: Final = 2  # extra: bytes of the source, or volumes so far and volumes in all
STATUS: Final = 3
FILE_LIST: Final = 10  # extra: time, path, type
UPLOAD_PROGRESS: Final = 16  # extra: of upload_progress

_ENTRY: Final = {"new": 4, "changed": 5, "deleted": 6, "written": 7}
_LEVELS: Final = ((9, "DEBUG"), (5, "INFO"), (3, "NOTICE"), (1, "WARNING"))
_USAGE, _UNEXPECTED = 23, 30
_OPTIONS: Final = ("--log-fd", "--log-file")


class MachineLog:
    """Writes records to ``streams``. One that takes no more is left alone: no backup ends because a front end did (V2)."""

    def __init__(self, streams: Sequence[TextIO]) -> None:
        self._streams = list(streams)

    def write(self, text: str, level: int, *, code: int = GENERIC, extra: str = "") -> None:
        """One record, flushed. ``text`` may have several lines, or none at all. Never raises."""
        name = next((name for least, name in _LEVELS if level >= least), "ERROR")
        control = f"{name} {code} {extra}" if extra else f"{name} {code}"
        lines = "".join(f". {line}\n" for line in text.split("\n")) if text else ""
        for stream in tuple(self._streams):
            try:
                stream.write(f"{control}\n{lines}\n")
                stream.flush()
            except (OSError, ValueError):
                self._streams.remove(stream)


@contextmanager
def open_machine_log(settings: Settings) -> Iterator[MachineLog | None]:
    """The log that was asked for, if any. Raises UsageError for what cannot be written to."""
    streams = []
    try:
        if settings.log_fd is not None:
            streams.append(_opened(settings.log_fd))
        if settings.log_file is not None:
            streams.append(_opened(settings.log_file))
        yield MachineLog(streams) if streams else None
    finally:
        for stream in streams:
            _close(stream)


def control_of(event: Event) -> tuple[int, str]:
    """Code and extra of what ``event`` says."""
    match event:
        case Warning():
            return event.code, escaped(event.path) if event.path else ""
        case EntryDone():
            return _ENTRY[event.what], escaped(event.path) + (f" {event.kind}" if event.what == "written" else "")
        case _:
            return GENERIC, ""


def upload_progress(tally: Tally, now: float) -> str:
    """Bytes moved, seconds so far, per cent, seconds to go, bytes/s, and 1 if nothing moves; "" while it is not known how long it takes.

    Source: observed, duplicity 3.2.1 with ``--progress``, which says it of incrementals, too: it looks for their changes twice.
    """
    share, remaining = tally.share(), tally.remaining(now)
    if share is None or remaining is None:
        return ""
    rate = tally.rate(now)
    return f"{tally.moved} {tally.elapsed(now):.0f} {share * 100:.0f} {remaining:.0f} {rate:.0f} {int(not rate)}"


def escaped(name: str) -> str:
    """A name as an extra: in single quotes, with Python's escapes for what is not printable ASCII (observed: duplicity 3.2.1).

    A byte that is no UTF-8 is a lone surrogate, ``\\udcff``; of such a name stock writes no record at all.
    """
    text = name.encode("unicode_escape").decode("ascii").replace("'", "\\x27")
    return f"'{text}'"


def log_failure(words: Sequence[str], message: str, error: BaseException) -> None:
    """The record of the error that ends the program. The command line may be what is wrong, so it is only looked through for the two options."""
    for name, value in _asked(words):
        try:
            stream = _opened(int(value) if name == "--log-fd" else value)
        except (UsageError, ValueError):
            continue
        code = exit_code_of(error)
        extra = {_USAGE: "CommandLineError", _UNEXPECTED: type(error).__name__}.get(code, "")
        MachineLog([stream]).write(message, 0, code=code, extra=extra)
        _close(stream)


def _asked(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name in _OPTIONS:
            yield name, value if equals else following


def _opened(where: int | str) -> TextIO:
    """A file descriptor that the caller has opened for us, and that stays open; or a file, for its owner only, that grows."""
    option = "--log-fd" if isinstance(where, int) else "--log-file"
    try:
        if isinstance(where, str):
            where = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            return open(where, "w", encoding="utf-8", errors="backslashreplace")
        return open(where, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    except OSError as error:
        raise UsageError(f"{option}: {where}: {error.strerror}", hint="name something that can be written to") from error


def _close(stream: TextIO) -> None:
    try:
        stream.close()
    except OSError:  # what it still held was for a reader that is gone
        return
