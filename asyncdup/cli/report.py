"""Events and results -> what a person reads. The only place that prints, besides the one line of an error in ``main``.

Levels are stock's: 0 error, 2 warning, 3 notice, 5 info, 9 debug; up to 1 on standard error, the others on standard output (format
specification, section 21). Where the lines go, and whether there is a progress line below them, is the business of a ``Screen``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol, TextIO

from asyncdup.archive.statistics import Statistics
from asyncdup.cli.machine_log import GENERIC, PROGRESS, UPLOAD_PROGRESS, MachineLog, control_of, upload_progress
from asyncdup.cli.printable import printable
from asyncdup.cli.progress import describe, describe_wait, wait_lines
from asyncdup.errors import AsyncdupError, exit_code_of
from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    EntryDone,
    EpisodeClosed,
    EpisodeContinues,
    EpisodeOpened,
    Event,
    GateChanged,
    HedgeDenied,
    HedgeStarted,
    HedgeWon,
    JobStarted,
    LimitChanged,
    Notice,
    OpFailed,
    Reconciled,
    RetryScheduled,
    Scanned,
    VolumeMade,
    VolumeRead,
    VolumeStored,
    Warning,
)
from asyncdup.observe.tally import Tally
from asyncdup.units import format_duration, format_local_time, format_size

ERROR, WARNING, NOTICE, INFO, DEBUG = 0, 2, 3, 5, 9
_NAMES = ((DEBUG, "DEBUG"), (INFO, "INFO"), (NOTICE, "NOTICE"), (WARNING, "WARNING"), (ERROR, "ERROR"))
_MARKS = {"new": "A", "changed": "M", "deleted": "D"}  # stock's
REPEATED = 20  # warnings that are said again at the end; more would push the statistics off the screen


class OutputClosed(Exception):
    """Nobody reads standard output any more (``asyncdup ls URL | head``)."""


class Screen(Protocol):
    """Where lines appear. ``interval``: seconds between two progress lines; infinite where there are none."""

    interval: float

    def write(self, text: str, level: int, block: Sequence[str] = ()) -> None:
        """One line of text by its level, or in its place, on a terminal, the lines of ``block``. Raises OutputClosed."""

    def result(self, text: str) -> None:
        """One line that was asked for, on standard output whatever the verbosity. Raises OutputClosed."""

    def show(self, text: str, *, waiting: bool) -> None:
        """What is going on right now, in place of what was shown before."""

    def close(self) -> None:
        """Take the progress line away. Lines may still be written."""


class PlainScreen:
    """Lines for files, pipes and logs. ``progress_rate``: seconds between progress lines; None = no such lines."""

    def __init__(self, out: TextIO, err: TextIO, *, progress_rate: float | None = None) -> None:
        self.interval = math.inf if progress_rate is None else progress_rate
        self._out = out
        self._err = err
        self._shown = ""

    def write(self, text: str, level: int, block: Sequence[str] = ()) -> None:
        put_line(self._err if level <= 1 else self._out, printable(text))

    def result(self, text: str) -> None:
        put_line(self._out, printable(text) if self._out.isatty() else text)

    def show(self, text: str, *, waiting: bool) -> None:
        if text != self._shown:
            self._shown = text
            self.write(text, NOTICE)

    def close(self) -> None:
        """Nothing to take away."""


class Report:
    """Subscribes to events by ``on_event`` and says what ``verbosity`` lets through."""

    def __init__(
        self, screen: Screen, *, verbosity: int = NOTICE, logs: MachineLog | None = None, stamp: Callable[[], str] | None = None
    ) -> None:
        self.tally = Tally()
        self.logs = logs
        self._stamp = stamp  # the time, for lines that begin with it
        self.warned = 0  # warnings so far
        self._screen = screen
        self._verbosity = verbosity
        self._warnings: list[str] = []
        self._next_show = math.inf if screen.interval == math.inf else -math.inf

    def on_event(self, event: Event) -> None:
        """Take one event into account, say what is to be said, and draw the progress line when it is due."""
        self.tally(event)
        if isinstance(event, Warning):
            self._remember(event)
        elif isinstance(event, EpisodeOpened | EpisodeClosed) and self._next_show < math.inf:
            self._next_show = event.t  # nobody is to read that it still tries (N4)
        said = line_of(event)
        if said is not None:
            code, extra = control_of(event) if self.logs is not None else (GENERIC, "")
            block = tuple(wait_lines(event)) if isinstance(event, EpisodeOpened) and self._stamp is None else ()
            self.line(said[1], said[0], code=code, extra=extra, block=block)
        if self.logs is not None and self._verbosity >= INFO:
            self._log_progress(self.logs, event)
        self.refresh(event.t)

    def refresh(self, now: float) -> None:
        """Draw the progress line if it is due. ``now`` is of the clock of ``Event.t``."""
        if now >= self._next_show and self._verbosity >= NOTICE:
            self._next_show = now + self._screen.interval
            text = describe(self.tally, now)
            with suppress(OutputClosed, OSError):
                self._screen.show(text, waiting=bool(self.tally.waiting))
            if self.logs is not None and (extra := upload_progress(self.tally, now)):
                self.logs.write(text, NOTICE, code=UPLOAD_PROGRESS, extra=extra)

    def line(self, text: str, level: int = NOTICE, *, code: int = GENERIC, extra: str = "", block: Sequence[str] = ()) -> None:
        """Say one line, if the verbosity lets it through. A stream that takes no more lines does not disturb the run (V2).

        ``code``, ``extra``: what a program is told beside it. ``block``: the same in several lines, for a terminal.
        """
        if level <= self._verbosity:
            with suppress(OutputClosed, OSError):
                self._screen.write(self._stamped(text, level), level, block)
            if self.logs is not None:
                self.logs.write(text, level, code=code, extra=extra)

    def result(self, lines: str | Iterable[str], *, code: int = GENERIC, extra: str = "") -> None:
        """Say what the command was asked for: a listing, a difference. Names are written byte for byte unless a terminal reads them.

        Raises:
            OutputClosed: there is nobody to say it to.
            AsyncdupError: standard output has no room for it.
        """
        level = NOTICE if code == GENERIC else INFO  # as stock has it, whatever the verbosity
        said = []
        for text in (lines,) if isinstance(lines, str) else lines:
            try:
                self._screen.result(self._stamped(text, level))
            except OSError as error:
                raise output_refused(error, "what was asked for is not whole there") from error
            if self.logs is not None:
                said.append(text)
        if self.logs is not None and said:
            self.logs.write("\n".join(said), level, code=code, extra=extra)

    def statistics(self, statistics: Statistics) -> None:
        """The closing block of a backup, and one line of it in plain words. For a program the block is one record, and all there is."""
        if self._verbosity < NOTICE:
            return
        lines = list(statistics_lines(statistics))
        for text in lines:
            with suppress(OutputClosed, OSError):
                self._screen.write(self._stamped(text, NOTICE), NOTICE)
        if self.logs is not None:
            self.logs.write("\n".join(lines), NOTICE)
        with suppress(OutputClosed, OSError):
            self._screen.write(self._stamped(statistics_summary(statistics), NOTICE), NOTICE)

    def status(self, now: float) -> str:
        """What is going on, in one line (SIGUSR2)."""
        return f"{self.tally.action or 'asyncdup'}: {describe(self.tally, now)}"

    def end_progress(self) -> None:
        """Nothing moves any more: the progress line goes."""
        self._next_show = math.inf
        self._screen.close()

    def repeat_warnings(self) -> None:
        """Say the warnings of the run again, where they are not lost among other lines."""
        if self.warned > 1:
            self.line(f"{self.warned} warnings:", WARNING)
            for text in self._warnings:
                self.line(f"  {text}", WARNING)
            if self.warned > len(self._warnings):
                self.line(f"  and {self.warned - len(self._warnings)} more", WARNING)

    def _stamped(self, text: str, level: int) -> str:
        if self._stamp is None:
            return text
        name = next(name for least, name in _NAMES if level >= least)
        return f"{self._stamp()} {name:<6} {text}"

    def _log_progress(self, logs: MachineLog, event: Event) -> None:
        """Records that only a program gets: how far the run is."""
        if isinstance(event, Scanned):
            total = f" {self.tally.expected}" if self.tally.expected else ""
            logs.write("", INFO, code=PROGRESS, extra=f"{event.bytes}{total}")
        elif isinstance(event, VolumeRead):
            logs.write("", INFO, code=PROGRESS, extra=f"{self.tally.read} {event.total}")

    def _remember(self, event: Warning) -> None:
        self.warned += 1
        if len(self._warnings) < REPEATED:
            self._warnings.append(_warning(event))


def line_of(event: Event) -> tuple[int, str] | None:
    """Level and text of the line that an event is worth; None if it only moves the progress line."""
    match event:
        case Notice():
            return NOTICE, event.message
        case Warning():
            return WARNING, f"warning: {_warning(event)}"
        case EpisodeOpened():
            return ERROR, describe_wait(event)
        case EpisodeContinues():
            return ERROR, f"after {format_duration(event.waited)} still {describe_wait(event)}"
        case EpisodeClosed():
            return NOTICE, f"no longer waiting after {event.waited:.0f} s ({event.by})"
        case GateChanged() if event.state == "BACKOFF":
            return NOTICE, f"the backend fails, it will be tried again: {event.why}"
        case JobStarted():
            return INFO, " ".join(filter(None, (event.action, event.source, event.target)))
        case EntryDone():
            return INFO, f"Writing {event.path} of type {event.kind}" if event.what == "written" else f"{_MARKS[event.what]} {event.path}"
        case VolumeMade():
            return INFO, f"volume {event.number} made: {event.name}, {format_size(event.size)}"
        case VolumeStored():
            return INFO, f"volume {event.number} stored: {event.name}, {format_size(event.size)}"
        case VolumeRead():
            of = f" of {event.total}" if event.total else ""
            return INFO, f"volume {event.number}{of} read: {event.name}, {format_size(event.size)}"
        case _:
            return _detail_of(event)


def _detail_of(event: Event) -> tuple[int, str] | None:
    match event:
        case RetryScheduled():
            return INFO, f"{event.verb} {event.name}: {event.error}; again in {event.delay:.1f} s"
        case LimitChanged() if event.old:
            return INFO, f"concurrency {event.old} -> {event.new}{f': {event.why}' if event.why else ''}"
        case OpFailed():
            return INFO, f"{event.verb} {event.name} failed: {event.error}"
        case Reconciled():
            return INFO, f"{event.verb} {event.name}: {'had taken effect' if event.done else 'had not taken effect'}"
        case HedgeStarted():
            return INFO, f"get {event.name} is late: after {event.late:.1f} s asked for a second time"
        case HedgeWon():
            return INFO, f"get {event.name}: the second attempt was sooner; the first had moved {format_size(event.wasted)}"
        case HedgeDenied():
            return DEBUG, f"get {event.name} is late, but no more may be asked for twice"
        case GateChanged():
            return DEBUG, f"gate: {event.state}{f', {event.why}' if event.why else ''}"
        case AttemptStarted():
            return DEBUG, f"{event.verb} {event.name}: attempt {event.attempt} in slot {event.slot}"
        case AttemptFinished():
            error = f": {event.error}" if event.error else ""
            return DEBUG, f"{event.verb} {event.name}: {event.outcome}, {format_size(event.bytes)} in {event.seconds:.2f} s{error}"
        case _:
            return None


def _warning(event: Warning) -> str:
    return event.message if not event.path or event.path in event.message else f"{event.path}: {event.message}"


def statistics_lines(statistics: Statistics) -> Iterator[str]:
    """The block that stock prints, line by line. Source: observed, duplicity 3.2.1."""
    elapsed = statistics.elapsed_time
    yield "--------------[ Backup Statistics ]--------------"
    yield f"StartTime {statistics.start_time:.2f} ({format_local_time(int(statistics.start_time))})"
    yield f"EndTime {statistics.end_time:.2f} ({format_local_time(int(statistics.end_time))})"
    yield f"ElapsedTime {elapsed:.2f} ({duration_text(elapsed)})"
    yield f"SourceFiles {statistics.source_files}"
    yield f"SourceFileSize {_size(statistics.source_file_size)}"
    yield f"NewFiles {statistics.new_files}"
    yield f"NewFileSize {_size(statistics.new_file_size)}"
    yield f"DeletedFiles {statistics.deleted_files}"
    yield f"ChangedFiles {statistics.changed_files}"
    yield f"ChangedFileSize {_size(statistics.changed_file_size)}"
    yield f"ChangedDeltaSize {_size(statistics.changed_delta_size)}"
    yield f"DeltaEntries {statistics.delta_entries}"
    yield f"RawDeltaSize {_size(statistics.raw_delta_size)}"
    yield f"TotalDestinationSizeChange {_size(statistics.total_destination_size_change)}"
    yield f"Errors {statistics.errors}"
    yield "-------------------------------------------------"


def statistics_summary(statistics: Statistics) -> str:
    """What a person wants of the block, who has five seconds."""
    changes = (
        (statistics.new_files, "new"),
        (statistics.changed_files, "changed"),
        (statistics.deleted_files, "deleted"),
        (statistics.errors, "NOT READ"),
    )
    found = ", ".join(f"{count:,} {what}" for count, what in changes if count) or "nothing changed"
    stored = format_size(statistics.total_destination_size_change)
    return f"done: {found} of {statistics.source_files:,} files and folders; {stored} stored in {format_duration(statistics.elapsed_time)}"


def duration_text(seconds: float) -> str:
    """As stock writes it: "0.03 seconds", "1 hour 1 minute 1.25 seconds"."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(int(minutes), 60)
    parts = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in ((hours, "hour"), (minute, "minute")) if count]
    if second == 1:
        parts.append("1 second")
    elif second or not parts:
        parts.append(f"{int(second)} seconds" if second == int(second) else f"{second:.2f} seconds")
    return " ".join(parts)


def size_text(size: int) -> str:
    """As stock writes it: three digits and a binary unit, "2.86 MB", "1 byte". Source: observed, duplicity 3.2.1."""
    if abs(size) < 1024:
        return f"{size} byte{'' if size == 1 else 's'}"
    power = 1
    while power < 4 and abs(size) >= 1024 ** (power + 1):
        power += 1
    value = size / 1024**power
    digits = max(0, 3 - len(str(int(abs(value)))))
    return f"{value:.{digits}f} {'KMGT'[power - 1]}B"


def put_line(stream: TextIO, text: str, *, before: str = "") -> None:
    """Write a line and flush it. Raises OutputClosed."""
    try:
        stream.write(f"{before}{text}\n")
        stream.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def _size(size: int) -> str:
    return f"{size} ({size_text(size)})"


def output_refused(error: OSError, hint: str) -> AsyncdupError:
    """What standard output says to bytes that were asked for, such as that its disk is full."""
    return AsyncdupError(f"standard output takes no more: {error.strerror}", hint=hint, exit_code=exit_code_of(error))
