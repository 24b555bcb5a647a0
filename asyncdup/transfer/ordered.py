"""Objects in order, whatever the order of their completion: reading ahead and writing behind (engine rules O1-O8).

Classes, not generators: their ops run in the engine's task group, and the ``async with`` block says when they end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel

from asyncdup.backends.base import Body, ObjectInfo
from asyncdup.errors import Drained, in_words
from asyncdup.events import Blocked, Unblocked
from asyncdup.transfer.failure import add_note, sole
from asyncdup.transfer.fetch import IN_FLIGHT, UNKNOWN, Ahead, Fetch, ReadItem, ReadRequest
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import CLEANUP, Level
from asyncdup.transfer.ops import OnStored, Op, Work
from asyncdup.transfer.parts import PartJournal
from asyncdup.transfer.runner import Runner
from asyncdup.transfer.spool import Spool

Out = TypeVar("Out")


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
        hedge: bool = False,
    ) -> None:
        self.closed = False
        self._runner = runner
        self._lane = lane
        self._spool = spool
        self._requests: Iterator[ReadRequest | str] = iter(requests)
        self._window = window
        self._give = give
        self._job = job
        self._hedge = hedge
        self._ahead = Ahead()
        self._ops: deque[Op[ReadItem]] = deque()  # started and not yet given out, in order
        self._fetches: deque[Fetch] = deque()  # of these
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
        await self._wait(head)
        await anyio.lowlevel.checkpoint_if_cancelled()  # one that is there already is not given out after a cancel (C5)
        self._ops.popleft()
        self._fetches.popleft()
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
        self._fetches.clear()
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
                self._ahead.more = False
                return
            self._ops.append(self._start(ReadRequest(request) if isinstance(request, str) else request))

    def _start(self, request: ReadRequest) -> Op[ReadItem]:
        size = UNKNOWN if request.size is None else request.size
        ticket = self._runner.ticket(
            "get", request.name, level=Level.DATA, memory=min(size, IN_FLIGHT), turn=self._lane.gate.turns.next(self._job)
        )
        fetch = Fetch(self._lane, self._spool, request, ticket, self._runner.emit, ahead=self._ahead, hedge=self._hedge)
        self._ahead.unfinished += 1
        self._fetches.append(fetch)
        op = self._runner.start(self._lane, ticket, Work(fetch, size=request.size or 0))
        op.observed = True  # its error is raised at its position, or dropped with the iterator
        return op

    def _promote(self, head: Op[ReadItem]) -> None:
        """The consumer waits for it: it goes before other data, and past the spool's bound (O2)."""
        self._lane.gate.promote(head.ticket, Level.HEAD)
        self._spool.room.review()

    async def _wait(self, head: Op[ReadItem]) -> None:
        """Until it is done. While it is late, ask for a second attempt now and then: what must hold for one may come true later (H1)."""
        race = self._fetches[0].race
        while race is not None and not head.done:
            with anyio.move_on_after(max(0.0, race.due() - anyio.current_time())):
                await head.wait()
            if not head.done:
                race.hedge([op.done for op, fetch in zip(self._ops, self._fetches, strict=True) if op is not head and fetch.began])
        await head.wait()


def give_item(op: Op[ReadItem]) -> ReadItem:
    """With ``errors="raise"``."""
    if op.error is not None:
        raise op.error
    return op.value


def give_result(op: Op[ReadItem]) -> ReadResult:
    """With ``errors="yield"``."""
    return ReadResult(op.name, None if op.error else op.value, op.error)


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
