"""One backend instance before its gate: the live side of ``gate.py``, with the clock, the slots and the ops that wait (S2, S6, S8, T5).

``Gate`` turns what happens to attempts into triggers of the table and acts out what the table says. ``Lane`` is a backend with its gate.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable
from dataclasses import replace

import anyio
import anyio.lowlevel

from asyncdup.backends.base import Backend
from asyncdup.errors import BackendError, Drained, InterruptedByOperator, LaneUnavailable, NotFound, Precondition
from asyncdup.events import Event
from asyncdup.transfer import gate as table
from asyncdup.transfer.attempt import Stalled
from asyncdup.transfer.diary import Diary
from asyncdup.transfer.failure import Failure, explain
from asyncdup.transfer.gate import NEEDS_ROOM, Action, GateState, State
from asyncdup.transfer.limits import Level, Memory, Room, Ticket, Turns
from asyncdup.transfer.patience import Patience
from asyncdup.transfer.permits import Permit, Waiter, rank
from asyncdup.transfer.policy import GiveUp, Retry, RetryPolicy, Streak
from asyncdup.transfer.rate import Rates

WIDEN_EVERY = 0.25  # seconds: slow start doubles its permits at most this often (G3)
OUTLIVED = 3  # times that others succeed while one op goes on failing as if the whole lane did; then its own streak counts, too
EXTRA_CONTROL = 2  # attempts of level CONTROL that may run beside the slots (S6)


class Gate:
    """Lets attempts of one lane start, or wait, or be refused. ``resume`` and ``abort`` are the operator's (R1).

    Args:
        limit: attempts at once. ``serial``: one call at a time whatever the verb (S8).
        spawn_linger: called with the gate and a permit whose call was abandoned; it must call ``release`` when the call has returned (T5).

    Attributes:
        diary: what it remembers of its past.
        rates: the limits that attempts wait at, None = none (S10).
        turns: of the jobs whose ops come this way (S7).
        resumes: times that all streaks were cleared.
        throttled: when the far end last asked for less; -inf: never.
    """

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        *,
        limit: int = 1 << 30,
        serial: bool = False,
        memory: Memory | None = None,
        emit: Callable[[Event], None] = lambda event: None,
        rng: random.Random | None = None,
        name: str = "",
        spawn_linger: Callable[[Gate, Permit, Failure | None], object] | None = None,
    ) -> None:
        self.policy = policy or RetryPolicy()
        self.limit = 1 if serial else limit
        self.serial = serial
        self.name = name
        self.rng = rng or random.Random()
        self.diary = Diary(name, emit)
        self.rates: Rates | None = None
        self.turns = Turns()
        self.resumes = 0  # times that all streaks were cleared; an op compares it with the number it has seen
        self.throttled = -math.inf
        self._table = GateState()
        self._memory = memory or Memory(1 << 62)
        self._memory.on_room(self, self._review)
        self._spawn_linger = spawn_linger
        self._waiters: list[Waiter] = []  # in order of rank
        self._running: set[Permit] = set()
        self._probe: Permit | None = None  # the one attempt of PROBING; an earlier probe may still run, and is none any more
        self._ending: set[Permit] = set()  # attempts that were told to end and have not yet: a probe beside one would be a second
        self._lingering: set[str] = set()  # names whose abandoned call may still write
        self._streak = Streak()
        self._successes = 0
        self._changed = anyio.Event()
        self._widened = -math.inf
        self._draining = False
        self._endless = False  # the present BACKOFF is one that every mode but ``wait`` would have given up in
        self._left = ""  # what a drain found it at, and did not wait for

    # What one may ask

    @property
    def state(self) -> State:
        """Where the gate is."""
        return self._table.state

    @property
    def paused(self) -> bool:
        """Whether a pause lies over the state."""
        return bool(self._table.pauses)

    @property
    def pauses(self) -> frozenset[str]:
        """Why nothing starts, whatever the state."""
        return self._table.pauses

    @property
    def running(self) -> int:
        """Attempts in slots now, abandoned calls included."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Ops before the gate now."""
        return len(self._waiters)

    @property
    def attempts(self) -> int:
        """Failures in the lane's streak."""
        return self._streak.failures

    @property
    def episode(self) -> str:
        """The id of the open episode, empty if there is none."""
        return self.diary.episode_id(self._table)

    # What the operator may say

    def resume(self, by: str = "api") -> None:
        """Go on: one probe, then all. Idempotent; without effect unless the gate is in WAITING or BACKOFF (R1, R2)."""
        if self.state is State.WAITING:
            self.diary.resumed_by = by
        self._step(table.Resumed(), by)

    def abort(self, by: str = "api") -> None:
        """End as mode ``fail`` would, with exit code 61 (R1, G8)."""
        self._step(table.Aborted(), by)

    def pause(self, why: str = "api") -> None:
        """Start nothing until ``unpause(why)``; what runs goes on."""
        self._step(table.Paused(why), why)

    def unpause(self, why: str = "api") -> None:
        """Take the pause ``why`` away."""
        self._step(table.Unpaused(why), why)

    def drain(self) -> None:
        """Wait no more, now or later, for what nobody knows the end of: the operator, a pause, a failure that mode ``wait`` repeats for ever.
        What is in flight then ends, and what waits is refused with Drained (X3)."""
        self._draining = True
        self._review()
        self._tell_change()

    def close(self, by: str = "end") -> None:
        """The lane ends; an open episode is closed (G9)."""
        self._step(table.Closed(), by)

    def suspended(self) -> None:
        """The machine has slept: what runs ends, which counts as no failure, and one probe goes first (T6)."""
        self.interrupt()
        self._step(table.Suspended(), "suspend")

    def interrupt(self) -> None:
        """What runs ends now, which counts as no failure; it is begun again when the gate lets it."""
        for permit in tuple(self._running):
            if permit.interrupt is not None:
                self._ending.add(permit)
                permit.interrupt()

    def set_limit(self, limit: int) -> None:
        """Change the number of slots. Lowering ends nothing (S9)."""
        if not self.serial:
            self.limit = limit
            self._review()

    def leaves(self, retry: Retry) -> bool:
        """Whether an op must not wait for ``retry``, which is its own, since the lane is drained and nobody knows an end of it (X3)."""
        return self._draining and retry.endless and not retry.at_gate

    async def wait_change(self) -> None:
        """Return at the next change of state, and when a drain begins."""
        await self._changed.wait()

    # What an op does

    async def enter(self, ticket: Ticket) -> Permit | None:
        """Wait until an attempt may start. The permit must be given back by ``release``. None: the lane has stopped, see ``refusal``."""
        waiter = Waiter(ticket, anyio.Event())
        bisect.insort(self._waiters, waiter, key=rank)
        try:
            self._review()
            while True:
                if waiter.permit is not None and self._was_closed(waiter.permit):
                    self._put_back(waiter, waiter.permit)
                if waiter.permit is not None or self.state is State.STOPPED:
                    break
                await self._wait(waiter)
            await anyio.lowlevel.checkpoint_if_cancelled()  # no attempt starts after a cancel (C5)
        except BaseException:
            self._withdraw(waiter)
            raise
        if waiter.permit is None:
            self._withdraw(waiter)
        return waiter.permit

    def enter_at_once(self, ticket: Ticket) -> Permit | None:
        """A permit for an attempt that nobody needs, if a slot is free that nobody waits for, and nothing is amiss (H1, H2)."""
        if self.serial or self._draining or self.state is not State.RUNNING or self._waiters or not self._admits(ticket):
            return None
        if not self._memory.take(ticket.memory, self):
            self._memory.withdraw(self)
            return None
        return self._take_slot(ticket)

    def promote(self, ticket: Ticket, level: Level) -> None:
        """Let an op go before others from now on (O2)."""
        ticket.level = level
        self._waiters.sort(key=rank)

    def release(self, permit: Permit) -> None:
        """The attempt, or the call that it left behind, is over."""
        self._lingering.discard(permit.ticket.name)
        self._running.discard(permit)
        self._ending.discard(permit)
        self._memory.give(permit.memory)
        self._review()

    def abandon(self, permit: Permit, failure: Failure | None) -> None:
        """The attempt was cut short; its call may live on, and keeps the slot while it does (T5)."""
        if self._spawn_linger is None:
            self.release(permit)
        else:
            self._lingering.add(permit.ticket.name)
            self._ending.discard(permit)
            permit.interrupt = None
            self._spawn_linger(self, permit, failure)
            self._review()
            self._leave_if_drained()

    def succeeded(self, permit: Permit) -> None:
        """The attempt got its answer."""
        room = permit.ticket.verb in NEEDS_ROOM
        self._successes += 1
        if room or not self._table.space:
            self._streak.failures = 0
        self._step(table.Succeeded(room=room))
        self.progressed()

    def ended(self, permit: Permit, error: BaseException) -> None:
        """The attempt ended with an error that is not retried. An answer about the object shows that the lane works; else nothing is shown."""
        if isinstance(error, (NotFound, Precondition)):
            self.succeeded(permit)
        else:
            self._lose_probe(permit)

    def progressed(self) -> None:
        """A running attempt has moved bytes (G3)."""
        if self._table.permits is None or anyio.current_time() - self._widened < WIDEN_EVERY:
            return
        self._widened = anyio.current_time()
        self._step(table.Progressed(limit=self.limit))

    def freed(self) -> None:
        """Room was made by a way that is no op of this lane, which counts as a success (G2, S11)."""
        if self._table.space:
            self._streak.failures = 0
            self._step(table.Succeeded(room=True))

    def durable(self) -> None:
        """A running attempt has made durable progress: the lane's streak ends, too (B4)."""
        self._streak.failures = 0

    def failed(self, permit: Permit, failure: Failure, streak: Streak, policy: RetryPolicy) -> Retry | GiveUp:
        """Count a failure, on the op's ``streak`` or on the lane's, and say what follows for the op.

        A failure is the lane's if its scope is, if the whole lane is silent, or if the gate is not RUNNING (B1). Several attempts that were
        in flight when the gate closed are one failure of the lane: else a short outage would use up a limited number of attempts at once.
        """
        self.heed(failure)
        if isinstance(failure.error, Stalled) and self._silent_beside(permit, failure.error.window):
            failure = replace(failure, scope="lane")
        state, probe = self.state, permit is self._probe
        passing = self._table.space and permit.ticket.verb not in NEEDS_ROOM  # lack of room does not concern it
        if failure.scope == "op" and (state is State.RUNNING or passing) and not (failure.operator and policy.mode == "wait"):
            return self._failed_alone(failure, streak, policy)
        if state in (State.WAITING, State.STOPPED):
            self._step(table.Failed(until=0.0, space=failure.space))
            return Retry(delay=0.0, at_gate=True)  # to the gate, which holds or refuses it
        self.diary.failure = failure
        if state is State.RUNNING:
            self._begin_streak(streak)
        elif not probe and not failure.operator and failure.retry_after is None:
            self._step(table.Failed(until=0.0, space=failure.space))
            return Retry(delay=0.0, at_gate=True)
        self._streak.failures += state is State.RUNNING or probe
        return self._decide(permit, failure, streak)

    def heed(self, failure: Failure) -> None:
        """Note that the far end asks for less, whatever else becomes of ``failure`` (H2)."""
        if failure.throttle:
            self.throttled = anyio.current_time()

    def _silent_beside(self, permit: Permit, window: float) -> bool:
        """Whether an attempt that stalled for ``window`` seconds did not stall alone: nothing moves in any other that runs, either.

        A dead link silences all attempts, each at its own last byte; half the window is enough for one that was heard a little later.
        Without another attempt to compare with, nothing is known of the lane.
        """
        others = [other for other in self._running - {permit} if other.ticket.name not in self._lingering]
        return bool(others) and all(other.silence() >= window / 2 for other in others)

    def _decide(self, permit: Permit, failure: Failure, streak: Streak) -> Retry | GiveUp:
        now, held = anyio.current_time(), self.diary.held()
        verdict = self.policy.decide(self._streak.failures, self._streak.elapsed(now, held), failure, self.rng)
        streak.note(now, held, self._successes)
        if isinstance(verdict, Retry) and streak.outlived >= OUTLIVED:  # B3: it is not the lane that fails, whatever the error says
            own = self.policy.decide(streak.outlived, streak.lasting(now, held), failure, self.rng)
            verdict = own if isinstance(own, GiveUp) else verdict
        if isinstance(verdict, GiveUp):
            self._step(table.GaveUp(hold=verdict.hold, space=failure.space), explain(failure))
            return verdict
        self._endless = verdict.endless
        again = table.Failed(until=now + verdict.delay, probe=permit is self._probe, firm=verdict.firm, space=failure.space)
        self._step(again, explain(failure))
        return replace(verdict, at_gate=True)

    def _failed_alone(self, failure: Failure, streak: Streak, policy: RetryPolicy) -> Retry | GiveUp:
        """An op-scoped failure. In mode ``intervention`` an op that gives up holds the lane: a set is not complete without it (K2)."""
        if self.state is not State.WAITING:
            self.diary.failure = failure
        streak.failures += 1
        elapsed = streak.elapsed(anyio.current_time(), self.diary.held())
        verdict = policy.decide(streak.failures, elapsed, failure, self.rng)
        if isinstance(verdict, GiveUp) and verdict.hold:
            self._step(table.GaveUp(hold=True, space=failure.space), explain(failure))
        return verdict

    def give_up(self, failure: Failure) -> None:
        """The lane gives up by mode, whatever the streak says: an abandoned call has kept it for too long."""
        self.diary.failure = failure
        if self.policy.mode != "wait":
            self._step(table.GaveUp(hold=self.policy.mode == "intervention"), explain(failure))

    def _begin_streak(self, streak: Streak) -> None:
        """The lane's clock starts with the attempt that failed first."""
        if not self._streak.failures:
            self._streak.since, self._streak.held = streak.since, streak.held

    # Waiting and starting: plain functions, one step each

    async def _wait(self, waiter: Waiter) -> None:
        """Until something changed, or BACKOFF is over. Any waiting op can tell the time; nobody needs to when none waits."""
        until = self._table.until if self.state is State.BACKOFF else math.inf
        waiter.woken = anyio.Event()
        with anyio.CancelScope(deadline=until):
            await waiter.woken.wait()
        if self.state is State.BACKOFF and anyio.current_time() >= self._table.until:
            self._step(table.BackoffOver())

    def _was_closed(self, permit: Permit) -> bool:
        """Whether the gate has closed since it gave ``permit``: between that and the op's turn of the loop another attempt may have failed."""
        if self._table.pauses or self.state is State.STOPPED:
            return True
        if self.state is State.RUNNING or permit is self._probe:
            return False
        return not self._table.space or permit.ticket.verb in NEEDS_ROOM

    def _put_back(self, waiter: Waiter, permit: Permit) -> None:
        """It waits again, unless what its permit frees lets it in at once."""
        waiter.permit = None
        bisect.insort(self._waiters, waiter, key=rank)
        self._lose_probe(permit)
        self.release(permit)

    def _withdraw(self, waiter: Waiter) -> None:
        if waiter.permit is not None:
            self._lose_probe(waiter.permit)
            self.release(waiter.permit)
        elif waiter in self._waiters:
            self._waiters.remove(waiter)
            self._memory.withdraw(self)

    def _lose_probe(self, permit: Permit) -> None:
        if permit is self._probe:
            self._step(table.ProbeLost())

    def _review(self) -> None:
        """Start whatever may start, in order of rank. Called after every change that could let something start."""
        self._memory.withdraw(self)
        for waiter in tuple(self._waiters):
            ticket = waiter.ticket
            if not self._admits(ticket):
                if ticket.level is Level.CONTROL or self._table.space or ticket.name in self._lingering:
                    continue
                break  # those behind it wait for the same
            if not self._memory.take(ticket.memory, self):
                break  # nobody overtakes: a large object would wait for ever behind small ones
            self._grant(waiter)
        self._leave_if_drained()

    def _leave_if_drained(self) -> None:
        """What an abandoned call may still do (T5) is not waited for: nobody knows when it returns."""
        in_flight = any(permit.ticket.name not in self._lingering for permit in self._running)
        if self._draining and not in_flight and (what := self._held_up()):
            self._left = what
            self._step(table.Closed(), "drain")

    def _held_up(self) -> str:
        """What keeps everything that waits from starting, if nobody knows when that ends."""
        if self.state is State.WAITING:
            return "it waited for the operator"
        if self._table.pauses and self.state is not State.STOPPED:
            return "it was paused"
        return "it was tried again without end" if self._endless and self.state is State.BACKOFF else ""

    def _admits(self, ticket: Ticket) -> bool:
        if ticket.name in self._lingering or (self._ending and self.state is State.PROBING):
            return False
        if self.serial:
            return table.may_start(self._table, ticket.verb, running=len(self._running), limit=1)
        control = ticket.level is Level.CONTROL
        running = sum((permit.ticket.level is Level.CONTROL) == control for permit in self._running)
        return table.may_start(self._table, ticket.verb, running=running, limit=EXTRA_CONTROL if control else self.limit)

    def _grant(self, waiter: Waiter) -> None:
        ticket = waiter.ticket
        waiter.permit = self._take_slot(ticket)
        self._waiters.remove(waiter)
        self.turns.started(ticket.turn)
        if table.is_probe(self._table, ticket.verb):
            self._probe = waiter.permit
            self._step(table.ProbeStarted())
        waiter.woken.set()

    def _take_slot(self, ticket: Ticket) -> Permit:
        taken = {permit.slot for permit in self._running}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        permit = Permit(ticket, slot, ticket.memory)
        self._running.add(permit)
        return permit

    def refusal(self, ticket: Ticket) -> Exception:
        """What an op raises at a lane that has stopped: its own root cause, or LaneUnavailable from the lane's if it was never tried (B5);
        InterruptedByOperator if the operator or the time limit stopped it (R1, G8); Drained if a drain did not wait for its end (X3)."""
        cause = ticket.last or self.diary.failure
        hint, root = (cause.hint, cause.root) if cause else (None, None)
        refused: BackendError | InterruptedByOperator | Drained
        where = self.name or "the backend"
        if self._table.aborted:
            refused = InterruptedByOperator(f"{ticket} on {where}: stopped by the operator", hint=hint)
        elif self._left or (self._draining and self.state is not State.STOPPED):
            refused = Drained(f"{ticket} on {where}: told to end while {self._left or 'it was tried again without end'}", hint=hint)
        elif ticket.last is not None:
            return ticket.last.root
        else:
            refused = LaneUnavailable(f"{ticket} was not tried: {where} has given up", hint=hint)
            if cause and isinstance(cause.error, BackendError):
                refused.exit_code = cause.error.exit_code
        refused.__cause__ = root
        return refused

    # Acting out the table

    def _step(self, trigger: table.Trigger, why: str = "") -> None:
        before = self._table
        self._table, actions = table.step(before, trigger)
        if not self._table.probing:
            self._probe = None
        if self._table.state is not before.state:
            self._widened = anyio.current_time()  # the success that opened the gate does not widen it
        if self._table.state is not before.state or self._table.pauses != before.pauses:
            self.diary.note_change(before, self._table, why)
            self._tell_change()
        for action in actions:
            self.diary.note_episode(action, before, self._table, why)
        if Action.CLEAR_STREAKS in actions:
            self._streak.failures = 0
            self.resumes += 1
        if Action.REVIEW in actions:
            self._review()
            for waiter in self._waiters:
                waiter.woken.set()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Lane:
    """One backend with its gate, as an engine made it. ``inline``: its ops run before ``submit`` returns (S1, concurrency 0)."""

    def __init__(self, backend: Backend, gate: Gate, backlog: Room, *, inline: bool) -> None:
        self.backend = backend
        self.gate = gate
        self.backlog = backlog  # ops accepted and not done, and the bytes of bodies in memory among them
        self.inline = inline
        self.patience = Patience()  # with gets
        self.without_parts = False  # it turned out that the backend knows no parts after all (Q2)

    @property
    def name(self) -> str:
        """The backend's description; never a secret."""
        return self.gate.name

    @property
    def concurrency(self) -> int:
        """Attempts at once."""
        return self.gate.limit
