"""Objects in order, whatever the order of their completion: reading ahead and writing behind (engine rules O1-O8).

Classes, not generators: their ops run in the engine's task group, and the ``async with`` block says when they end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel

from asyncdup.backends.base import Body, ObjectInfo, SupportsLocalFiles
from asyncdup.errors import Drained, IntegrityError, in_words
from asyncdup.events import Blocked, Event, Notice, Unblocked
from asyncdup.transfer.download import Download
from asyncdup.transfer.failure import add_note, sole
from asyncdup.transfer.in_place import InPlace
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import CLEANUP, DiskRefused, Level, Ticket
from asyncdup.transfer.ops import Call, OnStored, Op, Work
from asyncdup.transfer.parts import PartJournal
from asyncdup.transfer.runner import Runner
from asyncdup.transfer.spool import Spool, SpoolFile

Out = TypeVar("Out")

FETCHES = 3  # of an object whose bytes are not what was expected (O7)
IN_FLIGHT = 4 << 20  # bytes: what an attempt that streams to or from a file holds in memory at a time
UNKNOWN = 32 << 20  # bytes of room for an object of unknown size


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """An object to be read, and what is known of it. ``digests``: ``hashlib`` name to hex digest; all are checked.

    ``in_place``: the item may be a link to the object itself where that is a local file, so its file must not be written to.
    """

    name: str
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    in_place: bool = False


class ReadItem:
    """An object that was read and verified. Its file is the consumer's until the next item is asked for."""

    __slots__ = ("_file", "name", "path", "size")

    def __init__(self, name: str, size: int, file: SpoolFile) -> None:
        self.name = name
        self.size = size
        self.path = file.path
        self._file = file

    def keep(self) -> Path:
        """The file is the caller's for good: nobody else removes it."""
        return self._file.keep()

    async def discard(self) -> None:
        """Remove the file, unless it was kept. Idempotent."""
        await self._file.discard()


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a position gives with ``errors="yield"``: an item or an error."""

    name: str
    item: ReadItem | None
    error: Exception | None


class OrderedReader(Generic[Out]):
    """An asynchronous iterator over the objects of ``requests``, in their order. Use it with ``async with``.

    At most ``window`` objects are on their way, waiting or in the consumer's hands. An error is raised at its position; then, and at the
    end, the iterator is finished. Leaving the block ends and removes whatever the consumer did not keep.
    """

    def __init__(
        self,
        runner: Runner,
        lane: Lane,
        spool: Spool,
        requests: Iterable[ReadRequest | str],
        *,
        window: int | None,
        give: Callable[[Op[ReadItem]], Out],
        job: str = "",
    ) -> None:
        self.closed = False
        self._runner = runner
        self._lane = lane
        self._spool = spool
        self._requests: Iterator[ReadRequest | str] = iter(requests)
        self._window = window
        self._give = give
        self._job = job
        self._ops: deque[Op[ReadItem]] = deque()  # started and not yet given out, in order
        self._held: ReadItem | None = None  # in the consumer's hands
        self._given: tuple[int, float] | None = None  # the op whose outcome the consumer works on, and since when

    async def __aenter__(self) -> Self:
        if not self._lane.inline:
            self._start_some()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Out:
        if self.closed:
            raise StopAsyncIteration
        self._consumed()
        await self._let_go()
        self._start_some()
        if not self._ops:
            await self.aclose()
            raise StopAsyncIteration
        head = self._ops[0]
        self._promote(head)
        await head.wait()
        await anyio.lowlevel.checkpoint_if_cancelled()  # one that is there already is not given out after a cancel (C5)
        self._ops.popleft()
        if head.error is None:
            self._held = head.value
        self._given = head.ticket.number, anyio.current_time()
        self._runner.emit(Blocked(lane=self._lane.name, op=head.ticket.number, what="consumer"))
        try:
            return self._give(head)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End: cancel what runs, wait for it, remove its files. Idempotent; not cut short by a cancellation."""
        self.closed = True
        self._consumed()
        ops = tuple(self._ops)
        self._ops.clear()
        for op in ops:
            op.cancel()
        with anyio.move_on_after(CLEANUP, shield=True):
            await self._let_go()
            for op in ops:
                await op.wait()
                if op.succeeded:
                    await op.value.discard()

    def _consumed(self) -> None:
        """The consumer asks for more, or leaves."""
        given, self._given = self._given, None
        if given is not None:
            number, since = given
            self._runner.emit(Unblocked(lane=self._lane.name, op=number, what="consumer", seconds=anyio.current_time() - since))

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.discard()

    def _start_some(self) -> None:
        """Start what the window allows; behind an object that has failed for good, nothing more (O3)."""
        if self._give is give_item and any(op.error for op in self._ops):
            return
        window = self._lane.gate.limit + 1 if self._window is None else self._window
        if self._lane.inline:
            window = 1
        while len(self._ops) < window:
            request = next(self._requests, None)
            if request is None:
                return
            self._ops.append(self._start(ReadRequest(request) if isinstance(request, str) else request))

    def _start(self, request: ReadRequest) -> Op[ReadItem]:
        size = UNKNOWN if request.size is None else request.size
        ticket = self._runner.ticket(
            "get", request.name, level=Level.DATA, memory=min(size, IN_FLIGHT), turn=self._lane.gate.turns.next(self._job)
        )
        fetch = _Fetch(self._lane, self._spool, request, ticket, self._runner.emit)
        op = self._runner.start(self._lane, ticket, Work(fetch, size=request.size or 0))
        op.observed = True  # its error is raised at its position, or dropped with the iterator
        return op

    def _promote(self, head: Op[ReadItem]) -> None:
        """The consumer waits for it: it goes before other data, and past the spool's bound (O2)."""
        self._lane.gate.promote(head.ticket, Level.HEAD)
        self._spool.room.review()


def give_item(op: Op[ReadItem]) -> ReadItem:
    """With ``errors="raise"``."""
    if op.error is not None:
        raise op.error
    return op.value


def give_result(op: Op[ReadItem]) -> ReadResult:
    """With ``errors="yield"``."""
    return ReadResult(op.name, None if op.error else op.value, op.error)


class _Fetch:
    """What the op of one position does. Knows nothing of the reader, so that nobody keeps the other alive."""

    def __init__(self, lane: Lane, spool: Spool, request: ReadRequest, ticket: Ticket, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._lane = lane
        self._spool = spool
        self._request = request
        self._ticket = ticket

    async def __call__(self, call: Call) -> ReadItem:
        request = self._request
        file = await self._spool.for_reading(UNKNOWN if request.size is None else request.size, self._ticket)
        try:
            download = self._download(file.path)
            try:
                size = await self._verified(call, download, file)
            finally:
                await download.close()
        except BaseException:
            await file.discard()
            raise
        return ReadItem(request.name, size, file)

    def _download(self, path: Path) -> Download | InPlace:
        request, backend = self._request, self._lane.backend
        if request.in_place and isinstance(backend, SupportsLocalFiles):
            return InPlace(backend, request.name, path, size=request.size, digests=request.digests)
        return Download(backend, request.name, path, size=request.size, digests=request.digests)

    async def _verified(self, call: Call, download: Download | InPlace, file: SpoolFile) -> int:
        for _ in range(FETCHES - 1):
            try:
                return await self._fetch(call, download, file)
            except IntegrityError as error:
                self._emit(Notice(lane=self._lane.name, op=self._ticket.number, message=f"{error}; fetching it again"))
                download.restart()
        return await self._fetch(call, download, file)

    async def _fetch(self, call: Call, download: Download | InPlace, file: SpoolFile) -> int:
        while True:
            try:
                await call(download.attempt)
                return download.check()
            except DiskRefused as refused:
                lack = refused
            await file.write_again(lack.error, lack.again)  # the slot at the target is given back meanwhile (S2)


class Writer:
    """Puts in order of submission. ``put`` returns when the object is accepted, ``aclose`` when all are durable (O8).

    Leaving the block on an exception cancels what is not done, except that after Drained what was accepted is finished (X3).
    """

    def __init__(self, submit: Callable[..., Awaitable[Op[ObjectInfo]]]) -> None:
        self._submit = submit
        self._pending: deque[Op[ObjectInfo]] = deque()  # in order; from the left those that have succeeded are dropped

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            await self.aclose()
        elif isinstance(sole(error), Drained):
            await self._wait()
        else:
            await self._cancel()

    async def put(
        self,
        name: str,
        body: Body,
        *,
        after: Sequence[Op[Any]] = (),
        on_stored: OnStored | None = None,
        absent: bool = False,
        metadata: bool = False,
        parts: PartJournal | None = None,
    ) -> Op[ObjectInfo]:
        """Accept an object; waits while a bound is reached. Arguments as of ``Engine.submit``.

        Raises:
            Drained: the engine takes nothing new.
            Exception: the failure of an earlier put of this writer, so that a producer does not go on in vain.
        """
        self._raise_failures()
        op = await self._submit(name, body, after=after, on_stored=on_stored, absent=absent, metadata=metadata, parts=parts)
        op.observed = True  # its error is raised here
        self._pending.append(op)
        return op

    async def aclose(self) -> None:
        """Wait until all are durable. Raises the first failure in order of submission, with later ones as notes."""
        await self._wait()
        self._raise_failures()

    def _raise_failures(self) -> None:
        while self._pending and self._pending[0].succeeded:
            self._pending.popleft()
        errors = [(op, op.error) for op in self._pending if op.error is not None]
        if not errors:
            return
        (_, first), *later = errors
        for op, error in later:
            add_note(first, f"{op.ticket} failed, too: {in_words(error)}")
        raise first

    async def _wait(self) -> None:
        for op in tuple(self._pending):
            await op.wait()

    async def _cancel(self) -> None:
        for op in self._pending:
            op.cancel()
        with anyio.move_on_after(CLEANUP, shield=True):
            for op in self._pending:
                await op.wait()
