"""The gate as a table: (state, trigger) -> (state, actions). Pure: no clock, no await, no randomness (engine rules G1-G10, R2).

One gate stands before each lane. RUNNING lets attempts start; a failure that concerns the whole lane leads to BACKOFF, then PROBING with
exactly one attempt; giving up leads to STOPPED or, in mode ``intervention``, to WAITING until the operator says resume. Over any state lies a
set of pauses. ``lane.py`` owns the clock, turns what happens into triggers and acts out the actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeAlias

# The verbs that a lack of room concerns; all others pass a gate that is closed for that cause, so that one can still list, prune and restore.
NEEDS_ROOM = frozenset({"put", "put_if_absent", "part"})


class State(Enum):
    """Where a gate is."""

    RUNNING = auto()
    BACKOFF = auto()
    PROBING = auto()
    WAITING = auto()
    STOPPED = auto()


class Action(Enum):
    """What the owner of the gate has to do after a step."""

    REVIEW = auto()  # look again which waiting ops may start, or must be refused
    CLEAR_STREAKS = auto()  # an operator's resume: every budget is fresh (G7)
    OPEN_EPISODE = auto()  # tell the operator (N1, N2)
    REOPEN_EPISODE = auto()  # the probe of the same episode failed: the flag again, no second announcement
    CLOSE_EPISODE = auto()


@dataclass(frozen=True, slots=True)
class GateState:
    """Everything a gate knows.

    Attributes:
        until: BACKOFF ends at this instant. ``firm``: the server asked for it, so a success does not end it sooner (B2).
        permits: attempts that may run at once after a probe (slow start, G3); None: as many as the lane allows.
        probing: PROBING, and its one attempt runs.
        episode: the number of the open episode, 0 if there is none; ``episodes`` counts them.
        space: every failure that closed the gate was a lack of room.
        aborted: STOPPED by the operator or by the time limit of the intervention (exit code 61).
    """

    state: State = State.RUNNING
    until: float = 0.0
    firm: bool = False
    permits: int | None = None
    probing: bool = False
    episode: int = 0
    episodes: int = 0
    space: bool = False
    aborted: bool = False
    pauses: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A failure that is the lane's, to be tried again from ``until`` on. ``probe``: the attempt was the probe."""

    until: float
    probe: bool = False
    firm: bool = False
    space: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """The lane gives up; ``hold``: for the operator to decide (mode ``intervention``)."""

    hold: bool
    space: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """An attempt succeeded. ``room``: it was a put, which shows that there is room."""

    room: bool = False


@dataclass(frozen=True, slots=True)
class BackoffOver:
    """The instant ``until`` has come."""


@dataclass(frozen=True, slots=True)
class ProbeStarted:
    """The one attempt of PROBING runs."""


@dataclass(frozen=True, slots=True)
class ProbeLost:
    """The probe ended and showed nothing: it was cancelled, or failed for a reason of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The running attempts have shown progress. ``limit``: what the lane allows at most."""

    limit: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The operator says go on."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The operator says stop, or the time limit of the intervention is over (G8)."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The engine ends (G9)."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """The machine has slept: what runs is ended, and one attempt has to show that the far end can be reached (T6)."""


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing starts until ``why`` is taken away again."""

    why: str


@dataclass(frozen=True, slots=True)
class Unpaused:
    """The pause ``why`` is over."""

    why: str


Trigger: TypeAlias = (
    Failed
    | GaveUp
    | Succeeded
    | BackoffOver
    | ProbeStarted
    | ProbeLost
    | Progressed
    | Resumed
    | Aborted
    | Closed
    | Suspended
    | Paused
    | Unpaused
)
Step: TypeAlias = tuple[GateState, tuple[Action, ...]]


def step(gate: GateState, trigger: Trigger) -> Step:
    """The next state and what is to be done. Never raises: a trigger that means nothing in a state changes nothing."""
    if isinstance(trigger, Paused):
        return replace(gate, pauses=gate.pauses | {trigger.why}), ()
    if isinstance(trigger, Unpaused):
        return replace(gate, pauses=gate.pauses - {trigger.why}), (Action.REVIEW,)
    return TABLE[gate.state, type(trigger)](gate, trigger)


def may_start(gate: GateState, verb: str, *, running: int, limit: int) -> bool:
    """Whether one more attempt of ``verb`` may start while ``running`` of at most ``limit`` run."""
    if gate.pauses or running >= limit or gate.state is State.STOPPED:
        return False
    if gate.state is State.RUNNING:
        return gate.permits is None or running < gate.permits
    if gate.space and verb not in NEEDS_ROOM:
        return True
    return gate.state is State.PROBING and not gate.probing


def is_probe(gate: GateState, verb: str) -> bool:
    """Whether an attempt of ``verb`` that starts now is the probe."""
    return gate.state is State.PROBING and not gate.probing and (not gate.space or verb in NEEDS_ROOM)


def _stay(gate: GateState, _: Trigger) -> Step:
    return gate, ()


def _back_off(gate: GateState, trigger: Failed) -> Step:
    """G1: the first failure of the lane."""
    return replace(gate, state=State.BACKOFF, until=trigger.until, firm=trigger.firm, space=trigger.space, permits=None), (Action.REVIEW,)


def _same_outage(gate: GateState, trigger: Failed) -> Step:
    """An attempt that was in flight when the gate closed (G2) fails too. Only a time that the server asks for changes anything (B2)."""
    space = gate.space and trigger.space
    if trigger.firm and trigger.until > gate.until:
        gate = replace(gate, until=trigger.until, firm=True)
    return replace(gate, space=space), (Action.REVIEW,)


def _probe_failed(gate: GateState, trigger: Failed) -> Step:
    """G4: the next BACKOFF, or WAITING again in the same episode. A late failure of another attempt is no answer of the probe."""
    if not trigger.probe:
        return replace(gate, space=gate.space and trigger.space), (Action.REVIEW,)
    if gate.episode:
        return _wait_again(gate, trigger)
    return _back_off(replace(gate, probing=False), trigger)


def _give_up(gate: GateState, trigger: GaveUp) -> Step:
    """G5. G7: an episode that is open goes on, however many ops fail."""
    if not trigger.hold:
        return _stop(gate, trigger)
    if gate.episode:
        return _wait_again(gate, trigger)
    number = gate.episodes + 1
    waiting = replace(
        gate, state=State.WAITING, episode=number, episodes=number, space=trigger.space, probing=False, permits=None, firm=False
    )
    return waiting, (Action.OPEN_EPISODE, Action.REVIEW)


def _wait_again(gate: GateState, trigger: Failed | GaveUp) -> Step:
    return replace(gate, state=State.WAITING, probing=False, space=trigger.space), (Action.REOPEN_EPISODE, Action.REVIEW)


def _still_waiting(gate: GateState, trigger: Failed | GaveUp) -> Step:
    """G6, G7: one episode, whoever fails. What had been let pass because only room was lacking waits, too, once anything else fails."""
    return replace(gate, space=gate.space and trigger.space), ()


def _open_after_backoff(gate: GateState, trigger: Succeeded) -> Step:
    """G2: an attempt that was in flight got through; a time that the server asked for is kept all the same (B2: never less)."""
    return (gate, ()) if gate.firm else _open(gate, trigger)


def _open(gate: GateState, trigger: Succeeded) -> Step:
    """G2, G3: RUNNING with one permit. A lack of room is over only when something was stored."""
    if gate.space and not trigger.room:
        return gate, ()
    actions = (Action.CLOSE_EPISODE, Action.REVIEW) if gate.episode else (Action.REVIEW,)
    return replace(gate, state=State.RUNNING, permits=1, probing=False, episode=0, space=False, firm=False), actions


def _probe(gate: GateState, _: Trigger) -> Step:
    return replace(gate, state=State.PROBING, probing=False, firm=False), (Action.REVIEW,)


def _suspended(gate: GateState, _: Trigger) -> Step:
    """T6. A time that the server asked for is kept (B2)."""
    if gate.firm:
        return gate, ()
    return replace(gate, state=State.PROBING, probing=False, permits=None), (Action.REVIEW,)


def _resume(gate: GateState, _: Trigger) -> Step:
    """R2: never straight to RUNNING. G7: all streaks are cleared."""
    return replace(gate, state=State.PROBING, probing=False, firm=False), (Action.CLEAR_STREAKS, Action.REVIEW)


def _probe_started(gate: GateState, _: Trigger) -> Step:
    return replace(gate, probing=True), ()


def _probe_lost(gate: GateState, _: Trigger) -> Step:
    return replace(gate, probing=False), (Action.REVIEW,)


def _widen(gate: GateState, trigger: Progressed) -> Step:
    """G3: twice as many permits, until the lane's own limit is the only one."""
    if gate.permits is None:
        return gate, ()
    permits = gate.permits * 2
    return replace(gate, permits=None if permits >= trigger.limit else permits), (Action.REVIEW,)


def _stop(gate: GateState, _: Trigger) -> Step:
    actions = (Action.CLOSE_EPISODE, Action.REVIEW) if gate.episode else (Action.REVIEW,)
    return replace(gate, state=State.STOPPED, probing=False, permits=None, episode=0), actions


def _abort(gate: GateState, trigger: Trigger) -> Step:
    stopped, actions = _stop(gate, trigger)
    return replace(stopped, aborted=True), actions


_TRIGGERS = (Failed, GaveUp, Succeeded, BackoffOver, ProbeStarted, ProbeLost, Progressed, Resumed, Aborted, Closed, Suspended)

# One row a state, one entry a trigger in the order of _TRIGGERS. What a state ignores stands here as _stay, so that the table is total.
_ROWS: dict[State, tuple[Callable[..., Step], ...]] = {
    #               Failed         GaveUp    Succeeded            BackoffOver ProbeStarted    ProbeLost    Progressed Resumed  Aborted Closed Suspended
    State.RUNNING: (_back_off, _give_up, _stay, _stay, _stay, _stay, _widen, _stay, _abort, _stop, _suspended),
    State.BACKOFF: (_same_outage, _give_up, _open_after_backoff, _probe, _stay, _stay, _stay, _resume, _abort, _stop, _suspended),
    State.PROBING: (_probe_failed, _give_up, _open, _stay, _probe_started, _probe_lost, _stay, _stay, _abort, _stop, _suspended),
    State.WAITING: (
        _still_waiting,
        _still_waiting,
        _stay,
        _stay,
        _stay,
        _stay,
        _stay,
        _resume,
        _abort,
        _stop,
        _stay,
    ),  # G2, G6, G7: only a person ends it
    State.STOPPED: (_stay, _stay, _stay, _stay, _stay, _stay, _stay, _stay, _stay, _stay, _stay),
}
TABLE = {(state, trigger): act for state, row in _ROWS.items() for trigger, act in zip(_TRIGGERS, row, strict=True)}
