"""One stored file and its threads. Writing: two pieces at once are transformed, and all are written in order. Reading: one step a chunk."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, Generic, NamedTuple, TypeVar

from asyncdup.codecs.base import Chunks, StoredFile
from asyncdup.threads import settled, start_in_thread, thread_result

AT_ONCE = 2  # pieces: with 1 MiB each, and as much again compressed, the pipeline holds 4 MiB

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Job(NamedTuple):
    done: asyncio.Future[int]  # gives the bytes that were written for the piece
    size: int  # of the plain piece


class Pipeline(Generic[Item]):
    """Feeds pieces through ``transform`` and hands each, with its result, to ``write``, one after another in the order they came.

    Both run in threads. No task carries the work, so a pipeline may outlive the cancel scopes it was used in; who makes one awaits ``settle``
    at the end, having made sure that ``write`` cannot block for ever.

    ``stored``: the file that ``write`` writes to, once a piece and as the last thing it does. What the disk refuses is written again if
    ``stored`` allows it.

    ``written`` counts bytes given to ``write``, ``pending`` plain bytes not yet in it; both change in ``feed`` and ``drain`` only.
    """

    def __init__(self, transform: Callable[[Item], bytes], write: Callable[[Item, bytes], None], stored: StoredFile | None = None) -> None:
        self.written = self.pending = 0
        self._stored = stored
        self._transform = transform
        self._write = write
        self._jobs: deque[_Job] = deque()  # oldest first; one that failed stays, so that every later call fails, too
        self._last: asyncio.Future[Any] | None = None
        self._begun = 0
        # Of the threads, under the lock: pieces that wait for those before them.
        self._lock = threading.Lock()
        self._ready: dict[int, tuple[Item, bytes]] = {}
        self._next = 0
        self._refusal: OSError | None = None  # piece ``_next`` is not all written

    async def feed(self, item: Item, size: int) -> None:
        """Take a piece of ``size`` plain bytes as soon as a place is free. Raises what an earlier piece met."""
        while len(self._jobs) >= AT_ONCE:
            await self._oldest()
        self._jobs.append(_Job(start_in_thread(self._run, self._begun, item), size))
        self._begun += 1
        self.pending += size

    async def drain(self) -> None:
        """Wait until all pieces are written."""
        while self._jobs:
            await self._oldest()

    async def end(self, last: Callable[[], Result]) -> Result:
        """Wait until all pieces are written, then for ``last``, which runs in a thread; after an OSError again."""
        await self.drain()
        while True:
            self._last = start_in_thread(last)
            try:
                return await thread_result(self._last)
            except OSError as error:
                if self._stored is None:
                    raise
                await self._stored.repeat(error, self._stored.flush)

    async def settle(self) -> None:
        """Wait until no thread is at work, whatever became of it; cannot be cancelled."""
        await settled(*(job.done for job in self._jobs), *([self._last] if self._last else []))

    async def _oldest(self) -> None:
        job = self._jobs[0]
        written = await thread_result(job.done)
        if self._refusal is not None and self._stored is not None:
            await self._stored.repeat(self._refusal, self._write_again)
        self._jobs.popleft()
        self.written += written
        self.pending -= job.size

    def _run(self, number: int, item: Item) -> int:
        data = self._transform(item)
        with self._lock:
            self._ready[number] = item, data
            if self._refusal is None:
                try:
                    self._write_ready()
                except OSError as error:
                    if self._stored is None:
                        raise
                    self._refusal = error
        return len(data)

    def _write_ready(self) -> None:
        """The thread that closes a gap writes what waited behind it."""
        while self._next in self._ready:
            self._write(*self._ready.pop(self._next))
            self._next += 1

    def _write_again(self) -> None:
        """The rest of the piece that was refused, and what waits behind it. After an OSError it may be called again."""
        assert self._stored is not None
        with self._lock:
            self._stored.flush()
            self._next += 1
            self._write_ready()
            self._refusal = None


@asynccontextmanager
async def read_chunks(chunks: Generator[bytes, None, None], *, stop: Callable[[], None] | None = None) -> AsyncGenerator[Chunks, None]:
    """What a blocking generator yields, each step in a thread; at the end the generator is closed.

    ``stop`` makes a step end that would take long; it is called first.
    """
    reader = _Chunks(chunks)
    try:
        yield reader
    finally:
        if stop is not None:
            stop()
        await reader.settle()
        chunks.close()


class _Chunks:
    """A class and no async generator: one that is left early would be finished by a task that nobody owns."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._step: asyncio.Future[Any] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        step: asyncio.Future[bytes | None] = start_in_thread(next, self._chunks, None)
        self._step = step
        chunk = await thread_result(step)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def pour(self, take: Callable[[bytes], bool], size: int) -> bool:
        step = start_in_thread(self._pour, take, size)
        self._step = step
        return await thread_result(step)

    def _pour(self, take: Callable[[bytes], bool], size: int) -> bool:
        for chunk in self._chunks:
            size -= len(chunk)
            if not take(chunk) or size <= 0:
                return True
        return False

    async def settle(self) -> None:
        if self._step is not None:
            await settled(self._step)
