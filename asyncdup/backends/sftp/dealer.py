"""Who sends or asks for the next block over which connection: bound as late as possible, so that a slow connection holds up little.

A transfer has a home, the connection that it was given, and opens its file on the others, too, where there is enough to do: then whichever has
room takes its next block (performance, section 10.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from anyio.abc import TaskGroup

from asyncdup.backends.sftp.connection import Connection, File
from asyncdup.errors import BackendError

PATIENCE = 2.0  # seconds after which a younger transfer comes first, once: it must not look as if it stalled (T1)

_AGAIN = 1 / 20  # of the bytes that were asked for may be asked for twice (H2) ...
_AGAIN_BURST = 2 << 20  # ... and these besides


class Source(Protocol):
    """A transfer that has blocks to send or to ask for."""

    @property
    def handles(self) -> Handles: ...
    @property
    def ahead(self) -> int:
        """Bytes that it holds, or will when they come, and has not handed on."""
        ...

    @property
    def left(self) -> int:
        """Bytes that it has still to send."""
        ...

    def comes_first(self, connection: Connection) -> bool:
        """Whether room on ``connection`` is to be offered to it before others, whatever their age."""
        ...

    def serve(self, file: File) -> bool:
        """Send or ask for one block by ``file``, whose connection has room. False: there is nothing to be done now. Never raises."""
        ...


class Dealer:
    """Offers room on connections to transfers, the oldest first. Plain code without any wait.

    Args:
        connections: those that are logged in now. Each must call ``deal`` with itself when it has room.

    Attributes:
        helping: connections may help; False once a server has refused a second handle of what another could write.
    """

    def __init__(self, connections: Callable[[], Sequence[Connection]]) -> None:
        self.connections = connections
        self.helping = True
        self._sources: list[Source] = []  # the oldest first
        self._asked = 0  # bytes
        self._asked_again = 0

    def join(self, source: Source) -> None:
        """It has blocks, now or later, until ``leave``."""
        self._sources.append(source)

    def leave(self, source: Source) -> None:
        """It has none any more, or never joined."""
        if source in self._sources:
            self._sources.remove(source)

    def deal(self, connection: Connection) -> None:
        """``connection`` may have room: who has something for it?"""
        if not connection.has_room(connection.block):
            return
        for source in sorted(self._sources, key=lambda each: not each.comes_first(connection)):
            while connection.has_room(connection.block) and connection in source.handles.files:
                if not source.serve(source.handles.files[connection]):
                    break

    def offer(self, source: Source) -> None:
        """``source`` has something new: who has room? Always the one that has most of it."""
        while True:
            free = [connection for connection in source.handles.files if connection.has_room(connection.block)]
            if not free or not source.serve(source.handles.files[min(free, key=lambda each: each.unanswered)]):
                return

    def may_hold(self, source: Source, size: int) -> bool:
        """Whether a download may hold ``size`` bytes more: what all connections carry, two times that over all downloads; one window always."""
        window = source.handles.home.connection.window
        wanted = source.ahead + size
        if not source.ahead or wanted <= window:
            return True
        most = window * max(1, len(self.connections()))
        return wanted <= most and size + sum(each.ahead for each in self._sources) <= 2 * most

    def left(self) -> int:
        """Bytes that all have still to send, as far as is known."""
        return sum(source.left for source in self._sources)

    def count(self, size: int) -> None:
        """``size`` bytes were asked for."""
        self._asked += size

    def may_ask_again(self, size: int) -> bool:
        """Count ``size`` bytes that are asked for a second time, if there may be so many (H2)."""
        if self._asked_again + size > self._asked * _AGAIN + _AGAIN_BURST:
            return False
        self._asked_again += size
        return True


class Handles:
    """The open handles of one transfer, all of one file.

    Attributes:
        home: the handle on the connection that the transfer was given.
        files: connection to handle, of those that may be used.
        refused: a connection that was not lost would not help.
        closed: nothing is done with them any more.
    """

    def __init__(self, dealer: Dealer, home: File, path: bytes, *, for_writing: bool) -> None:
        self.home = home
        self.files = {home.connection: home}
        self.refused = False
        self.closed = False
        self._dealer = dealer
        self._path = path
        self._for_writing = for_writing
        self._asked = {home.connection}

    def spread(self, tasks: TaskGroup) -> None:
        """Open the file on every connection that has not been asked yet. One that will not is done without."""
        if not self._dealer.helping or not self.home.connection.one_file_system:
            return
        for connection in self._dealer.connections():
            if connection not in self._asked and not connection.lost:
                self._asked.add(connection)
                tasks.start_soon(self._open, connection)

    def leave(self, connection: Connection) -> None:
        """Use ``connection`` no more: it has failed."""
        self.files.pop(connection, None)
        self.refused |= not connection.lost

    def close_nowait(self) -> None:
        """Ask to close all of them, and wait for no answer."""
        self.closed = True
        for connection, file in self.files.items():
            if not connection.lost:
                try:
                    connection.ask_close(file)
                except BackendError:
                    continue  # lost at this moment: the server closes by itself
        self.files.clear()

    async def _open(self, connection: Connection) -> None:
        try:
            file = await connection.open(self._path, for_writing=self._for_writing)
        except BackendError:
            self.refused |= not connection.lost
            return
        self.files[connection] = file
        self._dealer.deal(connection)
