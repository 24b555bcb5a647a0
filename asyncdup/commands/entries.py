"""An entry that was stored or restored, as an event."""

from __future__ import annotations

import os
from typing import Final, Literal

from asyncdup.archive.consume import FileSink, Sink
from asyncdup.events import EntryDone, EventHub
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, REG, SYM, Entry
from asyncdup.threads import on_loop

KINDS: Final = {REG: "reg", DIR: "dir", SYM: "sym", FIFO: "fifo", CHR: "chr", BLK: "blk"}  # stock duplicity's words


def entry_done(what: Literal["new", "changed", "deleted", "written"], entry: Entry) -> EntryDone:
    """The event."""
    return EntryDone(what=what, path=os.fsdecode(entry.path) or ".", kind=KINDS.get(entry.kind, ""))


class Announced:
    """A sink in front of another one: each entry is told of before it is written. Called in the merger's thread."""

    def __init__(self, sink: Sink, hub: EventHub) -> None:
        self._sink = sink
        self._hub = hub

    def simple(self, entry: Entry) -> None:
        """As that of the sink."""
        on_loop(self._hub.emit, entry_done("written", entry))
        self._sink.simple(entry)

    def file(self, entry: Entry) -> FileSink:
        """As that of the sink."""
        on_loop(self._hub.emit, entry_done("written", entry))
        return self._sink.file(entry)

    def finish(self) -> None:
        """As that of the sink."""
        self._sink.finish()
