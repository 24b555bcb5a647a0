"""Events -> a Prometheus text file, as node_exporter's textfile collector reads it (engine rule V4, ``--metrics-file``).

Source of the form: Prometheus, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from asyncdup.events import (
    AttemptFinished,
    EpisodeClosed,
    EpisodeOpened,
    Event,
    JobStarted,
    RetryScheduled,
    Unblocked,
    VolumeRead,
    VolumeStored,
    Warning,
)

LARGEST = 1 << 20  # bytes of an earlier file that are looked at
_SUCCESS = "asyncdup_last_success_timestamp_seconds"
_EARLIER = re.compile(rb"^" + _SUCCESS.encode() + rb"\{[^\n]*\} ([0-9.e+]{1,32})$", re.MULTILINE)


class Metrics:
    """A subscriber for ``EventHub.on_event``; ``text`` gives the file's content at the end of the run of ``command``."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._first: Event | None = None
        self._last: Event | None = None
        self._job: JobStarted | None = None
        self._attempts: Counter[str] = Counter(ok=0, error=0, cancelled=0)  # by outcome
        self._counts: Counter[str] = Counter()
        self._waited = 0.0  # seconds for the operator
        self._shut = 0.0  # seconds of closed gates, these included

    def __call__(self, event: Event) -> None:
        """Take one event into account."""
        self._first = self._first or event
        self._last = event
        match event:
            case JobStarted():
                self._job = event
            case AttemptFinished():
                self._attempts[event.outcome] += 1
                self._counts["moved"] += event.bytes
            case RetryScheduled():
                self._counts["retries"] += 1
            case EpisodeOpened():
                self._counts["episodes"] += 1
            case EpisodeClosed():
                self._waited += event.waited
            case Unblocked() if event.what == "gate":
                self._shut += event.seconds
            case VolumeStored() | VolumeRead():
                self._counts["volumes"] += 1
                self._counts["volume bytes"] += event.size
            case Warning():
                self._counts["warnings"] += 1

    def text(self, *, exit_code: int, now: float, success: float | None = None) -> str:
        """The file. ``now``: seconds since the epoch; ``success``: when the last successful run ended, if it is known and not this one."""
        success = now if exit_code == 0 else success
        lines = [line for metric in self._metrics(exit_code, now, success) for line in metric]
        return "\n".join(lines) + "\n"

    def _metrics(self, exit_code: int, now: float, success: float | None) -> Iterator[list[str]]:
        counts, job = self._counts, self._job
        places = {"source": job.source, "target": job.target} if job else {}
        labels = _labels(command=self._command, **places)
        duration = self._last.t - self._first.t if self._first and self._last else 0.0

        def gauge(name: str, help: str, value: float) -> list[str]:
            return [*_head(name, help), f"{name}{{{labels}}} {_number(value)}"]

        yield gauge("asyncdup_last_run_timestamp_seconds", "When the last run ended.", now)
        if success is not None:
            yield gauge(_SUCCESS, "When the last run with exit code 0 ended.", success)
        yield gauge("asyncdup_last_run_exit_code", "Exit code of the last run.", exit_code)
        yield gauge("asyncdup_last_run_duration_seconds", "How long the last run took.", duration)
        yield gauge("asyncdup_last_run_moved_bytes", "Bytes that all attempts of the last run sent or received.", counts["moved"])
        yield gauge("asyncdup_last_run_volumes", "Volumes that the last run stored or read.", counts["volumes"])
        yield gauge("asyncdup_last_run_volume_bytes", "Size of these volumes.", counts["volume bytes"])
        name = "asyncdup_last_run_attempts"
        samples = [f'{name}{{{labels},outcome="{outcome}"}} {count}' for outcome, count in sorted(self._attempts.items())]
        yield [*_head(name, "Attempts of the last run by outcome."), *samples]
        yield gauge("asyncdup_last_run_retries", "Attempts of the last run that were made again.", counts["retries"])
        yield gauge("asyncdup_last_run_episodes", "Times that the last run waited for the operator.", counts["episodes"])
        yield gauge("asyncdup_last_run_waited_seconds", "Time that the last run waited for the operator.", self._waited)
        yield gauge("asyncdup_last_run_gate_closed_seconds", "Time that lanes were closed, waits included.", self._shut)
        yield gauge("asyncdup_last_run_warnings", "Warnings of the last run.", counts["warnings"])


def write_metrics(path: Path, metrics: Metrics, *, exit_code: int, now: float) -> None:
    """Put the file in place whole, readable for all since a collector has a user of its own. Raises OSError.

    The time of the last success is taken over from the file that is there, so that its age can be watched.
    """
    content = metrics.text(exit_code=exit_code, now=now, success=_last_success(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # collectors read *.prom only
    try:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _last_success(path: Path) -> float | None:
    try:
        with path.open("rb") as stream:
            found = _EARLIER.search(stream.read(LARGEST))
        return float(found[1]) if found else None
    except (OSError, ValueError):
        return None


def _head(name: str, help: str) -> tuple[str, str]:
    return f"# HELP {name} {help}", f"# TYPE {name} gauge"


def _labels(**labels: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
