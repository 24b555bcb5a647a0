"""What listens to a run besides the report: ``--log-json``, ``--trace``, ``--metrics-file``, and the closing summary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO

from asyncdup.cli.options import SELECTING
from asyncdup.cli.report import INFO, NOTICE, WARNING, Report
from asyncdup.cli.settings import Settings
from asyncdup.errors import UsageError, in_words
from asyncdup.events import Subscriber
from asyncdup.observe.jsonlines import JsonLines
from asyncdup.observe.prometheus import Metrics, write_metrics
from asyncdup.observe.summary import Summary
from asyncdup.observe.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """The subscribers of one run. ``person``: somebody watches it, so the summary is said at normal verbosity; cron stays quiet."""

    subscribers: tuple[Subscriber, ...]
    json_lines: JsonLines | None
    summary: Summary | None
    trace: Trace | None
    metrics: Metrics | None
    settings: Settings
    person: bool

    def summarize(self, report: Report) -> None:
        """Where the time went, after the run's own result."""
        if self.summary is not None:
            for line in self.summary.lines():
                report.line(line, NOTICE if self.person else INFO)

    def finish(self, report: Report, *, exit_code: int, now: float) -> None:
        """The run is over: complete the files. One that cannot be written is told of and changes nothing else (V2)."""
        if self.json_lines is not None and self.json_lines.failed is not None:
            report.line(f"--log-json: {self.settings.log_json} is not complete: {in_words(self.json_lines.failed)}", WARNING)
        if self.trace is not None:
            self.trace.close()
            if self.trace.failed is not None:
                report.line(f"--trace: {self.settings.trace} is not complete: {in_words(self.trace.failed)}", WARNING)
        if self.metrics is not None and self.settings.metrics_file is not None:
            try:
                write_metrics(Path(self.settings.metrics_file), self.metrics, exit_code=exit_code, now=now)
            except OSError as error:
                report.line(f"--metrics-file: {self.settings.metrics_file}: {error.strerror}", WARNING)


@contextmanager
def open_observers(settings: Settings, out: TextIO, *, person: bool) -> Iterator[Observers]:
    """Open what was asked for. ``out``: standard output, for ``--log-json=-``. Raises UsageError before anything is done."""
    with ExitStack() as stack:
        json_lines = trace = None
        if settings.log_json == "-":
            json_lines = JsonLines(out)
        elif settings.log_json is not None:
            descriptor = _opened("--log-json", settings.log_json, os.O_APPEND, "name a file that can be written, or - for standard output")
            json_lines = JsonLines(stack.enter_context(_stream(descriptor, "w", "ascii")))
        if settings.trace is not None:
            descriptor = _opened("--trace", settings.trace, os.O_TRUNC, "name a file that can be written")
            trace = Trace(partial(_write_whole, stack.enter_context(_stream(descriptor, "wb"))))
        metrics = _metrics(settings)
        summary = Summary(cpu=_cpu) if settings.command in SELECTING else None
        yield Observers(
            subscribers=tuple(each for each in (json_lines, trace, metrics, summary) if each is not None),
            json_lines=json_lines,
            summary=summary,
            trace=trace,
            metrics=metrics,
            settings=settings,
            person=person,
        )


def _metrics(settings: Settings) -> Metrics | None:
    if settings.metrics_file is None:
        return None
    folder = Path(settings.metrics_file).absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--metrics-file: {folder} cannot be written to", hint="name a file in a folder that can")
    return Metrics(settings.command)


def _opened(option: str, path: str, flag: int, hint: str) -> int:
    """A descriptor of a file for its owner only."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | flag | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror}", hint=hint) from error


@contextmanager
def _stream(descriptor: int, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    """A file that no run fails for because it could not be written to its end (V2): its subscriber tells."""
    stream = open(descriptor, mode, encoding=encoding)  # noqa: SIM115 - closing it must not raise
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()


def _write_whole(stream: IO[bytes], text: str) -> None:
    """A process that is killed leaves whole records."""
    stream.write(text.encode("ascii"))
    stream.flush()


def _cpu() -> float:
    """Seconds of this process and of the children that it has waited for (gpg)."""
    return sum(os.times()[:4])
