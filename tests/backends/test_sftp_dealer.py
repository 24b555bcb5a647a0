"""Which connection carries which block (performance, section 10.1 and 10.6), with connections that are none, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, cast

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.sftp.connection import Connection, File
from asyncdup.backends.sftp.dealer import Dealer, Handles
from asyncdup.backends.sftp.download import Download
from asyncdup.backends.sftp.packets import Attributes
from asyncdup.backends.sftp.upload import Upload
from asyncdup.errors import BackendError, RetryableError

BLOCK = 1 << 10
WINDOW = 8 * BLOCK


def marked(size: int) -> bytes:
    """Bytes in which every block is another."""
    return b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(-(-size // BLOCK)))[:size]


class FakeConnection:
    """Answers one block after another, each after ``pace`` seconds; the server's file is shared by all of them."""

    def __init__(self, server: Server, pace: float) -> None:
        self.place = "sftp://fake"
        self.block, self.window = BLOCK, WINDOW
        self.unanswered = self.most_unanswered = self.carried = self.opened = self.closed = 0
        self.never_closes = False
        self.one_file_system = True
        self.lost = self.stuck = False
        self.refuses: BackendError | None = None
        self.on_room: Callable[[], None] = lambda: None
        self._server = server
        self._pace = pace
        self._queue: list[tuple[int, Callable[[BackendError | None], None]]] = []
        self._work = anyio.Event()

    def has_room(self, size: int) -> bool:
        return not self.unanswered or self.unanswered + size <= self.window

    def reserve(self, size: int) -> None:
        self.unanswered += size

    def release(self, size: int) -> None:
        self.unanswered -= size
        self.on_room()

    async def create(self, path: bytes) -> File:
        return await self.open(path)

    async def open(self, path: bytes, *, for_writing: bool = False) -> File:
        await anyio.sleep(self._pace)
        self.opened += 1
        return File(cast(Connection, self), b"%d" % self.opened)

    def write(self, file: File, block: bytes, offset: int, done: Callable[[BackendError | None], None]) -> None:
        def finish(error: BackendError | None) -> None:
            if error is None:
                self._server.store(block, offset)
            done(error)

        self._enqueue(len(block), finish)

    def read(self, file: File, size: int, offset: int, got: Callable[[bytes, BackendError | None], None]) -> None:
        def finish(error: BackendError | None) -> None:
            self._server.asked.append(offset)
            got(b"" if error else bytes(self._server.data[offset : offset + min(size, self._server.most)]), error)

        self._enqueue(size, finish)

    def ask_sync(self, file: File) -> str | None:
        self._server.synced_at = len(self._server.written)
        return "sync" if self._server.says_it_can_sync else None

    def ask_status(self, file: File) -> anyio.Event:
        answered = anyio.Event()
        self._enqueue(0, lambda error: answered.set())  # in order, as everything else
        return answered

    def ask_close(self, file: File) -> str:
        self.closed += 1
        return "close"

    async def succeeded(self, answer: object, doing: str) -> bool:
        if answer == "close" and self.never_closes:
            await anyio.sleep_forever()
        return answer is not None and self._server.can_sync

    async def status_of(self, answer: anyio.Event) -> Attributes:
        await answer.wait()
        return Attributes(len(self._server.data))

    async def remove(self, path: bytes) -> None:
        self._server.data.clear()

    async def run(self) -> None:
        while True:
            while not self._queue or self.stuck:
                await self._work.wait()
            await anyio.sleep(self._pace)
            if self._queue and not self.stuck:
                self._answer(self.refuses)

    def cut(self) -> None:
        self.lost = True
        while self._queue:
            self._answer(RetryableError("cut"))

    def _enqueue(self, size: int, finish: Callable[[BackendError | None], None]) -> None:
        if self.lost:
            raise RetryableError("lost")
        self.most_unanswered = max(self.most_unanswered, self.unanswered)
        self._queue.append((size, finish))
        self._work.set()
        self._work = anyio.Event()

    def _answer(self, error: BackendError | None) -> None:
        size, finish = self._queue.pop(0)
        self.carried += 0 if error else size
        finish(error)
        self.release(size)


class Server:
    """Fake connections of one pace each, and the file that they all see."""

    def __init__(self, *paces: float, data: bytes = b"", most: int = 1 << 30) -> None:
        self.data = bytearray(data)
        self.most = most  # bytes that a READ gives
        self.written: list[int] = []
        self.asked: list[int] = []
        self.says_it_can_sync = self.can_sync = True
        self.can_sync = True
        self.connections = [FakeConnection(self, pace) for pace in paces]
        self.dealer = Dealer(lambda: cast("list[Connection]", [each for each in self.connections if not each.lost]))
        for connection in self.connections:
            connection.on_room = partial(self.dealer.deal, cast(Connection, connection))

    def store(self, block: bytes, offset: int) -> None:
        self.written.append(offset)
        self.data.extend(bytes(max(0, offset + len(block) - len(self.data))))
        self.data[offset : offset + len(block)] = block

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        async with anyio.create_task_group() as tasks:
            for connection in self.connections:
                tasks.start_soon(connection.run)
            yield
            tasks.cancel_scope.cancel()

    def home(self, number: int = 0) -> Connection:
        return cast(Connection, self.connections[number])

    async def put(self, data: bytes, *, home: int = 0) -> Upload:
        upload = Upload(self.dealer, self.home(home), b"temp", on_progress=lambda left: None)
        await upload.create()
        await upload.send(BytesBody(data))
        return upload

    @asynccontextmanager
    async def get(self, *, home: int = 0, end: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        handles = Handles(self.dealer, await self.home(home).open(b"x"), b"x", for_writing=False)
        async with anyio.create_task_group() as tasks:
            download = Download(self.dealer, handles, tasks, 0, end)
            try:
                yield download
            finally:
                download.close_nowait()
                tasks.cancel_scope.cancel()

    async def read(self, **options: Any) -> bytes:
        async with self.get(**options) as chunks:
            return b"".join([chunk async for chunk in chunks])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is worth it from two blocks."""
    for module in ("sftp.upload", "sftp.download"):
        monkeypatch.setattr(f"asyncdup.backends.{module}._WORTH_HELP", 2 * BLOCK)


async def test_one_upload_goes_over_all_connections_in_proportion_to_their_pace() -> None:
    server = Server(0.1, 0.1, 0.4)
    data = marked(3_000 * BLOCK)
    async with server.running():
        began = anyio.current_time()
        await server.put(data)
        took = anyio.current_time() - began

    assert server.data == data
    carried = [connection.carried // BLOCK for connection in server.connections]
    assert sum(carried) == 3_000 and min(carried[:2]) > 3.5 * carried[2]
    assert took < 1.05 * 3_000 / (10 + 10 + 2.5)


async def test_no_connection_is_given_more_than_its_window() -> None:
    server = Server(0.1, 0.3)
    async with server.running():
        await server.put(marked(200 * BLOCK))

    assert [connection.most_unanswered for connection in server.connections] == [WINDOW, WINDOW]


async def test_an_upload_is_synced_when_every_block_was_answered_and_every_handle_is_closed() -> None:
    """P6: what another handle wrote is synced, too."""
    server = Server(0.1, 0.2, 5.0)
    async with server.running():
        await server.put(marked(100 * BLOCK))

    assert server.synced_at == 100
    assert [(connection.opened, connection.closed) for connection in server.connections] == [(1, 1)] * 3


async def test_a_small_body_stays_at_home_and_its_end_travels_behind_its_last_block() -> None:
    server = Server(0.1, 0.1)
    async with server.running():
        await server.put(marked(2 * BLOCK))

    assert [connection.opened for connection in server.connections] == [1, 0]
    assert server.synced_at == 0  # asked for before a block was answered: three round trips with open and rename


async def test_uploads_end_one_after_the_other_and_no_younger_one_is_forgotten() -> None:
    """If all ended together, all would wait for their ends, renames and successors together. T1: none may look as if it stalled."""
    server = Server(0.1, 0.1)
    ends: dict[int, float] = {}
    waits: dict[int, float] = {}

    async def put(number: int) -> None:
        body = Watched(marked(400 * BLOCK))
        upload = Upload(server.dealer, server.home(number), b"temp", on_progress=lambda left: None)
        await upload.create()
        await upload.send(body)
        ends[number], waits[number] = anyio.current_time(), body.longest

    async with server.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(put, 0)
        tasks.start_soon(put, 1)

    assert ends[0] < 0.7 * ends[1]
    assert ends[1] < 1.05 * 2 * 400 / 20
    assert max(waits.values()) < 2.0 * 10  # of eight blocks


class Watched(BytesBody):
    """Gives eight blocks at once; ``longest``: seconds until more were wanted."""

    longest = 0.0

    @asynccontextmanager
    async def open(self, start: int = 0) -> AsyncGenerator[AsyncIterator[bytes], None]:
        async def chunks() -> AsyncGenerator[bytes, None]:
            for at in range(start, self.size, 8 * BLOCK):
                given = anyio.current_time()
                yield self.data[at : at + 8 * BLOCK]
                type(self).longest = max(self.longest, anyio.current_time() - given)

        async with aclosing(chunks()) as iterator:
            yield iterator


async def test_what_a_lost_connection_was_given_goes_over_another() -> None:
    server = Server(0.1, 0.1)
    data = marked(300 * BLOCK)
    async with server.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(server.put, data)
        await anyio.sleep(3)
        server.connections[1].cut()

    assert server.data == data
    assert server.connections[1].carried > 0
    assert server.dealer.helping


async def test_a_server_that_refuses_the_second_writer_gets_whole_files_from_then_on() -> None:
    server = Server(0.1, 0.1)
    server.connections[1].refuses = RetryableError("Failure")
    data = marked(300 * BLOCK)
    async with server.running():
        await server.put(data)
        assert server.data == data
        assert not server.dealer.helping
        await server.put(data)

    assert server.connections[1].opened == 1


async def test_a_failure_at_home_fails_the_upload() -> None:
    server = Server(0.1, 0.1)
    async with server.running():
        server.connections[0].refuses = RetryableError("Failure")
        with pytest.raises(RetryableError, match="Failure"):
            await server.put(marked(300 * BLOCK))

    assert server.dealer.helping  # a full disk says the same to all


async def test_a_server_that_may_keep_bytes_by_handle_is_written_to_by_one() -> None:
    server = Server(0.1, 0.1)
    server.connections[0].one_file_system = False
    async with server.running():
        await server.put(marked(100 * BLOCK))

    assert [connection.opened for connection in server.connections] == [1, 0]


async def test_a_download_goes_over_all_connections_and_comes_in_order() -> None:
    data = marked(1_000 * BLOCK)
    server = Server(0.1, 0.1, 0.4, data=data)
    async with server.running():
        began = anyio.current_time()
        assert await server.read() == data
        assert anyio.current_time() - began < 1.3 * 1_000 / 22.5

    assert len(server.asked) <= 1.05 * 1_000 + 2048  # H2


async def test_a_block_on_a_connection_that_is_stuck_is_asked_for_once_more_in_the_end() -> None:
    """The reader gets the last block long before the stuck connection comes back."""
    data = marked(60 * BLOCK)
    server = Server(0.1, 0.1, data=data)
    async with server.running():
        with anyio.fail_after(60):
            async with server.get(end=len(data)) as chunks:
                iterator = aiter(chunks)
                got = await anext(iterator)
                while server.connections[1].carried < 5 * BLOCK:
                    got += await anext(iterator)
                server.connections[1].stuck = True
                async for chunk in iterator:
                    got += chunk

    assert got == data


async def test_an_answer_that_is_too_short_is_completed_wherever_it_comes() -> None:
    data = marked(50 * BLOCK + 7)
    server = Server(0.1, 0.1, data=data, most=300)
    async with server.running():
        assert await server.read() == data


async def test_blocks_of_a_lost_connection_are_read_at_home() -> None:
    data = marked(400 * BLOCK)
    server = Server(0.1, 0.1, data=data)
    got: list[bytes] = []

    async def read() -> None:
        got.append(await server.read())

    async with server.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(3)
        server.connections[1].cut()

    assert got == [data]


async def test_downloads_that_nobody_reads_hold_what_is_fixed_whatever_their_size() -> None:
    """P9: twice what all connections carry, and a window each besides."""
    server = Server(0.01, 0.01, data=marked(1_000 * BLOCK))
    async with server.running(), server.get() as one, server.get(home=1) as two, server.get() as three:
        await anyio.sleep(10)
        held = [cast(Download, each).ahead for each in (one, two, three)]

    assert max(held) <= 2 * WINDOW and sum(held) <= 4 * WINDOW + 3 * WINDOW
    assert max(held) > WINDOW


async def test_the_oldest_download_comes_first_and_a_younger_one_is_not_forgotten() -> None:
    data = marked(400 * BLOCK)
    server = Server(0.1, 0.1, data=data)
    ends: dict[int, float] = {}
    first: dict[int, float] = {}

    async def read(number: int) -> None:
        async with server.get(home=number) as chunks:
            async for _ in chunks:
                first.setdefault(number, anyio.current_time())
        ends[number] = anyio.current_time()

    async with server.running():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, 0)
            tasks.start_soon(read, 1)
        began = min(first.values())

    assert ends[0] < 0.75 * ends[1]
    assert first[1] - began < 5


async def test_a_cancelled_upload_asks_for_nothing_more() -> None:
    server = Server(0.1, 0.1)
    async with server.running():
        with anyio.move_on_after(3):
            await server.put(marked(300 * BLOCK))
        await anyio.sleep(20)
        sent = len(server.written)
        await anyio.sleep(20)

    assert len(server.written) == sent < 150
    assert [connection.unanswered for connection in server.connections] == [0, 0]


@pytest.mark.parametrize(("says_it_can_sync", "can_sync"), [(True, True), (True, False), (False, False)])
async def test_a_helper_that_does_not_answer_its_close_holds_up_only_what_was_not_synced(says_it_can_sync: bool, can_sync: bool) -> None:
    """P6: an fsync is of the file and not of a handle, so after one the CLOSE of another handle tells nothing more."""
    server = Server(0.1, 0.1)
    server.says_it_can_sync, server.can_sync = says_it_can_sync, can_sync
    server.connections[1].never_closes = True
    data = bytes(20 * BLOCK)
    async with server.running():
        with anyio.move_on_after(60) as scope:
            await server.put(data)

    assert server.connections[1].carried
    assert scope.cancelled_caught is not can_sync
