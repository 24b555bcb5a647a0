"""What a gate remembers of its past and tells of it: how long it held things up, and the episodes with their one announcement (B5, N1, V1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from asyncdup.events import Blocked, EpisodeClosed, EpisodeOpened, Event, GateChanged, Notice, Unblocked
from asyncdup.transfer.failure import Failure, explain
from asyncdup.transfer.gate import Action, GateState, State


class Diary:
    """Written after each step of a gate.

    Attributes:
        ways: the commands by which the operator can resume, for the announcement.
        failure: the last failure of the lane, which is the cause of what follows.
        entries: times that WAITING was entered.
        episode_since: when the last episode was opened.
        resumed_by: how the operator ended its last wait.
    """

    def __init__(self, name: str, emit: Callable[[Event], None]) -> None:
        self.ways: Sequence[str] = ()
        self.failure: Failure | None = None
        self.entries = 0
        self.episode_since = 0.0
        self.resumed_by = ""
        self._name = name
        self._emit = emit
        self._held = 0.0  # seconds of finished holds; ``_held_since`` is the start of the present one
        self._held_since: float | None = None
        self._shut_since: float | None = None

    def held(self) -> float:
        """Seconds spent waiting for the operator or in a pause so far: they do not count as elapsed (B5)."""
        return self._held + (0.0 if self._held_since is None else anyio.current_time() - self._held_since)

    def episode_id(self, gate: GateState) -> str:
        """The id of the open episode, empty if there is none (G7)."""
        return f"{self._name or 'lane'}#{gate.episode}" if gate.episode else ""

    def note_change(self, before: GateState, after: GateState, why: str) -> None:
        """The state is another, or the pauses are."""
        if after.state is not before.state:
            self._emit(GateChanged(lane=self._name, state=after.state.name, why=why))
            self.entries += after.state is State.WAITING
        now = anyio.current_time()
        holds = after.state is State.WAITING or bool(after.pauses)
        if holds and self._held_since is None:
            self._held_since = now
        elif not holds and self._held_since is not None:
            self._held, self._held_since = self._held + now - self._held_since, None
        shut = after.state is not State.STOPPED and (after.state is not State.RUNNING or bool(after.pauses))
        if shut and self._shut_since is None:
            self._shut_since = now
            self._emit(Blocked(lane=self._name, what="gate"))
        elif not shut and self._shut_since is not None:
            self._emit(Unblocked(lane=self._name, what="gate", seconds=now - self._shut_since))
            self._shut_since = None

    def note_episode(self, action: Action, before: GateState, after: GateState, why: str) -> None:
        """N1: once in, once out; a probe that fails again is told in between."""
        if action is Action.OPEN_EPISODE:
            self.episode_since, self.resumed_by = anyio.current_time(), ""
            hint = (self.failure.hint if self.failure else None) or ""
            episode = self.episode_id(after)
            self._emit(EpisodeOpened(lane=self._name, episode=episode, error=self._cause(), hint=hint, resume=tuple(self.ways)))
        elif action is Action.REOPEN_EPISODE:
            message = f"{self._name or 'the backend'}: still failing after resume, waiting again: {self._cause()}"
            self._emit(Notice(lane=self._name, message=message))
        elif action is Action.CLOSE_EPISODE:
            waited = anyio.current_time() - self.episode_since
            by = why or self.resumed_by or "success"
            self._emit(EpisodeClosed(lane=self._name, episode=self.episode_id(before), by=by, waited=waited))

    def _cause(self) -> str:
        return explain(self.failure) if self.failure else "no failure known"
