"""Entries restored under other names (``--rename``): a sink in front of the one that writes them."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from asyncdup.archive.consume import FileSink, Sink
from asyncdup.errors import UsageError
from asyncdup.formats.tar import Entry


class Renamed:
    """Hands entries on to ``sink`` with what is at or below a name moved to another.

    Args:
        names: pairs of paths in the archive, the old one and the new one; of two that fit the longer one counts, of equal ones the last.

    Raises:
        UsageError: a path is empty, absolute or leads out of the target.
    """

    def __init__(self, sink: Sink, names: Sequence[tuple[bytes, bytes]]) -> None:
        self._sink = sink
        self._names = {_checked(old): _checked(new) for old, new in names}

    def simple(self, entry: Entry) -> None:
        """As that of the sink."""
        self._sink.simple(self._moved(entry))

    def file(self, entry: Entry) -> FileSink:
        """As that of the sink."""
        return self._sink.file(self._moved(entry))

    def finish(self) -> None:
        """As that of the sink."""
        self._sink.finish()

    def _moved(self, entry: Entry) -> Entry:
        path, tail = entry.path, b""
        while path:
            if path in self._names:
                return entry._replace(path=self._names[path] + tail)
            path, _, name = path.rpartition(b"/")
            tail = b"/" + name + tail
        return entry


def _checked(path: bytes) -> bytes:
    plain = posixpath.normpath(path)
    if not path or plain in (b".", b"..") or plain.startswith((b"/", b"../")):
        raise UsageError(
            f"--rename: {path.decode('utf-8', 'surrogateescape')!r} is no path inside the archive",
            hint="both are relative, as list-current-files shows them",
        )
    return plain
