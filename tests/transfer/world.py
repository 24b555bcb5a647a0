"""A program that uses an engine in every way at once, told by a list of steps; and what must hold whatever the steps are.

A step is a method of ``World`` with two small numbers and the seconds that pass behind it. Steps only start things, so that anything may
happen in the middle of anything. ``World.broken`` gathers what did not hold: observers of a hub cannot raise.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import anyio
from transfer.link import Journal, Link, Seen
from transfer.troubles import FAULTS, VERBS, Bug

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import (
    BackendError,
    BadRequest,
    DependencyFailed,
    Drained,
    IntegrityError,
    InterruptedByOperator,
    LaneUnavailable,
    OperationCancelled,
    RetryableError,
)
from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    Blocked,
    EpisodeClosed,
    EpisodeOpened,
    Event,
    EventHub,
    GateChanged,
    OpCancelled,
    OpFailed,
    OpQueued,
    OpSkipped,
    OpStarted,
    OpSucceeded,
    Progress,
    Unblocked,
)
from asyncdup.testing.faults import Flip, Truncate
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.transfer import Engine, Lane, Op, ReadRequest, RetryPolicy, open_engine
from asyncdup.transfer.failure import root_cause
from asyncdup.transfer.gate import NEEDS_ROOM, State

MEMORY = 9000  # bytes in flight: three bodies
PART = 700  # bytes: large bodies have four or five parts
BACKLOG = 6
Doing = tuple[str, int, int, float]  # a step, its two numbers, the seconds behind it
LONGEST = 5e6  # virtual seconds that a life may take to come to its end; nothing here waits for so long unless for ever
ENDS = (OpSucceeded, OpFailed, OpSkipped, OpCancelled)
# What an engine may raise of itself; anything else must be the very object that a backend raised (C2-C4).
OF_ENGINE = (DependencyFailed, OperationCancelled, Drained, LaneUnavailable, InterruptedByOperator, IntegrityError, TimeoutError)
OWN_WORDS = ("at the target", "changed its mind")  # a put whose answer has another digest, a writer's client


@dataclass(frozen=True)
class Setting:
    """How an engine is set up."""

    mode: Literal["fail", "wait", "intervention"] = "fail"
    concurrency: int = 2
    serial: bool = False
    max_attempts: int = 0
    max_elapsed: float = 900.0
    spool_bytes: int | None = None


@dataclass
class Life:
    """One engine, from its start until it ends or is killed."""

    engine: Engine
    lanes: list[Lane]
    clients: Any
    ops: list[Op[Any]] = field(default_factory=list)
    after: dict[int, tuple[Op[Any], ...]] = field(default_factory=dict)  # by number of the op
    spoolers: int = 0  # clients that hold a file of the spool before it is sealed, and readers: each may be let in beyond the bound
    pauses: set[str] = field(default_factory=set)
    large: set[str] = field(default_factory=set)  # names of what was put in parts


def data_of(name: str) -> bytes:
    """``l…`` is large enough for parts."""
    number = int(name[1:])
    return random.Random(name).randbytes(2 * PART + 29 * (number % 50) if name[0] == "l" else 100 + 29 * (number % 40))


class World:
    """Two backends, whatever ran on them, and every event of it."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        self.rng = random.Random(repr(setting))
        self.stores = [MemoryBackend(name="a"), MemoryBackend(name="b")]
        near, far = (Link(store, latency=0.2, jitter=0.5, rng=self.rng, rate=1e4) for store in self.stores)
        self.backends = [FaultyBackend(near), Seen(far)]
        self.journals: dict[str, Journal] = {}  # of large objects that go to the second backend, and are not stored
        self.backends[0].supports_concurrency = lambda: not setting.serial  # type: ignore[method-assign]
        self.events: list[Event] = []
        self.broken: list[str] = []
        self.names = 0
        self.stored: list[set[str]] = [set(), set()]  # names that were put with success, and that nobody wanted deleted
        self.deleted: list[set[str]] = [set(), set()]
        self.life: Life | None = None
        self._moved: dict[tuple[int, int], int] = {}  # bytes of the attempts that run, by op and number
        self._probes: dict[str, set[tuple[int, int]]] = {}

    async def main(self, steps: list[Doing]) -> None:
        """Live through ``steps``, one engine after the other; ``kill`` ends one."""
        while steps:
            cut = next((number for number, step in enumerate(steps) if step[0] == "kill"), None)
            await self._live(steps[:cut], killed=cut is not None)
            steps = [] if cut is None else steps[cut + 1 :]
        self._check_stored()
        assert not self.broken, "\n".join(self.broken)

    async def _live(self, steps: list[Doing], *, killed: bool) -> None:
        setting, first = self.setting, len(self.events)
        hub = EventHub(wall=lambda: 0.0, clock=anyio.current_time)
        hub.on_event(self._observe)
        policy = RetryPolicy(mode=setting.mode, max_attempts=setting.max_attempts, max_elapsed=setting.max_elapsed, attempt_timeout=4000)
        with anyio.fail_after(LONGEST), anyio.CancelScope() as scope:
            async with (
                open_engine(
                    concurrency=setting.concurrency,
                    policy=policy,
                    spool_dir=self.folder,
                    spool_bytes=setting.spool_bytes,
                    memory_bytes=MEMORY,
                    events=hub,
                    rng=self.rng,
                ) as engine,
                anyio.create_task_group() as clients,
            ):
                self.life = Life(engine, [engine.lane(backend) for backend in self.backends], clients)
                for name, a, b, seconds in steps:
                    await getattr(self, name)(a, b)
                    await anyio.sleep(seconds)
                if killed:
                    self._in_parts.dead = True
                    scope.cancel()
                clients.start_soon(self._recover)
                await self._settled()
                clients.cancel_scope.cancel()
        self._check_end(self.events[first:])
        self._in_parts.dead, self.life = False, None

    async def _settled(self) -> None:
        """Nobody works any more but the operator."""
        life = self._life
        while life.spoolers or any(not op.done for op in life.ops):
            await anyio.sleep(100)

    async def _recover(self) -> None:
        """Everything works again, and the operator comes by now and then."""
        life = self._life
        for backend in self.backends:
            backend.heal()
        for why in life.pauses:
            life.engine.unpause(why)
        while True:
            await anyio.sleep(500)
            life.engine.resume()

    @property
    def _in_parts(self) -> Seen:
        assert isinstance(self.backends[1], Seen)
        return self.backends[1]

    @property
    def _life(self) -> Life:
        assert self.life is not None
        return self.life

    # Steps: what a program may do.

    async def put(self, a: int, b: int) -> None:
        """``a``: which backend, and whether after others; ``b``: which of the puts."""
        name, life = self._new_name(), self._life
        after = tuple(life.ops[-b:]) if a >= 6 and b else ()
        verb = "put_if_absent" if b == 9 else "put"
        self._client(
            self._submitted, a % 2, verb, name, BytesBody(data_of(name)), after=after, metadata=b == 8, absent=b == 7, job=str(b % 2)
        )

    async def put_spooled(self, a: int, b: int) -> None:
        """A volume: room, a file, a put."""
        self._client(self._spool_and_put, a % 2, self._new_name(), float(b))

    async def put_large(self, a: int, b: int) -> None:
        """In parts, where the backend shows what it does; one that was left in an earlier life is gone on with."""
        idle = [name for name in self.journals if name not in self._life.large]
        name = idle[0] if idle and a % 2 else self._new_name("l")
        self._client(self._put_parts, a % 2, name)

    async def get(self, a: int, b: int) -> None:
        """Of an object that may be there."""
        self._client(self._submitted, a % 2, "get", self._name(b), max_size=4000)

    async def look(self, a: int, b: int) -> None:
        """List or stat."""
        self._client(self._submitted, a % 2, "stat" if b else "list", self._name(b) if b else "")

    async def delete(self, a: int, b: int) -> None:
        """Of an object that may be there."""
        name = self._name(b)
        self.deleted[a % 2].add(name)
        self._client(self._submitted, a % 2, "delete", name)

    async def read(self, a: int, b: int) -> None:
        """An ordered read of all that was stored, left after ``b`` items."""
        names = sorted(self.stored[a % 2] - self.deleted[a % 2])
        self._client(self._read, a % 2, names + ["n000"] * (a > 7), b or 99, "yield" if a in (4, 5) else "raise", a / 2)

    async def write(self, a: int, b: int) -> None:
        """A writer of ``b`` objects; some are left by an exception."""
        self._client(self._write, a % 2, [self._new_name() for _ in range(b)], a > 7)

    async def fail(self, a: int, b: int) -> None:
        """The next calls of a verb fail: how, is drawn."""
        step = self.rng.choice(FAULTS)()
        self.backends[a % 2].script(VERBS[(a * 10 + b) % len(VERBS)], *[step] * (1 + b // 4))

    async def outage(self, a: int, b: int) -> None:
        """Every verb fails for some calls."""
        for verb in VERBS:
            self.backends[a % 2].script(verb, *[FAULTS[(a * 10 + b) % len(FAULTS)]()] * 3)

    async def pause(self, a: int, b: int) -> None:
        """One of two pauses."""
        self._life.pauses.add(str(a % 2))
        self._life.engine.pause(str(a % 2), now=b > 5)

    async def unpause(self, a: int, b: int) -> None:
        """One of the two is over."""
        self._life.pauses.discard(str(a % 2))
        self._life.engine.unpause(str(a % 2))

    async def resume(self, a: int, b: int) -> None:
        """The operator."""
        self._life.engine.resume()

    async def abort(self, a: int, b: int) -> None:
        """The operator, seldom."""
        if a == b:
            self._life.engine.abort()

    async def suspend(self, a: int, b: int) -> None:
        """The machine has slept."""
        self._life.lanes[a % 2].gate.suspended()

    async def slots(self, a: int, b: int) -> None:
        """Another concurrency."""
        self._life.engine.set_concurrency(1 + a)

    async def rate(self, a: int, b: int) -> None:
        """Other limits."""
        self._life.engine.set_rate(upload=["off", "1k", "50k"][a % 3], download=["off", "2k"][b % 2], requests=[0, 3][a % 2])

    async def drain(self, a: int, b: int) -> None:
        """Nothing new, seldom."""
        if a == b:
            self._life.engine.drain()

    async def cancel(self, a: int, b: int) -> None:
        """One of the last ops."""
        for op in self._life.ops[-1 - b : len(self._life.ops) - b]:
            op.cancel()

    # What the clients of these steps do.

    def _client(self, fn: Callable[..., Awaitable[None]], *args: Any, **options: Any) -> None:
        async def run() -> None:
            life.spoolers += 1
            try:
                await fn(*args, **options)
            except (*OF_ENGINE, BackendError, OSError, Bug, ExceptionGroup) as error:
                self._judge(error)
            finally:
                life.spoolers -= 1

        life = self._life
        life.clients.start_soon(run)

    async def _submitted(self, place: int, verb: Any, name: str, body: Any = None, **options: Any) -> None:
        life = self._life
        after = options.get("after", ())
        op = await life.engine.submit(life.lanes[place], verb, name, body, **options)
        life.after[op.ticket.number] = after
        life.ops.append(op)
        found = await op.result()
        if verb in NEEDS_ROOM:
            self.stored[place].add(name)
        if verb == "get" and found != data_of(name) and not self._tampered(place, name):
            self.broken.append(f"get {name} gave other bytes")

    async def _spool_and_put(self, place: int, name: str, seconds: float) -> None:
        engine, data = self._life.engine, data_of(name)
        file = await engine.spool.new(len(data))
        try:
            file.path.write_bytes(data)
            await anyio.sleep(seconds)
            body = file.seal(len(data), {"sha1": hashlib.sha1(data).hexdigest()})
            op = await engine.submit(self._life.lanes[place], "put", name, body)
        except BaseException:
            await file.discard()
            raise
        self._life.ops.append(op)
        await op.result()
        self.stored[place].add(name)

    async def _put_parts(self, place: int, name: str) -> None:
        self._life.large.add(name)
        journal = self.journals.setdefault(name, Journal(self.stores[1], self.broken)) if place else None
        await self._submitted(place, "put", name, BytesBody(data_of(name)), parts=journal)
        if journal is not None:
            del self.journals[name]
            if journal.noted is not None and journal.noted.id in self.stores[1].uploads:
                self.broken.append(f"{name} is stored, and its upload is still there (Q4)")

    async def _read(self, place: int, names: list[str], most: int, errors: Literal["raise", "yield"], pause: float) -> None:
        life, seen = self._life, 0
        requests = [ReadRequest(name, len(data_of(name)), {"sha1": hashlib.sha1(data_of(name)).hexdigest()}) for name in names]
        async with life.engine.read_ordered(life.lanes[place], requests, errors=errors) as items:  # type: ignore[call-overload]
            async for item in items:
                if item.name != names[seen]:
                    self.broken.append(f"item {seen} is {item.name}, not {names[seen]} (O1)")
                if errors == "yield" and item.error is not None:
                    self._judge(item.error)
                elif (item.item if errors == "yield" else item).path.read_bytes() != data_of(item.name):
                    self.broken.append(f"{item.name} was given out with other bytes (O7)")
                seen += 1
                if seen == most:
                    break
                await anyio.sleep(pause)

    async def _write(self, place: int, names: list[str], leave: bool) -> None:
        life, ops = self._life, []
        try:
            async with life.engine.writer(life.lanes[place]) as writer:
                for name in names:
                    ops.append(await writer.put(name, BytesBody(data_of(name)), after=ops[-1:]))
                    life.after[ops[-1].ticket.number] = tuple(ops[-2:-1])
                if leave:
                    raise BadRequest("the program has changed its mind")
        finally:
            self.stored[place].update(op.name for op in ops if op.succeeded)

    def _new_name(self, kind: str = "n") -> str:
        self.names += 1
        return f"{kind}{self.names:03d}"

    def _name(self, number: int) -> str:
        return f"n{max(1, self.names - number):03d}"

    def _tampered(self, place: int, name: str) -> bool:
        """A plain get has no digest to check, so what the network does to it is its caller's business."""
        return any(call.name == name and isinstance(call.step, (Flip, Truncate)) for call in self.backends[place].calls)

    # What must hold.

    def _judge(self, error: BaseException) -> None:
        """C2-C4: what comes out is an error of the engine's own, or the very object that a backend raised, or its root cause."""
        if isinstance(error, LaneUnavailable) and error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, OF_ENGINE) or any(words in str(error) for words in OWN_WORDS):
            return
        raised = [call.error for backend in self.backends for call in backend.calls if isinstance(call.error, Exception)]
        if not any(error is other or error is _root(other) for other in raised):
            self.broken.append(f"{error!r} is no object that a backend has raised")

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        if self.life is None:
            return
        try:
            self._check_event(event)
            self._check_bounds()
        except Exception as error:  # an observer that raises would only be dropped
            self.broken.append(f"{event}: {error!r}")

    def _check_event(self, event: Event) -> None:
        key = (event.op, event.attempt)
        match event:
            case AttemptStarted():
                self._moved[key] = 0
                self._check_start(event)
            case Progress():
                self._moved[key] += event.bytes
            case AttemptFinished():
                self._probes.get(event.lane, set()).discard(key)
                if event.bytes != self._moved.pop(key):
                    self.broken.append(f"the Progress of {event} does not sum to its bytes (V3)")
            case GateChanged():
                self._probes.pop(event.lane, None)
            case OpStarted():
                if not all(earlier.succeeded for earlier in self._life.after.get(event.op, ())):
                    self.broken.append(f"{event} before what it must follow (S5)")

    def _check_start(self, event: AttemptStarted) -> None:
        lane = next(lane for lane in self._life.lanes if lane.name == event.lane)
        gate, table = lane.gate, lane.gate._table
        passing = table.space and event.verb not in NEEDS_ROOM
        if gate.pauses or gate.state not in (State.RUNNING, State.PROBING) and not passing:
            self.broken.append(f"{event} while {gate.state.name}, pauses {set(gate.pauses)}, at {event.t} (G1, G6, S2)")
        if gate.state is State.PROBING and not passing:
            probes = self._probes.setdefault(event.lane, set())
            probes.add((event.op, event.attempt))
            if len(probes) > 1:
                self.broken.append(f"{event} is a second probe (G1)")
        control = event.verb == "stat"
        most = 1 if gate.serial else 2 if control and not gate.serial else gate.limit
        running = sum(gate.serial or (permit.ticket.verb == "stat") == control for permit in gate._running)
        if running > most:
            self.broken.append(f"{event} is the {running}th of {most} (S1, S6, S8)")

    def _check_bounds(self) -> None:
        engine, statistics = self._life.engine, self._life.engine.statistics()
        if statistics.memory > MEMORY:
            self.broken.append(f"{statistics.memory} bytes in flight (S3)")
        for lane in self._life.lanes:
            if lane.backlog.held > BACKLOG:
                self.broken.append(f"{lane.backlog.held} ops accepted (S4)")
        bound = self.setting.spool_bytes
        if bound is None and statistics.spool_files > engine.concurrency + 2 + 10 + self._life.spoolers:
            self.broken.append(f"{statistics.spool_files} files in the spool (S4)")

    def _check_end(self, events: list[Event]) -> None:
        """V3, O5: one end for every beginning, and nothing is left."""
        life = self._life
        for began, ended, by in (
            (AttemptStarted, AttemptFinished, lambda e: (e.op, e.attempt)),
            (OpQueued, ENDS, lambda e: e.op),
            (EpisodeOpened, EpisodeClosed, lambda e: (e.lane, e.episode)),
            (Blocked, Unblocked, lambda e: (e.lane, e.op, e.what)),
        ):
            more = Counter(by(e) for e in events if isinstance(e, began))
            less = Counter(by(e) for e in events if isinstance(e, ended))
            if more != less:
                self.broken.append(f"{began} and its end differ: {more - less} and {less - more} (V3)")
        statistics = life.engine.statistics()
        left = [lane.gate.running + lane.gate.waiting + lane.backlog.held for lane in life.lanes]
        if any(left) or statistics.memory or statistics.spool_files or life.spoolers:
            self.broken.append(f"held at the end: {left}, {statistics}")
        tasks = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if tasks or asyncio.get_running_loop().busy_threads:  # type: ignore[attr-defined]
            self.broken.append(f"tasks at the end: {tasks} (O5)")
        if files := list(self.folder.rglob("*")):
            self.broken.append(f"files at the end: {files} (O5)")
        if left := self._in_parts.begun & set(self.stores[1].uploads):
            self.broken.append(f"uploads at the end: {left} (Q4)")
        if running := [call for backend in self.backends for call in backend.calls if call.outcome == "running"]:
            self.broken.append(f"calls at the end: {running}")

    def _check_stored(self) -> None:
        """What was told to be stored is there, whole; nothing is there that is not whole."""
        self.broken += [f"{what} was sent with two contents (I1, I2)" for what in self._in_parts.mixed]
        for store, stored, deleted in zip(self.stores, self.stored, self.deleted, strict=True):
            objects = {name: found.data for name, found in store.store.items()}
            for name in stored - deleted - set(objects):
                self.broken.append(f"{name} was put and is not there (P11)")
            for name, data in objects.items():
                if data != data_of(name) and not self._tampered(self.stores.index(store), name):
                    self.broken.append(f"{name} has other bytes (P11)")


def _root(error: Exception) -> Exception:
    leaf: BaseException = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return root_cause(leaf) if isinstance(leaf, RetryableError) else error


def live(setting: Setting, steps: list[Doing], loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Everything in a folder and a loop of its own. Raises AssertionError with all that did not hold."""
    with (
        tempfile.TemporaryDirectory(prefix="world-") as folder,
        mock.patch("asyncdup.transfer.engine.BACKLOG", BACKLOG),
        mock.patch.multiple("asyncdup.transfer.parts", PART=PART, _MIB=1),
        asyncio.Runner(loop_factory=loop) as runner,
    ):
        runner.run(World(setting, Path(folder)).main(steps))
