"""Runs accepted ops in the engine's task group: barriers first, then the attempts, then one end event each (engine rules S5, V3)."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from asyncdup.errors import DependencyFailed, OperationCancelled
from asyncdup.events import Blocked, Event, OpCancelled, OpFailed, OpQueued, OpSkipped, OpStarted, OpSucceeded, Unblocked
from asyncdup.transfer.failure import describe, sole
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import Level, Ticket
from asyncdup.transfer.ops import Op, SupportsRelease, Work
from asyncdup.transfer.retry import call_persistently

T = TypeVar("T")


class Runner:
    """The ops of one engine. ``on_first_success`` is awaited once, inside the op (G10)."""

    def __init__(self, tasks: TaskGroup, emit: Callable[[Event], None]) -> None:
        self.on_first_success: Callable[[], Awaitable[None]] | None = None
        self._tasks = tasks
        self.emit = emit
        self._numbers = itertools.count(1)
        self._unfinished: set[Op[Any]] = set()
        self._failed: list[Op[Any]] = []  # in the order of failing; those that somebody was told of are dropped at the next failure

    def ticket(self, verb: str, name: str, *, level: Level, memory: int, turn: int) -> Ticket:
        """A ticket for a new op; its number is its age."""
        return Ticket(verb=verb, name=name, number=next(self._numbers), level=level, memory=memory, turn=turn)

    def start(self, lane: Lane, ticket: Ticket, work: Work[T]) -> Op[T]:
        """Accept an op and run it in the background."""
        op = self._accept(lane, ticket, work)
        self._tasks.start_soon(self._run, lane, op, work)
        return op

    async def run_inline(self, lane: Lane, ticket: Ticket, work: Work[T]) -> Op[T]:
        """Accept an op and run it to its end in the calling task (S1, concurrency 0). Its failure is in the op."""
        op = self._accept(lane, ticket, work)
        await self._run(lane, op, work)
        return op

    async def wait(self) -> None:
        """Return when every op has ended."""
        while self._unfinished:
            await next(iter(self._unfinished)).wait()

    async def settle(self) -> None:
        """Wait until every op has ended. Raises the failure that nobody was told of, of the oldest op."""
        await self.wait()
        unseen = sorted((op for op in self._failed if not op.observed), key=lambda op: op.ticket.number)
        for op in unseen:
            await op.result()

    def _accept(self, lane: Lane, ticket: Ticket, work: Work[T]) -> Op[T]:
        op = Op(ticket, work)
        self._unfinished.add(op)
        self.emit(OpQueued(lane=lane.name, op=ticket.number, verb=ticket.verb, name=ticket.name, size=work.size))
        return op

    async def _run(self, lane: Lane, op: Op[T], work: Work[T]) -> None:
        began = anyio.current_time()
        assert op.scope is not None
        try:
            with op.scope:
                try:
                    value = await self._serve(lane, op, work)
                finally:
                    if isinstance(work.body, SupportsRelease):
                        await work.body.release()
                op.succeed(value)
                self.emit(OpSucceeded(**_labels(lane, op), bytes=work.size, seconds=anyio.current_time() - began))
        except Exception as error:  # noqa: BLE001 - the op's failure is its result; who waits for it gets it raised
            self._fail(lane, op, sole(error))
        finally:
            if not op.done:
                op.fail(OperationCancelled(f"{op.ticket} was cancelled"))
                self.emit(OpCancelled(**_labels(lane, op)))
            self._unfinished.discard(op)
            if work.place is not None:
                lane.backlog.give(work.place)

    async def _serve(self, lane: Lane, op: Op[T], work: Work[T]) -> T:
        await self._follow(lane, op, work.after)
        self.emit(OpStarted(**_labels(lane, op)))
        value = await work.act(partial(call_persistently, gate=lane.gate, op=op.ticket, emit=self.emit))
        if self.on_first_success is not None:
            hook, self.on_first_success = self.on_first_success, None
            await hook()
        if work.on_stored is not None:
            await work.on_stored(value)
        return value

    async def _follow(self, lane: Lane, op: Op[T], after: Sequence[Op[Any]]) -> None:
        """Return when all of ``after`` have succeeded (S5). Raises DependencyFailed when the first of them has not."""
        if all(earlier.succeeded for earlier in after):
            return
        began = anyio.current_time()
        self.emit(Blocked(lane=lane.name, op=op.ticket.number, what="barrier"))
        try:
            for earlier in after:
                await earlier.wait()
                if earlier.error is not None:
                    raise DependencyFailed(f"{op.ticket} was not sent: {earlier.ticket} did not succeed") from earlier.error
        finally:
            self.emit(Unblocked(lane=lane.name, op=op.ticket.number, what="barrier", seconds=anyio.current_time() - began))

    def _fail(self, lane: Lane, op: Op[T], error: Exception) -> None:
        op.fail(error)
        if isinstance(error, DependencyFailed):
            op.observed = True  # the failure behind it is another op's, and raised there
            self.emit(OpSkipped(**_labels(lane, op)))
            return
        self._failed = [*(earlier for earlier in self._failed if not earlier.observed), op]
        self.emit(OpFailed(**_labels(lane, op), error=describe(error)))


def _labels(lane: Lane, op: Op[Any]) -> dict[str, Any]:
    return {"lane": lane.name, "op": op.ticket.number, "verb": op.verb, "name": op.name}
