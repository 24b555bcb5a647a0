"""``call_persistently``: one transaction, called until it succeeds or fails for good (engine rules C1-C8, B4, I2).

A slot is held around an attempt only. The waits (backoff, closed gate, operator) lie between attempts and can be cancelled at any point.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypedDict, TypeVar

import anyio

from asyncdup.errors import GAVE_UP
from asyncdup.events import AttemptFinished, AttemptStarted, Blocked, Event, Progress, Reconciled, RetryScheduled, Unblocked
from asyncdup.transfer.attempt import Attempt, Interrupted, current_attempt
from asyncdup.transfer.failure import Failure, add_note, classify, describe, explain, sole
from asyncdup.transfer.gate import State
from asyncdup.transfer.lane import Gate
from asyncdup.transfer.limits import Ticket
from asyncdup.transfer.permits import Permit
from asyncdup.transfer.policy import GiveUp, Retry, RetryPolicy, Streak
from asyncdup.units import counted

__all__ = ["Done", "RetryPolicy", "call_persistently", "current_attempt"]

T = TypeVar("T")
_Outcome = Literal["ok", "error", "cancelled"]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What ``reconcile`` returns if the op has taken effect after all: the value that the attempt would have returned."""

    value: T


class _Labels(TypedDict):
    lane: str
    op: int
    attempt: int
    verb: str
    name: str


async def call_persistently(
    txn: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy | None = None,
    gate: Gate | None = None,
    op: Ticket | str | None = None,
    reconcile: Callable[[], Awaitable[Done[T] | None]] | None = None,
    emit: Callable[[Event], None] = lambda event: None,
) -> T:
    """Call ``txn`` until it succeeds or fails for good, and return its value.

    ``txn`` may run any number of times and must not mind; ``current_attempt()`` gives it its number, its deadline, ``progress(n)`` and
    ``durable(n)``. An attempt in which nothing moves for ``policy.stall_timeout`` is ended and retried, so a slow ``txn`` calls ``progress``.
    Waiting can be cancelled at any point; no slot is held meanwhile.

    Args:
        policy: the default is the gate's, else ``RetryPolicy()``.
        gate: whose slots and state to mind. None: a private one, which nobody could resume, so mode ``intervention`` needs one.
        op: what the call is about, for notes and events.
        reconcile: asked before a retry after an ambiguous attempt whether it has taken effect; None for no.

    Raises:
        Exception: whatever ``txn`` raised that is no RetryableError, at once and as it is; after giving up, the root cause of the
            RetryableError; LaneUnavailable or InterruptedByOperator if the gate stopped before the first attempt, or was told to stop.
    """
    if gate is None:
        if policy is not None and policy.mode == "intervention":
            raise ValueError("mode intervention needs a gate that somebody can resume")
        gate = Gate(policy)
    ticket = op if isinstance(op, Ticket) else Ticket(verb=op or "call")
    return await _Call(txn, policy or gate.policy, gate, ticket, reconcile, emit).run()


async def call_once(
    txn: Callable[[], Awaitable[T]], *, gate: Gate, permit: Permit, emit: Callable[[Event], None] = lambda event: None
) -> T:
    """Call ``txn`` one time only, with a permit that is there: for an attempt that nobody needs, such as a hedge.

    However it ends, its permit is given back. Its failure is the caller's to drop: the gate counts it for nothing, but heeds a throttle.

    Raises:
        Exception: whatever ``txn`` raised, as it is.
    """
    return await _Call(txn, gate.policy, gate, permit.ticket, None, emit).once(permit)


class _Call(Generic[T]):
    """The state of one call between its attempts."""

    def __init__(
        self,
        txn: Callable[[], Awaitable[T]],
        policy: RetryPolicy,
        gate: Gate,
        ticket: Ticket,
        reconcile: Callable[[], Awaitable[Done[T] | None]] | None,
        emit: Callable[[Event], None],
    ) -> None:
        self._txn = txn
        self._policy = policy
        self._gate = gate
        self._ticket = ticket
        self._reconcile = reconcile
        self._emit = emit
        self._streak = Streak()
        self._number = 0  # attempts so far
        self._label = 0  # of the newest attempt among those of the op
        self._ambiguous = False  # an attempt may have had its effect, and nobody has looked yet
        self._resumes = gate.resumes
        self._began = anyio.current_time()
        self._waited = 0.0

    async def run(self) -> T:
        while True:
            permit = await self._enter()
            if permit is None:
                raise self._noted(self._gate.refusal(self._ticket))
            outcome = await self._attempt(permit)
            if isinstance(outcome, Done):
                return outcome.value
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, Retry):
                await self._rest(outcome)
                if self._gate.leaves(outcome):
                    raise self._noted(self._gate.refusal(self._ticket))

    async def once(self, permit: Permit) -> T:
        attempt, outcome = await self._try(permit)
        if isinstance(outcome, Done):
            self._gate.succeeded(permit)
        else:
            self._gate.ended(permit, outcome)
            if failure := classify(outcome):
                self._gate.heed(failure)
        self._leave(permit, attempt, None)
        if isinstance(outcome, Done):
            return outcome.value
        raise outcome

    async def _enter(self) -> Permit | None:
        began = anyio.current_time()
        permit = await self._gate.enter(self._ticket)
        now = anyio.current_time()
        self._waited += now - began
        if self._resumes != self._gate.resumes:
            self._resumes, self._streak.failures = self._gate.resumes, 0  # G7
            self._streak.forget()
        if not self._streak.failures:
            self._streak.begin(now, self._gate.diary.held())
        return permit

    async def _attempt(self, permit: Permit) -> Done[T] | Retry | GiveUp | Exception:
        return self._judge(permit, *await self._try(permit))

    async def _try(self, permit: Permit) -> tuple[Attempt, Done[T] | Exception]:
        """Run once. Raised errors come back as values, so that they are raised outside of any ``except`` block (C3)."""
        self._number += 1
        self._label = next(self._ticket.attempts)
        attempt = Attempt(
            self._policy,
            number=self._number,
            on_progress=self._progressed,
            on_durable=self._durable,
            rates=self._gate.rates,
            on_limited=self._limited,
        )
        permit.interrupt, permit.silence = attempt.interrupt, attempt.silence
        began = anyio.current_time()
        self._emit(AttemptStarted(**self._labels(), slot=permit.slot))
        outcome: Done[T] | Exception
        try:
            outcome = Done(await attempt.run(self._once))
        except Exception as error:  # noqa: BLE001 - the one place that classes what an attempt raised (C4)
            outcome = sole(error)
        except BaseException as error:
            self._finished(attempt, began, error, "cancelled")
            self._gate.ended(permit, error)
            self._gate.abandon(permit, None)
            raise
        if isinstance(outcome, Done):
            self._finished(attempt, began, None, "ok")
        else:
            self._finished(attempt, began, outcome, "error")
        return attempt, outcome

    async def _once(self) -> T:
        await current_attempt().request()
        if self._ambiguous and self._reconcile is not None:
            current_attempt().request_sent()
            done = await self._reconcile()
            self._ambiguous = False
            self._emit(Reconciled(**self._labels(), done=done is not None))
            if done is not None:
                return done.value
        return await self._txn()

    def _judge(self, permit: Permit, attempt: Attempt, outcome: Done[T] | Exception) -> Done[T] | Retry | GiveUp | Exception:
        """Tell the gate first and give the slot back then: else the next op would start before a closing gate is closed."""
        verdict: Done[T] | Retry | GiveUp | Exception = outcome
        failure = None
        if isinstance(outcome, Done):
            self._gate.succeeded(permit)
        elif failure := classify(outcome):
            verdict = self._failed(permit, failure)
        else:
            self._gate.ended(permit, outcome)
        self._leave(permit, attempt, failure)
        return verdict

    def _leave(self, permit: Permit, attempt: Attempt, failure: Failure | None) -> None:
        if attempt.cut_short:
            self._gate.abandon(permit, failure)
        else:
            self._gate.release(permit)

    def _failed(self, permit: Permit, failure: Failure) -> Retry | GiveUp | Exception:
        self._ambiguous = self._ambiguous or failure.ambiguous
        if isinstance(failure.error, Interrupted):
            self._gate.ended(permit, failure.error)
            return Retry(delay=0.0, at_gate=True)
        self._ticket.last = failure
        verdict = self._gate.failed(permit, failure, self._streak, self._policy)
        if isinstance(verdict, Retry):
            error, why = describe(failure.root), explain(failure)
            self._emit(RetryScheduled(**self._labels(), delay=verdict.delay, error_class=failure.kind, error=error, why=why))
        elif not verdict.hold:
            return self._noted(failure.root)
        return verdict

    async def _rest(self, retry: Retry) -> None:
        """Sleep, unless the gate counts the delay. The lane's end, a drain of it and an operator's resume cut the sleep short."""
        began = anyio.current_time()
        if not retry.at_gate:
            with anyio.CancelScope(deadline=began + retry.delay):
                while self._gate.state is not State.STOPPED and self._gate.resumes == self._resumes and not self._gate.leaves(retry):
                    await self._gate.wait_change()
        self._waited += anyio.current_time() - began

    def _progressed(self, count: int) -> None:
        self._emit(Progress(lane=self._gate.name, op=self._ticket.number, attempt=self._label, bytes=count))
        self._gate.progressed()

    def _limited(self) -> None:
        self._emit(Blocked(lane=self._gate.name, op=self._ticket.number, attempt=self._label, what="rate"))

    def _durable(self) -> None:
        self._streak.begin(anyio.current_time(), self._gate.diary.held())
        self._streak.forget()
        self._gate.durable()

    def _finished(self, attempt: Attempt, began: float, error: BaseException | None, outcome: _Outcome) -> None:
        seconds = anyio.current_time() - began
        text = describe(error) if isinstance(error, Exception) else ""
        if attempt.limited is not None:
            limited = Unblocked(lane=self._gate.name, op=self._ticket.number, attempt=self._label, what="rate", seconds=attempt.limited)
            self._emit(limited)
        self._emit(AttemptFinished(**self._labels(), outcome=outcome, bytes=attempt.bytes, seconds=seconds, error=text))

    def _labels(self) -> _Labels:
        ticket = self._ticket
        return {"lane": self._gate.name, "op": ticket.number, "attempt": self._label, "verb": ticket.verb, "name": ticket.name}

    def _noted(self, error: Exception) -> Exception:
        """C7: what was tried, how often and for how long."""
        failure = self._ticket.last
        if failure is None:
            return error
        where = f" on {self._gate.name}" if self._gate.name else ""
        seconds = anyio.current_time() - self._began
        tries = f"{counted(self._number, 'attempt')} in {seconds:.1f} s, {self._waited:.1f} s of it waiting"
        add_note(error, f"{self._ticket}{where}{GAVE_UP}{tries}" + (f"; {failure.hint}" if failure.hint else ""))
        return error
