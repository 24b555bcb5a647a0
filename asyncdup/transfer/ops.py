"""One op: a verb on a name, from its acceptance to one of its four ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import anyio

from asyncdup.backends.base import Body
from asyncdup.transfer.limits import Place, Ticket
from asyncdup.transfer.retry import Done

T = TypeVar("T")
C = TypeVar("C")

OnStored = Callable[[Any], Awaitable[None]]


class Call(Protocol):
    """``call_persistently`` bound to the lane and the ticket of an op."""

    async def __call__(self, txn: Callable[[], Awaitable[C]], *, reconcile: Callable[[], Awaitable[Done[C] | None]] | None = None) -> C: ...


@runtime_checkable
class SupportsRelease(Protocol):
    """A body that holds something until it is stored or given up, such as a file of the spool."""

    async def release(self) -> None: ...


class Work(Generic[T]):
    """What an op does, apart from when. Dropped when the op ends, so that a finished op is a small record.

    Attributes:
        act: does it, by one ``call`` or several.
        size: bytes of the body, or expected; 0 if unknown.
        on_stored: awaited with the value, inside the op, before it counts as done.
    """

    __slots__ = ("act", "after", "body", "on_stored", "place", "size")

    def __init__(
        self,
        act: Callable[[Call], Awaitable[T]],
        *,
        body: Body | None = None,
        size: int = 0,
        after: Sequence[Op[Any]] = (),
        on_stored: OnStored | None = None,
    ) -> None:
        self.act = act
        self.body = body
        self.size = size
        self.after = tuple(after)
        self.on_stored = on_stored
        self.place: Place | None = None  # in the lane's backlog


class Op(Generic[T]):
    """A verb on a name, accepted by the engine. ``await op.result()`` gives what the verb gives, or raises why it failed.

    Attributes:
        ticket: verb, name, number and level, as the gate sees them.
        error: why it failed; None if it has not.
        observed: somebody has been told of ``error``, or will be, so that the engine need not raise it at its end.
    """

    __slots__ = ("_done", "_finished", "_value", "error", "observed", "scope", "ticket", "work")

    def __init__(self, ticket: Ticket, work: Work[T]) -> None:
        self.ticket = ticket
        self.work: Work[T] | None = work
        self.error: Exception | None = None
        self.observed = False
        self.scope: anyio.CancelScope | None = anyio.CancelScope()
        self._value: T | None = None
        self._done = False
        self._finished: anyio.Event | None = None  # made for the first who waits: most ops are never waited for one by one

    @property
    def verb(self) -> str:
        """put, get, ..."""
        return self.ticket.verb

    @property
    def name(self) -> str:
        """The object's name; the prefix of a list."""
        return self.ticket.name

    @property
    def done(self) -> bool:
        """Whether it has ended, in any way."""
        return self._done

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self._done and self.error is None

    @property
    def value(self) -> T:
        """What the verb gave. Only for an op that has succeeded."""
        return self._value  # type: ignore[return-value]  # set when it succeeded, and T may itself be None

    def cancel(self) -> None:
        """End it soon. Idempotent; without effect on an op that is done."""
        if self.scope is not None:
            self.scope.cancel()

    async def wait(self) -> None:
        """Return when it has ended, in any way."""
        if not self._done:
            self._finished = self._finished or anyio.Event()
            await self._finished.wait()

    async def result(self) -> T:
        """The value, when it has ended.

        Raises:
            Exception: the root cause of its failure; DependencyFailed; OperationCancelled.
        """
        await self.wait()
        if self.error is not None:
            self.observed = True
            raise self.error
        return self.value

    def succeed(self, value: T) -> None:
        """The end: it has a value."""
        self._value = value
        self._end()

    def fail(self, error: Exception) -> None:
        """The end: ``error`` says why there is no value."""
        self.error = error
        self._end()

    def _end(self) -> None:
        self._done = True
        self.work = self.scope = None
        self.ticket.last = None
        if self._finished is not None:
            self._finished.set()

    def __repr__(self) -> str:
        state = "accepted" if not self._done else "done" if self.error is None else f"failed: {self.error!r}"
        return f"<Op {self.ticket.number} {self.ticket}: {state}>"
