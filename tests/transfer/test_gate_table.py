"""The gate as a pure table: every row, then any sequence of triggers against the rules (G1-G10, R2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncdup.transfer.gate import (
    TABLE,
    Aborted,
    Action,
    BackoffOver,
    Closed,
    Failed,
    GateState,
    GaveUp,
    Paused,
    ProbeLost,
    ProbeStarted,
    Progressed,
    Resumed,
    State,
    Succeeded,
    Suspended,
    Trigger,
    Unpaused,
    is_probe,
    may_start,
    step,
)

RUNNING = GateState()
BACKOFF = GateState(State.BACKOFF, until=10)
PROBING = GateState(State.PROBING)
PROBE_RUNS = replace(PROBING, probing=True)
WAITING = GateState(State.WAITING, episode=1, episodes=1)
RESUMED = GateState(State.PROBING, probing=True, episode=1, episodes=1)
STOPPED = GateState(State.STOPPED)
SPACE = GateState(State.BACKOFF, until=10, space=True)

ROWS = [
    ("G1", RUNNING, Failed(until=5), State.BACKOFF),
    ("G1", RUNNING, BackoffOver(), State.RUNNING),
    ("G2", RUNNING, Succeeded(), State.RUNNING),
    ("G1", BACKOFF, BackoffOver(), State.PROBING),
    ("G2", BACKOFF, Succeeded(), State.RUNNING),
    ("B2", replace(BACKOFF, firm=True), Succeeded(), State.BACKOFF),
    ("G2", SPACE, Succeeded(room=False), State.BACKOFF),
    ("G2", SPACE, Succeeded(room=True), State.RUNNING),
    ("G2", BACKOFF, Failed(until=99), State.BACKOFF),
    ("G3", PROBE_RUNS, Succeeded(), State.RUNNING),
    ("G4", PROBE_RUNS, Failed(until=9, probe=True), State.BACKOFF),
    ("G4", PROBE_RUNS, Failed(until=9, probe=False), State.PROBING),
    ("G4", RESUMED, Failed(until=9, probe=True), State.WAITING),
    ("G4", RESUMED, GaveUp(hold=True), State.WAITING),
    ("G5", RUNNING, GaveUp(hold=False), State.STOPPED),
    ("G5", BACKOFF, GaveUp(hold=False), State.STOPPED),
    ("G5", RUNNING, GaveUp(hold=True), State.WAITING),
    ("G5", PROBE_RUNS, GaveUp(hold=True), State.WAITING),
    ("G2", WAITING, Succeeded(room=True), State.WAITING),
    ("G6", WAITING, Failed(until=1, probe=True), State.WAITING),
    ("G6", WAITING, BackoffOver(), State.WAITING),
    ("G7", WAITING, GaveUp(hold=True), State.WAITING),
    ("R2", WAITING, Resumed(), State.PROBING),
    ("R2", BACKOFF, Resumed(), State.PROBING),
    ("R1", PROBE_RUNS, Resumed(), State.PROBING),
    ("R1", RUNNING, Resumed(), State.RUNNING),
    ("R1", STOPPED, Resumed(), State.STOPPED),
    ("G8", WAITING, Aborted(), State.STOPPED),
    ("R1", RUNNING, Aborted(), State.STOPPED),
    ("G9", WAITING, Closed(), State.STOPPED),
    ("T6", RUNNING, Suspended(), State.PROBING),
    ("T6", BACKOFF, Suspended(), State.PROBING),
    ("B2", replace(BACKOFF, firm=True), Suspended(), State.BACKOFF),
    ("T6", PROBE_RUNS, Suspended(), State.PROBING),
    ("G6", WAITING, Suspended(), State.WAITING),
    ("G5", STOPPED, Suspended(), State.STOPPED),
    ("G5", STOPPED, Succeeded(), State.STOPPED),
]


@pytest.mark.parametrize(("rule_id", "before", "trigger", "after"), ROWS)
def test_row(rule_id: str, before: GateState, trigger: Trigger, after: State) -> None:
    assert step(before, trigger)[0].state is after, rule_id


def test_the_table_is_total() -> None:
    triggers = (Failed, GaveUp, Succeeded, BackoffOver, ProbeStarted, ProbeLost, Progressed, Resumed, Aborted, Closed, Suspended)
    assert set(TABLE) == {(state, trigger) for state in State for trigger in triggers}


def test_b2_a_later_time_that_the_server_asks_for_counts() -> None:
    assert step(BACKOFF, Failed(until=99, firm=True))[0] == replace(BACKOFF, until=99, firm=True)
    assert step(BACKOFF, Failed(until=5, firm=True))[0].until == 10
    assert step(BACKOFF, Failed(until=99))[0].until == 10


def test_g3_permits_double_up_to_the_limit() -> None:
    gate, _ = step(PROBE_RUNS, Succeeded())
    seen = [gate.permits]
    for _ in range(4):
        gate, _ = step(gate, Progressed(limit=8))
        seen.append(gate.permits)

    assert seen == [1, 2, 4, None, None]


def test_g7_one_episode_with_an_id_until_a_probe_succeeds() -> None:
    gate, opened = step(RUNNING, GaveUp(hold=True))
    assert Action.OPEN_EPISODE in opened and gate.episode == 1
    gate, resumed = step(gate, Resumed())
    assert Action.CLEAR_STREAKS in resumed and gate.episode == 1
    gate, again = step(replace(gate, probing=True), Failed(until=0, probe=True))
    assert Action.REOPEN_EPISODE in again and gate.episode == 1
    gate, _ = step(gate, Resumed())
    gate, closed = step(gate, Succeeded())
    assert Action.CLOSE_EPISODE in closed and gate.episode == 0
    gate, _ = step(gate, GaveUp(hold=True))
    assert gate.episode == 2


def test_g5_only_running_starts_attempts_and_probing_exactly_one() -> None:
    assert may_start(RUNNING, "put", running=4, limit=5)
    assert not may_start(RUNNING, "put", running=5, limit=5)
    assert may_start(PROBING, "put", running=0, limit=5) and is_probe(PROBING, "put")
    assert not may_start(PROBE_RUNS, "put", running=1, limit=5)
    assert not any(may_start(gate, "put", running=0, limit=5) for gate in (BACKOFF, WAITING, STOPPED))


def test_space_lets_everything_but_puts_pass_a_closed_gate() -> None:
    for gate in (SPACE, replace(WAITING, space=True), replace(PROBE_RUNS, space=True)):
        assert may_start(gate, "get", running=0, limit=5) and may_start(gate, "delete", running=0, limit=5)
        assert not may_start(gate, "put", running=0, limit=5)
    assert not may_start(replace(STOPPED, space=True), "get", running=0, limit=5)


def test_space_is_probed_with_a_put() -> None:
    probing = replace(PROBING, space=True)

    assert is_probe(probing, "put") and not is_probe(probing, "get")


@pytest.mark.parametrize("gate", [RUNNING, BACKOFF, PROBING, WAITING, SPACE])
def test_a_pause_lies_over_any_state(gate: GateState) -> None:
    paused, _ = step(step(gate, Paused("a"))[0], Paused("b"))
    half, _ = step(paused, Unpaused("a"))
    open_again, actions = step(half, Unpaused("b"))

    assert not any(may_start(state, verb, running=0, limit=5) for state in (paused, half) for verb in ("put", "get"))
    assert open_again == gate and actions == (Action.REVIEW,)


class AnySequence(RuleBasedStateMachine):
    """Whatever happens in whatever order, the rules that have no exceptions hold."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = GateState()
        self.opened = 0  # episodes announced less episodes closed
        self.probes = 0

    def apply(self, trigger: Trigger) -> None:
        before = self.gate
        self.gate, actions = step(before, trigger)
        self.opened += (Action.OPEN_EPISODE in actions) - (Action.CLOSE_EPISODE in actions)
        if before.state is State.STOPPED:
            assert self.gate.state is State.STOPPED
        if before.state is State.WAITING and self.gate.state is not State.WAITING:
            assert isinstance(trigger, (Resumed, Aborted, Closed)), "G2, G6: only a person ends WAITING"
        if isinstance(trigger, Resumed):
            assert self.gate.state is before.state or self.gate.state is State.PROBING, "R2"
        if before.state is not State.RUNNING and self.gate.state is State.RUNNING:
            assert isinstance(trigger, Succeeded) and self.gate.permits == 1, "G3"
            assert not before.space or trigger.room
        if not isinstance(trigger, (Paused, Unpaused)):
            assert self.gate.pauses == before.pauses

    @rule(until=st.floats(0, 100), probe=st.booleans(), firm=st.booleans(), space=st.booleans())
    def failed(self, until: float, probe: bool, firm: bool, space: bool) -> None:
        self.apply(Failed(until=until, probe=probe and self.gate.probing, firm=firm, space=space))

    @rule(hold=st.booleans(), space=st.booleans())
    def gave_up(self, hold: bool, space: bool) -> None:
        self.apply(GaveUp(hold=hold, space=space))

    @rule(room=st.booleans())
    def succeeded(self, room: bool) -> None:
        self.apply(Succeeded(room=room))

    @precondition(lambda self: may_start(self.gate, "put", running=0, limit=4) and is_probe(self.gate, "put"))
    @rule()
    def probe_starts(self) -> None:
        self.apply(ProbeStarted())
        assert not may_start(self.gate, "put", running=0, limit=4), "exactly one"

    @rule(trigger=st.sampled_from([BackoffOver(), ProbeLost(), Progressed(limit=4), Resumed(), Suspended(), Paused("x"), Unpaused("x")]))
    def other(self, trigger: Trigger) -> None:
        self.apply(trigger)

    @rule(trigger=st.sampled_from([Aborted(), Closed()]))
    def end(self, trigger: Trigger) -> None:
        self.apply(trigger)
        assert self.gate.state is State.STOPPED

    @invariant()
    def at_most_one_episode(self) -> None:
        assert self.opened == (1 if self.gate.episode else 0), "G7"
        assert self.gate.state is not State.WAITING or self.gate.episode

    @invariant()
    def only_the_right_states_start_anything(self) -> None:
        allowed = may_start(self.gate, "put", running=0, limit=4)
        assert not allowed or (not self.gate.pauses and self.gate.state in (State.RUNNING, State.PROBING))
        assert self.gate.probing is False or self.gate.state is State.PROBING


TestAnySequence = pytest.mark.slow(AnySequence.TestCase)
TestAnySequence.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
