"""Events as JSON lines, one object per line: ``{"event": "VolumeStored", "seq": 12, ...}`` (engine rule V4, ``--log-json``)."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import IO, Any

from asyncdup.events import Event


class JsonLines:
    """A subscriber for ``EventHub.on_event`` that writes each event at once and flushes.

    The lines are ASCII: bytes of a name that are no UTF-8 appear as lone surrogates (``\\udcff``), from which ``os.fsencode`` makes them
    again. A stream that can no longer be written to is left alone; ``failed`` is then the first error, and no transfer is disturbed (V2).
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.failed: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Write one line. Never raises."""
        if self.failed is not None:
            return
        try:
            self._stream.write(json_line(event) + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.failed = error


def json_line(event: Event) -> str:
    """``event`` as one line of JSON: its class name under ``event``, then its fields in order."""
    record = {"event": type(event).__name__}
    record.update((each.name, getattr(event, each.name)) for each in fields(event))
    return json.dumps(record, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
