"""One download: blocks asked for ahead of the reader over several connections, handed on in order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from asyncdup.backends.sftp.connection import Connection, File
from asyncdup.backends.sftp.dealer import PATIENCE, Dealer, Handles
from asyncdup.errors import BackendError

_CHUNK = 1 << 20  # bytes handed on at once, at most
_WORTH_HELP = 1 << 20  # bytes still to come, from which a round trip for another handle is worth it
_OVERDUE = 1.5  # times what the fastest answer took: then, with nothing else to do, a block is asked for once more
_LOOK = 0.02  # seconds between looks at what is overdue, at least


class Download:
    """The bytes of an open file from ``start`` to ``end`` in order, with READs in flight ahead of the reader.

    Holds what the dealer lets it read ahead, and one chunk that it hands out. The tasks are the caller's, and end with its task group.
    ``ahead``: bytes of blocks asked for and not handed on.
    """

    left = 0  # of an upload

    def __init__(self, dealer: Dealer, handles: Handles, tasks: TaskGroup, start: int, end: int | None) -> None:
        self.handles = handles
        self.ahead = 0
        self._dealer = dealer
        self._tasks = tasks
        self._next = start
        self._end = end
        self._blocks: deque[_Block] = deque()
        self._fastest = 0.0  # seconds
        self._served = anyio.current_time()
        self._changed = anyio.Event()
        dealer.join(self)
        tasks.start_soon(self._learn_end)
        tasks.start_soon(self._chase)
        dealer.offer(self)

    def close_nowait(self) -> None:
        """Ask for nothing more, and close the file."""
        self._dealer.leave(self)
        self.handles.close_nowait()

    def comes_first(self, connection: Connection) -> bool:
        """Only if it was not served for long: else all connections read the oldest, whose reader waits."""
        return not self._asked_all and anyio.current_time() - self._served > PATIENCE

    def serve(self, file: File) -> bool:
        """Ask for a block."""
        size = file.connection.block if self._end is None else min(file.connection.block, self._end - self._next)
        if self._asked_all or not self._dealer.may_hold(self, size):
            return False
        self._served = anyio.current_time()
        block = _Block(self._next, size, self._served)
        self._blocks.append(block)
        self._next += size
        self.ahead += size
        self._dealer.count(size)
        file.connection.reserve(size)
        self._ask(block, file, size)
        self._notify()
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not (self._blocks and self._blocks[0].answered):
            if not self._blocks and self._asked_all:
                raise StopAsyncIteration
            await self._changed.wait()
        pieces = self._take()
        self._spread()
        self._dealer.offer(self)
        if not pieces:
            raise StopAsyncIteration
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self) -> list[bytes]:
        """What has come, in order: a bigger chunk costs its reader fewer steps than several small ones."""
        pieces: list[bytes] = []
        size = 0
        while self._blocks and self._blocks[0].answered and size + self._blocks[0].size <= _CHUNK:
            block = self._blocks[0]
            if block.error is not None:
                if pieces:
                    break
                raise block.error
            self._blocks.popleft()
            self.ahead -= block.size
            pieces += block.pieces
            size += block.got
            if block.got < block.size:  # the end of the file
                self._end = self.ahead = 0
                self._blocks.clear()
        return pieces

    @property
    def _asked_all(self) -> bool:
        return self._end is not None and self._next >= self._end

    def _spread(self) -> None:
        if self._end is not None and self._end - self._next > _WORTH_HELP:
            self.handles.spread(self._tasks)

    async def _chase(self) -> None:
        """Ask once more for what is overdue, where a connection has nothing else to do; the first answer counts (performance, section 10.6)."""
        while not self._fastest:
            await self._changed.wait()
        while True:
            while all(block.answered for block in self._blocks):
                await self._changed.wait()
            await anyio.sleep(max(_LOOK, self._fastest / (4 if self._asked_all else 1)))
            late = anyio.current_time() - _OVERDUE * self._fastest
            for block in [block for block in self._blocks if block.asked < late and not block.answered and not block.twice]:
                self._ask_again(block)

    def _ask_again(self, block: _Block) -> None:
        idle = [file for file in self.handles.files.values() if file is not block.file and not file.connection.unanswered]
        if idle and not block.got and self._dealer.may_ask_again(block.size):
            block.twice = True
            idle[0].connection.reserve(block.size)
            self._ask(block, idle[0], block.size)

    def _ask(self, block: _Block, file: File, size: int) -> None:
        """Ask for the last ``size`` bytes of ``block``, which are reserved."""
        start = block.size - size
        block.file = file

        def got(data: bytes, error: BackendError | None) -> None:
            if self.handles.closed or block.answered or block.got != start:  # nobody waits any more, or the other one of two was faster
                return
            if error is not None:
                self._failed(block, file, size, error)
            elif data and len(data) < size and not self._at_end(block, start + len(data)):
                # A server may answer with less than was asked for anywhere in the file, not only at its end.
                block.add(data)
                file.connection.reserve(size - len(data))
                self._ask(block, file, size - len(data))
            else:
                block.add(data)
                self._answered(block)

        try:
            file.connection.read(file, size, block.offset + start, got)
        except BackendError as error:
            file.connection.unanswered -= size
            got(b"", error)

    def _failed(self, block: _Block, file: File, size: int, error: BackendError) -> None:
        home = self.handles.home
        if file is not home and not home.connection.lost:
            self.handles.leave(file.connection)
            home.connection.reserve(size)
            self._ask(block, home, size)
        else:
            block.error = error
            self._answered(block)

    def _answered(self, block: _Block) -> None:
        block.answered = True
        took = anyio.current_time() - block.asked
        self._fastest = min(self._fastest or took, took)
        self._notify()

    def _at_end(self, block: _Block, got: int) -> bool:
        return self._end is not None and block.offset + got >= self._end

    async def _learn_end(self) -> None:
        with suppress(BackendError):  # then a READ finds the end, or the error
            home = self.handles.home
            size = (await home.connection.status_of(home.connection.ask_status(home))).size
            if size is not None:
                self._end = size if self._end is None else min(self._end, size)
                self._notify()
                self._spread()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Block:
    """One piece of the file: ``pieces`` of ``got`` bytes in all, or ``error``, once it is ``answered``. ``twice``: two were asked."""

    __slots__ = ("answered", "asked", "error", "file", "got", "offset", "pieces", "size", "twice")

    def __init__(self, offset: int, size: int, asked: float) -> None:
        self.offset = offset
        self.size = size
        self.asked = asked
        self.pieces: list[bytes] = []
        self.got = 0
        self.answered = self.twice = False
        self.error: BackendError | None = None
        self.file: File | None = None

    def add(self, data: bytes) -> None:
        """More of its bytes, in order."""
        if data:
            self.pieces.append(data)
            self.got += len(data)
