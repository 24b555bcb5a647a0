"""Events as JSON lines, one object per line: ``{"event": "VolumeStored", "seq": 12, ...}`` (engine rule V4, ``--log-json``)."""

from __future__ import annotations

import json
from dataclasses import fields
from operator import attrgetter
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
    kind = type(event)
    names, values = _FIELDS.get(kind) or _FIELDS.setdefault(kind, _fields(kind))
    return _encode(dict(zip(names, (type(event).__name__, *values(event)), strict=True)))


_Fields = tuple[tuple[str, ...], "attrgetter[tuple[Any, ...]]"]  # the names of a line's values, and what takes them from an event
_FIELDS: dict[type[Event], _Fields] = {}  # looked up once a class: there may be thousands of events a second


def _fields(kind: type[Event]) -> _Fields:
    names = tuple(each.name for each in fields(kind))
    return ("event", *names), attrgetter(*names)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


_encode = json.JSONEncoder(default=_plain, separators=(",", ":")).encode
