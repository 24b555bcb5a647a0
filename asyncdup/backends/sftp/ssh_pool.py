"""The pool of connections of one backend: dialled when they are needed or will be, dealt out to calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.sftp.growth import Growth
from asyncdup.errors import BackendError, OperatorError, PermanentError, RetryableError

if TYPE_CHECKING:
    from asyncdup.backends.sftp.connection import Connection  # loads ssh

MAX_CONNECTIONS = 8  # a greedy pool takes its share from other traffic (performance, section 10.2)
_MOST_GROWN = 4  # times as many, where packets are lost
MAX_DIALLING = 8  # sshd's MaxStartups is 10:30:100: from the tenth that has not logged in yet, refusals begin
_CEILING_RETRY = 60.0  # seconds after which a lowered ceiling is tried one higher
_GROWING_PATIENCE = 2.0  # seconds that an upload's slot may wait for more connections when the upload is done
_LEAST_PATIENCE = 0.05  # seconds that dialling ahead may go on when the call that began it is done


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool at one moment: connections logged in, being dialled, calls on them, how many connections it would open at most now, and the
    bytes of WRITEs and READs that are sent and not answered."""

    connections: int
    dialling: int
    ops: int
    ceiling: int
    unanswered: int


class Pool:
    """The connections of one backend, dialled when a call finds none idle, up to ``limit``; shared beyond that, never waited for.

    A call of the engine holds a slot already, so its number of calls is bounded; waiting here for a connection could only make two calls
    that need each other wait forever. State is changed in plain code between awaits only.

    Args:
        dial: opens a connection; raises our errors.
        limit: the most connections. A refused extra one lowers the ceiling for a minute and is no error (sshd's MaxStartups, or a server
            that allows fewer at once).
    """

    def __init__(self, dial: Callable[[], Awaitable[Connection]], *, limit: int = MAX_CONNECTIONS) -> None:
        self._dial = dial
        self._limit = limit
        self._ceiling = limit
        self._most = _MOST_GROWN * limit if limit > 1 else limit
        self._growth = Growth()
        self._lowered_at = 0.0
        self._connections: list[Connection] = []
        self._dialling = 0
        self._closed = False
        self._changed = anyio.Event()

    def statistics(self) -> PoolStatistics:
        """What it holds now."""
        return PoolStatistics(
            connections=len(self._connections),
            dialling=self._dialling,
            ops=sum(c.ops for c in self._connections),
            ceiling=self._ceiling,
            unanswered=sum(c.unanswered for c in self._connections),
        )

    def connections(self) -> Sequence[Connection]:
        """Those that are logged in."""
        return [connection for connection in self._connections if not connection.lost]

    def signs(self) -> Sequence[LinkSigns]:
        """What is known of the way to the server, by each connection that can tell."""
        return [signs for connection in self.connections() if (signs := connection.signs()) is not None]

    @asynccontextmanager
    async def dialling_ahead(self, upto: int = MAX_CONNECTIONS) -> AsyncGenerator[None, None]:
        """Dial ``upto`` connections, as the limit allows, while the block runs, and for as long again: a set-up takes many round trips, all of
        them the same time.

        What is refused is no error here; what is not there by then is given up.
        """
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(min(upto, self._limit) - len(self._connections) - self._dialling - 1):
                tasks.start_soon(self._dial_ahead)
            yield
            tasks.cancel_scope.deadline = anyio.current_time() + max(_LEAST_PATIENCE, anyio.current_time() - began)

    @asynccontextmanager
    async def growing(self) -> AsyncGenerator[Callable[[int], None], None]:
        """Gives what a sender is to call, with the bytes that all have still to send, as it gets on: it dials more where they would carry more.

        The dials may go on a little after the block. What is refused is no error.
        """
        async with anyio.create_task_group() as tasks:

            def look(left: int) -> None:
                for _ in range(self._raise_limit(left)):
                    tasks.start_soon(self._dial_ahead)

            yield look
            tasks.cancel_scope.deadline = anyio.current_time() + _GROWING_PATIENCE

    @asynccontextmanager
    async def acquire(self, *, brief: bool = False) -> AsyncGenerator[Connection, None]:
        """A connection for one call; after an error of the transport it is not dealt out again.

        Args:
            brief: the call moves no bodies, so it may ride on a busy connection rather than open another.
        """
        connection = await self._take(brief)
        try:
            yield connection
        finally:
            connection.ops -= 1
            if connection.lost and not connection.ops:
                connection.abort()
            self._notify()

    def drop(self) -> None:
        """Deal none of the present connections out again; idle ones are cut at once, the others when their calls have ended."""
        for connection in self._connections:
            connection.give_up()
        self._drop_lost()

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        self._closed = True
        connections, self._connections = self._connections, []
        self._notify()
        async with anyio.create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(connection.aclose)

    async def _take(self, brief: bool) -> Connection:
        while True:
            if self._closed:
                raise PermanentError("the backend is closed")
            self._drop_lost()
            connection = self._choose(brief)
            if connection is None and self._may_dial():
                connection = await self._dial_one()
            if connection is not None:
                connection.ops += 1
                return connection
            await self._changed.wait()

    def _choose(self, brief: bool) -> Connection | None:
        """An idle connection; a busy one if the call is brief or no more may be opened; None if one should be opened or waited for."""
        least = min(self._connections, key=lambda c: c.ops, default=None)
        if least is None or least.ops == 0 or brief:
            return least
        return None if len(self._connections) + self._dialling < self._raised_ceiling() else least

    def _may_dial(self) -> bool:
        return self._dialling < MAX_DIALLING and len(self._connections) + self._dialling < self._raised_ceiling()

    def _raised_ceiling(self) -> int:
        if self._ceiling < self._limit:
            now = anyio.current_time()
            if not self._connections and not self._dialling:
                self._ceiling = self._limit  # a server that came back: nothing is known about it any more
            elif now - self._lowered_at > _CEILING_RETRY:
                self._ceiling, self._lowered_at = self._ceiling + 1, now
        return self._ceiling

    async def _dial_one(self) -> Connection | None:
        """A new connection, or None if it was refused while there are others.

        A call that is refused waits for the dials of others, but does not dial again if they fail, too: else n calls to a server that is
        down would take n time limits to say so.
        """
        try:
            connection = await self._counted_dial()
        except OperatorError:
            raise
        except RetryableError:
            self._ceiling, self._lowered_at = max(1, len(self._connections) + self._dialling), anyio.current_time()
            while not self._connections and self._dialling:
                await self._changed.wait()
            if not self._connections:
                raise
            return None
        if self._closed:
            connection.abort()
            raise PermanentError("the backend is closed")
        self._connections.append(connection)
        self._notify()
        return connection

    async def _dial_ahead(self) -> None:
        if self._may_dial():
            with suppress(BackendError):
                await self._dial_one()

    def _raise_limit(self, left: int) -> int:
        """How many to dial now: none, or as many as may be dialled at once."""
        if self._dialling or self._ceiling < self._limit or self._limit >= self._most:
            return 0
        if not self._growth.wanted(self.signs(), left=left, now=anyio.current_time()):
            return 0
        self._limit = self._ceiling = min(self._most, len(self._connections) + MAX_DIALLING)
        return self._limit - len(self._connections)

    async def _counted_dial(self) -> Connection:
        self._dialling += 1
        try:
            return await self._dial()
        finally:
            self._dialling -= 1
            self._notify()

    def _drop_lost(self) -> None:
        """Deal lost connections out no more; one that is still in use is aborted when the last call gives it back."""
        lost = [c for c in self._connections if c.lost]
        self._connections = [c for c in self._connections if not c.lost]
        for connection in lost:
            if not connection.ops:
                connection.abort()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def connections_for(concurrency: int | None) -> tuple[int, int]:
    """How many connections for so many calls at once, and the bytes unanswered on each."""
    limit = MAX_CONNECTIONS if concurrency is None else max(1, min(concurrency, MAX_CONNECTIONS))
    return limit, (2 << 20 if limit <= 2 else 1 << 20)
