"""One upload: a temporary file that is written in blocks over several connections, confirmed, and given its name last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

import anyio

from asyncdup.backends.base import Body
from asyncdup.backends.sftp.connection import CLEANUP_DEADLINE, Connection, File
from asyncdup.backends.sftp.dealer import PATIENCE, Dealer, Handles
from asyncdup.backends.sftp.packets import Attributes
from asyncdup.errors import BackendError, IntegrityError, RetryableError, ungrouped

_WORTH_HELP = 1 << 20  # bytes still to come, from which a round trip for another handle is worth it
_READY = 4  # blocks: with no more than these, the next chunk is read


class Upload:
    """One temporary file being written. ``began``: bytes of the body may have reached the server.

    ``left``: of them, those not sent. ``on_progress`` is called now and then with what all uploads have still to send.
    Holds two chunks of the body, and what is not answered: bounded by the windows of the connections.
    """

    ahead = 0  # of a download

    def __init__(self, dealer: Dealer, home: Connection, path: bytes, *, on_progress: Callable[[int], None]) -> None:
        self.home = home
        self.path = path
        self.began = False
        self.left = 0
        self._dealer = dealer
        self._on_progress = on_progress
        self._handles: Handles | None = None
        self._creating = False
        self._cut = 0  # bytes of the body so far
        self._ready: deque[tuple[bytes, int]] = deque()
        self._unanswered = {True: 0, False: 0}  # WRITEs, at home and elsewhere
        self._served = anyio.current_time()
        self._error: BackendError | None = None
        self._changed = anyio.Event()

    @property
    def handles(self) -> Handles:
        """After ``create``."""
        assert self._handles is not None
        return self._handles

    async def create(self) -> None:
        """Open the temporary file, which must not be there yet."""
        self._creating = True
        try:
            file = await self.home.create(self.path)
        except BackendError:
            self._creating = False
            raise
        self._handles = Handles(self._dealer, file, self.path, for_writing=True)

    async def send(self, body: Body) -> Attributes:
        """Write the whole body, sync, ask for the size and close, in one flight where nobody helped; the status when all is answered (P5)."""
        self.left = body.size
        self._dealer.join(self)
        try:
            await self._send_blocks(body)
        finally:
            self._dealer.leave(self)
        status = await self._finish()
        await self._wait(lambda: not self._unanswered[True])
        if self._cut != body.size:
            raise IntegrityError(f"the body gave {self._cut} bytes and not {body.size}")
        if status.size is not None and status.size != self._cut:
            raise RetryableError(f"{self.home.place}: the server has {status.size} bytes of {self._cut}")
        self._dealer.helping &= not self.handles.refused  # what is stored all the same was refused to the helpers only
        return Attributes(self._cut, status.permissions, status.mtime)

    def comes_first(self, connection: Connection) -> bool:
        """Only if it was not served for long: else the oldest has all connections, so that uploads do not all end, and wait, together."""
        return bool(self._ready) and anyio.current_time() - self._served > PATIENCE

    def serve(self, file: File) -> bool:
        """Send a block."""
        if not self._ready or self._error is not None:
            return False
        self._served = anyio.current_time()
        self._write(file, *self._ready.popleft())
        self._notify()
        return True

    async def abandon(self) -> None:
        """Remove what may be there, within a deadline, whatever the caller's state; give the connection up if it does not answer."""
        if not self._creating:
            return
        if self._handles is not None:
            self._handles.close_nowait()
        if self.home.lost:
            return
        with anyio.move_on_after(CLEANUP_DEADLINE, shield=True) as scope, suppress(BackendError):
            await self.home.remove(self.path)
        if scope.cancelled_caught:
            self.home.give_up()

    async def _send_blocks(self, body: Body) -> None:
        """Returns when all was sent, and what went elsewhere than home was answered."""
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                async with body.open() as chunks:
                    async for chunk in chunks:
                        if body.size - self._cut > _WORTH_HELP:
                            self.handles.spread(tasks)
                        self._cut_up(chunk)
                        await self._wait(lambda: len(self._ready) <= _READY)
                        self._on_progress(self._dealer.left())
                await self._wait(lambda: not self._ready and not self._unanswered[False])
                tasks.cancel_scope.cancel()  # a handle that is not open yet comes too late

    def _cut_up(self, chunk: bytes) -> None:
        size = len(chunk)
        step = -(-size // max(1, -(-size // self.home.block)))  # even blocks: no small one at the end of each chunk
        for at in range(0, size, step or 1):
            self._ready.append((chunk if step == size else chunk[at : at + step], self._cut + at))
        self._cut += size
        self._dealer.offer(self)

    def _write(self, file: File, block: bytes, offset: int) -> None:
        at_home = file is self.handles.home

        def done(error: BackendError | None) -> None:
            self._unanswered[at_home] -= 1
            if error is not None and at_home:
                self._error = self._error or error
            elif error is not None:
                self.handles.leave(file.connection)
                self._ready.appendleft((block, offset))
                self.left += len(block)
                self._dealer.offer(self)
            self._notify()

        self.began = True
        self.left -= len(block)
        self._unanswered[at_home] += 1
        file.connection.reserve(len(block))
        try:
            file.connection.write(file, block, offset, done)
        except BackendError as error:
            file.connection.unanswered -= len(block)
            done(error)

    async def _finish(self) -> Attributes:
        # Behind the last WRITE, in the same flight (performance, section 10.7).
        home, file = self.home, self.handles.home
        sync, asked = home.ask_sync(file), home.ask_status(file)
        closing = [(connection, connection.ask_close(each)) for connection, each in self.handles.files.items() if not connection.lost]
        self.handles.files.clear()
        synced = await home.succeeded(sync, "cannot fsync")
        status = await home.status_of(asked)
        for connection, answer in closing:
            # After an fsync, which is of the file and not of the handle, the helpers' CLOSEs tell nothing more; one may lie behind a lost packet.
            if not synced or connection is home:
                await connection.succeeded(answer, "cannot close")
        return status

    async def _wait(self, until: Callable[[], bool]) -> None:
        """Raises the first error."""
        while self._error is None and not until():
            await self._changed.wait()
        if self._error is not None:
            raise self._error

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
