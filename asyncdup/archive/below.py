"""A part of an archive restored to its own place in the tree, not to the top: a sink in front of the one that writes it."""

from __future__ import annotations

from asyncdup.archive.consume import FileSink, Sink
from asyncdup.formats.tar import Entry, key


class Below:
    """Hands entries on to ``sink`` with ``prefix`` before their paths. ``finish`` is not handed on: other parts follow."""

    def __init__(self, sink: Sink, prefix: bytes) -> None:
        self._sink = sink
        self._prefix = prefix

    def simple(self, entry: Entry) -> None:
        """As that of the sink."""
        self._sink.simple(self._moved(entry))

    def file(self, entry: Entry) -> FileSink:
        """As that of the sink."""
        return self._sink.file(self._moved(entry))

    def finish(self) -> None:
        """The part is complete."""

    def _moved(self, entry: Entry) -> Entry:
        return entry._replace(path=self._prefix + b"/" + entry.path if entry.path else self._prefix)


def parts(paths: list[bytes]) -> list[bytes]:
    """``paths`` in archive order, without those that are at or below another one. One of them empty stands for everything."""
    found: list[bytes] = []
    for path in sorted((path.strip(b"/") for path in paths), key=key):
        if not path:
            return [b""]
        if not found or not (path == found[-1] or path.startswith(found[-1] + b"/")):
            found.append(path)
    return found
