"""The scheduler: lanes, bounds and priorities of one program, in one task group (engine rules S1-S9, X3).

``open_engine`` is the only way in; when its block ends, every task, file and slot has ended (T5 excepted).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, overload

import anyio
from anyio.abc import TaskGroup

from asyncdup.backends.base import Backend, Body, ObjectInfo, SupportsDropConnections, SupportsLocalFiles, SupportsWaitIdle
from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import Drained
from asyncdup.events import EventHub, LimitChanged, SuspendDetected
from asyncdup.transfer import verbs
from asyncdup.transfer.auto import Tuning
from asyncdup.transfer.failure import Failure, sole
from asyncdup.transfer.fetch import IN_FLIGHT, ReadItem, ReadRequest
from asyncdup.transfer.gate import State
from asyncdup.transfer.intervention import FlagFile, Intervention, attend
from asyncdup.transfer.lane import Gate, Lane
from asyncdup.transfer.limits import CLEANUP, Level, Memory, Room
from asyncdup.transfer.ops import Call, OnStored, Op, Work
from asyncdup.transfer.ordered import OrderedReader, ReadResult, Writer, give_item, give_result
from asyncdup.transfer.pacing import Pacing
from asyncdup.transfer.parts import PartedPut, PartJournal, parts_for
from asyncdup.transfer.permits import Permit
from asyncdup.transfer.policy import RetryPolicy
from asyncdup.transfer.rate import Rates
from asyncdup.transfer.runner import Runner
from asyncdup.transfer.spool import Spool
from asyncdup.transfer.suspend import watch

T = TypeVar("T")

BACKLOG = 256  # ops of a lane that are accepted and not done: each is a task of a few KiB
SPARE = 2  # files of the spool beside those in slots: one sealed, one being made (S4)
SMALL = 64 << 20  # bytes: what is fetched whole into memory is no larger (manifests, P9)

Verb = Literal["put", "put_if_absent", "get", "stat", "list", "delete"]
_LEVELS = {"stat": Level.CONTROL, "list": Level.HEAD, "get": Level.HEAD}


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One lane at one moment: state of its gate, attempts in slots, ops before the gate, slots, why it is paused."""

    name: str
    state: str
    running: int
    waiting: int
    concurrency: int
    pauses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """An engine at one moment: its lanes, files and bytes in the spool, bytes in flight."""

    lanes: tuple[LaneStatistics, ...]
    spool_files: int
    spool_bytes: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an engine is opened with; the arguments of ``open_engine``, settled."""

    concurrency: int
    auto: bool
    most: int  # attempts at once of a lane that looks for its own number
    policy: RetryPolicy
    memory: int
    intervention: Intervention
    events: EventHub
    rng: random.Random
    asleep: Callable[[], float] | None
    now: Callable[[], float]
    spool_items: bool  # the spool's bound is a number of files that follows the concurrency


class Engine:
    """Moves objects. Made by ``open_engine``.

    Attributes:
        spool: where volumes wait: ``await engine.spool.new(size_estimate)``.
        events: the hub that every event goes to.
        concurrency: attempts at once per lane; 0: each op runs inline before ``submit`` returns (S1).
        pacing: the rate limits.
    """

    def __init__(self, tasks: TaskGroup, settings: Settings, spool: Spool, flag: FlagFile | None) -> None:
        self.spool = spool
        self.events = settings.events
        self._tuning = Tuning(tasks, settings.events, on=settings.auto)
        self._tasks = tasks
        self._settings = settings
        self._widen_to(settings.concurrency)
        self._flag = flag
        self._memory = Memory(settings.memory)
        self._runner = Runner(tasks, settings.events.emit)
        self._lanes: dict[int, Lane] = {}  # by the backend's identity; a lane holds its backend, so no identity comes up twice
        self._readers: list[OrderedReader[Any]] = []
        self._drained: Drained | None = None
        self._pauses: set[str] = set()
        self.pacing = Pacing(now=settings.now, pause=self.pause, unpause=self.unpause, emit=settings.events.emit)
        self._attend(spool.disk.gate)
        if settings.asleep is not None:
            tasks.start_soon(watch, settings.asleep, self._on_suspend)
        if flag is not None and flag.earlier is not None:
            self._runner.on_first_success = flag.forget_earlier

    @property
    def auto(self) -> bool:
        """Whether the engine itself looks for the best concurrency of each lane (A1-A7)."""
        return self._tuning.on

    def lane(self, backend: Backend, *, concurrency: int | None = None) -> Lane:
        """The lane of ``backend``, the same for every call. ``concurrency``: its own number of slots; a serial backend has one (S8)."""
        lane = self._lanes.get(id(backend))
        if lane is None:
            lane = self._lanes[id(backend)] = self._new_lane(backend, concurrency)
            self._attend(lane.gate)
            if concurrency is None and not lane.gate.serial:
                self._add_tuner(lane)
        return lane

    async def submit(
        self,
        lane: Lane,
        verb: Verb,
        name: str,
        body: Body | None = None,
        *,
        after: Sequence[Op[Any]] = (),
        on_stored: OnStored | None = None,
        absent: bool = False,
        metadata: bool = False,
        max_size: int = SMALL,
        job: str = "",
        parts: PartJournal | None = None,
    ) -> Op[Any]:
        """Accept an op; waits while a bound is reached (S3, S4).

        Args:
            name: of the object; for ``list`` the prefix.
            body: of a put. One that holds something is released when the op ends, in whatever way.
            after: ops that must have succeeded before this one is started (S5).
            on_stored: awaited with the result (an ObjectInfo) inside the op, before it counts as done.
            absent: ``name`` is known to be absent now, which settles some lost answers (I2).
            metadata: goes before other data (S6).
            max_size: of the object of a ``get``, whose result is its bytes.
            job: several jobs on a lane take turns, op by op (S7).
            parts: notes an upload in parts, so that a later run goes on with it (X5). A large put goes in parts without one, too (Q4).

        Raises:
            Drained: the engine takes nothing new.
        """
        self.refuse_if_drained()
        act = self._action(lane.backend, verb, name, body, absent=absent, max_size=max_size)
        size = body.size if body is not None else 0
        work: Work[Any] = Work(act, body=body, size=size, after=after, on_stored=on_stored)
        level = Level.HEAD if metadata else _LEVELS.get(verb, Level.DATA)
        in_memory = size if isinstance(body, BytesBody) else 0
        work.place = await lane.backlog.take(in_memory, leaves=True)
        ticket = self._runner.ticket(
            verb, name, level=level, memory=min(max_size if verb == "get" else size, IN_FLIGHT), turn=lane.gate.turns.next(job)
        )
        if verb == "put" and body is not None and (part := parts_for(lane, body)) is not None:
            work.act = PartedPut(lane, ticket, body, part, whole=act, absent=absent, journal=parts, emit=self.events.emit)
        if lane.inline:
            return await self._runner.run_inline(lane, ticket, work)
        return self._runner.start(lane, ticket, work)

    async def run(
        self,
        lane: Lane,
        verb: Verb,
        name: str,
        body: Body | None = None,
        *,
        after: Sequence[Op[Any]] = (),
        on_stored: OnStored | None = None,
        absent: bool = False,
        metadata: bool = False,
        max_size: int = SMALL,
        job: str = "",
    ) -> Any:
        """``submit``, and the result. A cancelled wait cancels the op."""
        op = await self.submit(
            lane, verb, name, body, after=after, on_stored=on_stored, absent=absent, metadata=metadata, max_size=max_size, job=job
        )
        try:
            return await op.result()
        finally:
            if not op.done:
                op.cancel()
                with anyio.move_on_after(CLEANUP, shield=True):
                    await op.wait()

    async def list(self, lane: Lane, prefix: str = "") -> list[ObjectInfo]:
        """All objects whose name begins with ``prefix``, in the backend's order."""
        found: list[ObjectInfo] = await self.run(lane, "list", prefix)
        return found

    async def fetch(self, lane: Lane, name: str, max_size: int = SMALL) -> bytes:
        """A small object whole. Raises PermanentError if it is larger than ``max_size``."""
        data: bytes = await self.run(lane, "get", name, max_size=max_size)
        return data

    @overload
    def read_ordered(
        self,
        lane: Lane,
        requests: Iterable[ReadRequest | str],
        *,
        window: int | None = None,
        errors: Literal["raise"] = "raise",
        job: str = "",
        hedge: bool = False,
    ) -> OrderedReader[ReadItem]: ...
    @overload
    def read_ordered(
        self,
        lane: Lane,
        requests: Iterable[ReadRequest | str],
        *,
        window: int | None = None,
        errors: Literal["yield"],
        job: str = "",
        hedge: bool = False,
    ) -> OrderedReader[ReadResult]: ...
    def read_ordered(
        self,
        lane: Lane,
        requests: Iterable[ReadRequest | str],
        *,
        window: int | None = None,
        errors: Literal["raise", "yield"] = "raise",
        job: str = "",
        hedge: bool = False,
    ) -> OrderedReader[Any]:
        """An asynchronous iterator over objects in the order of ``requests``, each in a verified file of the spool. Use ``async with``.

        ``window``: objects on their way, waiting or in the consumer's hands; default: one more than the lane's slots. ``hedge``: an object
        that is waited for and late is asked for a second time, which costs at most a twentieth more requests and bytes (H1-H3).
        """
        give: Callable[[Op[ReadItem]], Any] = give_item if errors == "raise" else give_result
        reader = OrderedReader(self._runner, lane, self.spool, requests, window=window, give=give, job=job, hedge=hedge)
        self._readers = [*(earlier for earlier in self._readers if not earlier.closed), reader]
        return reader

    def writer(self, lane: Lane, *, job: str = "") -> Writer:
        """Puts whose failures come up in their order. Use ``async with``."""
        return Writer(partial(self.submit, lane, "put", job=job))

    def resume(self, by: str = "api") -> None:
        """Every lane that waits probes now. Idempotent; may be called by a signal handler of the loop (R1, SIGUSR1)."""
        for gate in self._gates():
            gate.resume(by)

    def abort(self, by: str = "api") -> None:
        """End as mode ``fail`` would, with exit code 61 (R1)."""
        for gate in self._gates():
            gate.abort(by)

    def _gates(self) -> Iterable[Gate]:
        return (self.spool.disk.gate, *(lane.gate for lane in self._lanes.values()))

    def pause(self, why: str = "api", *, now: bool = False) -> None:
        """Start nothing on any lane until ``unpause(why)``. Pauses of several names lie over each other.

        ``now``: what runs ends, too, and is begun again afterwards; that is no failure. Else it goes on to its end.
        """
        self._pauses.add(why)
        for lane in self._lanes.values():
            lane.gate.pause(why)
            if now:
                lane.gate.interrupt()

    def unpause(self, why: str = "api") -> None:
        """Take the pause ``why`` away. Idempotent."""
        self._pauses.discard(why)
        for lane in self._lanes.values():
            lane.gate.unpause(why)

    def set_concurrency(self, concurrency: int | Literal["auto"], why: str = "api") -> None:
        """Change the number of attempts at once, of every lane. Lowering ends nothing; raising takes effect at once (S9).

        ``auto``: each lane looks for its own from now on; a number ends that (A7).

        Raises:
            ValueError: less than 1; whether ops run inline is settled at the start.
        """
        if concurrency != "auto" and concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, but 1 is the least")
        for lane in self._lanes.values():
            lane.inline = False
        self._tuning.switch(on=concurrency == "auto")
        self._widen_to(self.concurrency if concurrency == "auto" else concurrency)
        if concurrency != "auto":
            for lane in self._lanes.values():
                self._set_slots(lane, _slots(lane.backend, concurrency), why)

    def _widen_to(self, concurrency: int) -> None:
        self.concurrency = concurrency
        if self._settings.spool_items:
            self.spool.room.set_bounds(items=concurrency + SPARE, size=self.spool.share if self.auto else None)

    def _set_slots(self, lane: Lane, slots: int, why: str) -> None:
        before = lane.concurrency
        lane.gate.set_limit(slots)
        if lane.concurrency != before:
            self.events.emit(LimitChanged(lane=lane.name, old=before, new=lane.concurrency, why=why))

    def _add_tuner(self, lane: Lane) -> None:
        def change(slots: int, why: str) -> None:
            self._set_slots(lane, slots, why)
            self._widen_to(max(each.concurrency for each in self._lanes.values()))

        settings, backend = self._settings, lane.backend
        store, most = backend.capabilities().parts is not None, min(settings.most, settings.memory // IN_FLIGHT)
        self._tuning.add(lane.gate, store=store, most=_slots(backend, most), change=change)

    def set_rate(self, *, upload: str | None = None, download: str | None = None, requests: float | None = None) -> None:
        """Change rate limits of all lanes together, at once (S10). None leaves one as it is.

        Args:
            upload, download: ``512k``, ``off``, or a timetable, ``08:00,512k 12:00,pause 19:00,off``.
            requests: a second; 0 = no limit.

        Raises:
            UsageError: such a limit cannot be; nothing is changed.
        """
        self.pacing.set(upload=upload, download=download, requests=requests)

    def drain(self) -> None:
        """Take nothing new: ``submit`` and ``spool.new`` raise Drained; what was accepted is finished (X3), but what nobody knows the end of is not
        waited for: what is held by a lane in WAITING, by a pause, or by a failure that mode ``wait`` repeats for ever, fails with Drained once
        nothing of its lane is in flight. Idempotent."""
        if self._drained is None:
            self._drained = Drained("the engine finishes what it has and takes nothing new")
            self.spool.room.close(self._drained)
            for lane in self._lanes.values():
                lane.backlog.close(self._drained)
            for gate in self._gates():
                gate.drain()

    def refuse_if_drained(self) -> None:
        """Raise Drained after ``drain``: for a producer of what could not be submitted any more."""
        if self._drained:
            raise self._drained

    def statistics(self) -> EngineStatistics:
        """What it holds at this moment."""
        lanes = tuple(
            LaneStatistics(
                lane.name, lane.gate.state.name, lane.gate.running, lane.gate.waiting, lane.concurrency, tuple(sorted(lane.gate.pauses))
            )
            for lane in self._lanes.values()
        )
        return EngineStatistics(lanes, self.spool.room.held, self.spool.room.used, self._memory.used)

    async def _settle(self) -> None:
        """The block has ended well: nobody may be left behind, and no failure unseen."""
        for reader in self._readers:
            if not reader.closed:
                warnings.warn("an ordered read was not closed; use async with", ResourceWarning, stacklevel=2)
                await reader.aclose()
        await self._runner.settle()

    def _on_suspend(self, seconds: float) -> None:
        """Connections do not outlive a suspend; files of this machine do (T6)."""
        self.events.emit(SuspendDetected(seconds=seconds))
        for lane in self._lanes.values():
            if isinstance(lane.backend, SupportsDropConnections):
                lane.backend.drop_connections()
            if not isinstance(lane.backend, SupportsLocalFiles):
                lane.gate.suspended()

    def _attend(self, gate: Gate) -> None:
        """Have somebody there when ``gate`` waits for the operator."""
        if self._settings.policy.mode == "intervention":
            operator = self._settings.intervention
            gate.diary.ways = operator.ways()
            self._tasks.start_soon(attend, gate, operator, self._flag, self.resume, self.events.emit)

    def _close(self, by: str) -> None:
        for gate in self._gates():
            if gate is not self.spool.disk.gate or gate.state is not State.RUNNING:  # a disk that took everything is not worth a word
                gate.close(by)

    def _new_lane(self, backend: Backend, concurrency: int | None) -> Lane:
        settings = self._settings
        emit = settings.events.emit
        wanted = self.concurrency if concurrency is None else concurrency
        gate = Gate(
            settings.policy,
            limit=_slots(backend, wanted),
            serial=not backend.supports_concurrency(),
            memory=self._memory,
            emit=emit,
            rng=settings.rng,
            name=backend.description,
            spawn_linger=self._spawn_linger(backend),
        )
        gate.diary.ways = settings.intervention.ways()
        emit(LimitChanged(lane=gate.name, old=0, new=gate.limit, why="new lane"))
        gate.rates = Rates(self.pacing.rates)
        for why in self._pauses:
            gate.pause(why)
        if self._drained is not None:
            gate.drain()
        return Lane(backend, gate, Room("memory", items=BACKLOG, size=settings.memory, emit=emit), inline=wanted == 0)

    def _spawn_linger(self, backend: Backend) -> Callable[[Gate, Permit, Failure | None], object] | None:
        if not isinstance(backend, SupportsWaitIdle):
            return None
        return lambda gate, permit, failure: self._tasks.start_soon(_linger, backend, gate, permit, failure)

    def _action(self, backend: Backend, verb: Verb, name: str, body: Body | None, *, absent: bool, max_size: int) -> Callable[[Call], Any]:
        """What an op of ``verb`` does with its ``call``."""
        if verb == "put" or verb == "put_if_absent":
            if body is None:
                raise ValueError(f"{verb} needs a body")
            put = verbs.put if verb == "put" else verbs.put_if_absent
            look = partial(verbs.is_stored, backend, name, body, absent=absent and verb == "put")
            return lambda call: call(partial(put, backend, name, body), reconcile=look)
        plain: dict[str, Callable[[], Any]] = {
            "get": partial(verbs.get_bytes, backend, name, max_size),
            "stat": partial(verbs.stat, backend, name),
            "list": partial(verbs.listing, backend, name),
            "delete": partial(verbs.delete, backend, name),
        }
        return lambda call: call(plain[verb])


@asynccontextmanager
async def running(settings: Settings, spool: Spool, flag: FlagFile | None) -> AsyncGenerator[Engine, None]:
    """The task group that everything runs in. A group of one exception is unwrapped here, at the public edge."""
    failure: BaseException | None = None
    ended = "cancel"
    try:
        async with anyio.create_task_group() as tasks:
            engine = Engine(tasks, settings, spool, flag)
            tasks.start_soon(engine.pacing.keep_time)
            try:
                yield engine
                await engine._settle()
            except BaseException as error:
                if isinstance(sole(error), Drained):
                    await engine._runner.wait()  # what was accepted is finished (X3)
                raise
            finally:
                tasks.cancel_scope.cancel()
        ended = "end"
    except BaseExceptionGroup as group:
        failure, ended = sole(group), "error"
    finally:
        engine._close(ended)
        await spool.aclose()
    if failure is not None:
        raise failure


def _slots(backend: Backend, wanted: int) -> int:
    most = backend.capabilities().max_concurrency
    return max(1, wanted if most is None else min(wanted, most))


async def _linger(backend: SupportsWaitIdle, gate: Gate, permit: Permit, failure: Failure | None) -> None:
    """Keep the slot of an abandoned call while the call lives (T5). One that outlives the patience of the policy makes the lane give up."""
    try:
        with anyio.move_on_after(gate.policy.max_elapsed):
            await backend.wait_idle()
            return
        if failure is not None:
            gate.give_up(failure)
        await backend.wait_idle()
    finally:
        gate.release(permit)
