"""``--concurrency auto`` in a running engine: what a ``Controller`` is shown of a lane, and what it decides, done (engine rules A1, A6).

One controller per lane and direction; the direction that moves more bytes in a window is the one that is judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import anyio
from anyio.abc import TaskGroup

from asyncdup.events import AttemptFinished, AttemptStarted, Blocked, Event, EventHub, OpQueued, Progress, RetryScheduled, Unblocked
from asyncdup.transfer.adaptive import FROM_STORE, START, Controller, Window
from asyncdup.transfer.gate import State
from asyncdup.transfer.lane import Gate

Way = Literal["up", "down"]

TICK: Final = 0.1  # seconds between two looks at what is in flight
LAG: Final = 0.05  # seconds: a loop that is so late (p95) is what holds things up (A6)
RTT_COUNTS: Final = 60.0  # seconds that a round trip is remembered for (A1)

_WAYS: Final[dict[str, Way]] = {"get": "down", "range": "down", "put": "up", "put_if_absent": "up", "part": "up"}
_CHUNKS: Final = 4  # that a window must have of each transfer: bytes are seen a chunk at a time, and with fewer their number is chance
_SAMPLE: Final = 4  # objects, the last that came, whose sizes tell of the others
_SMALL: Final = ("stat", "list", "delete")  # one request, so they last about a round trip


class Tuning:
    """The tuners of one engine, all on or all off."""

    def __init__(self, tasks: TaskGroup, events: EventHub, *, on: bool) -> None:
        self.on = on
        self._tasks = tasks
        self._events = events
        self._tuners: list[Tuner] = []

    def add(self, gate: Gate, *, store: bool, most: int, change: Callable[[int, str], None]) -> None:
        """Have ``gate`` tuned, too. Arguments as of ``Tuner``."""
        tuner = Tuner(gate, store=store, most=most, change=change)
        self._tuners.append(tuner)
        if self.on:
            self._start(tuner)

    def switch(self, *, on: bool) -> None:
        """From now on. Idempotent; switched on again, each begins its search anew."""
        if on == self.on:
            return
        self.on = on
        for tuner in self._tuners:
            if on:
                self._start(tuner)
            else:
                tuner.stop()

    def _start(self, tuner: Tuner) -> None:
        if not tuner.watches:  # it costs nothing where nobody asks for it
            tuner.watches = True
            self._events.on_event(tuner.note)
        tuner.start(self._tasks)


class Tuner:
    """Watches one gate and changes its limit.

    Args:
        store: it is that of an object store (A2).
        most: attempts at once that backend and memory allow (A7).
        change: called with the new limit and the reason.

    Attributes:
        on: whether it decides now. ``watches``: whether ``note`` is called with the events.
    """

    def __init__(self, gate: Gate, *, store: bool, most: int, change: Callable[[int, str], None]) -> None:
        self.on = False
        self.watches = False
        self._scope = anyio.CancelScope()  # of the task that decides
        self._gate = gate
        self._store, self._most = store, most
        self._change = change
        self._controllers: dict[Way, Controller] = {}
        self._way: Way = "up"
        self._started = anyio.Event()  # an attempt has, after nothing ran
        self._running: dict[int, tuple[str, float, bool]] = {}  # op: verb, when it last showed a sign of life, whether that was a byte
        self._slowest = 0.0  # seconds between two signs of life of an op, at most, in this window
        self._rtts: deque[tuple[float, float]] = deque()  # when seen, seconds
        self._bytes: dict[Way, int] = {"up": 0, "down": 0}
        self._sizes: deque[int] = deque(maxlen=_SAMPLE)  # bytes of the last objects that came or went
        self._limited: set[int] = set()  # ops that wait at a rate limit
        self._was_limited = False

    def start(self, tasks: TaskGroup) -> None:
        """Decide in the background until ``stop``. Each call begins the search anew."""
        self.stop()
        self.on = True
        self._scope = anyio.CancelScope()
        self._controllers.clear()
        self._sizes.clear()
        tasks.start_soon(self._run, self._scope)

    def stop(self) -> None:
        """The limit is somebody else's from now on. Idempotent."""
        self.on = False
        self._scope.cancel()

    async def _run(self, scope: anyio.CancelScope) -> None:
        with scope:
            self._apply(self._controller(self._way), "auto")
            while True:
                await self._judge_one()

    def note(self, event: Event) -> None:
        """See an event of any lane, at once."""
        if event.lane != self._gate.name or not event.op:
            return
        if isinstance(event, Progress):
            self._progressed(event.op, event.bytes)
        elif isinstance(event, OpQueued):
            self._saw_size(event.verb, event.size)
        elif isinstance(event, AttemptStarted):
            self._started.set()
            self._running[event.op] = event.verb, anyio.current_time(), False
        elif isinstance(event, AttemptFinished):
            self._running.pop(event.op, None)
            if event.outcome == "ok":
                self._finished(event)
        elif isinstance(event, RetryScheduled):
            if self.on and event.error_class == "throttle":
                self._apply(self._controller(_WAYS.get(event.verb, self._way)), "auto: throttled", throttled=True)
        elif isinstance(event, (Blocked, Unblocked)) and event.what == "rate":
            self._was_limited = True
            (self._limited.add if isinstance(event, Blocked) else self._limited.discard)(event.op)

    def _finished(self, event: AttemptFinished) -> None:
        if event.verb in _SMALL:
            self._saw_round_trip(event.seconds)
        self._saw_size(event.verb, event.bytes)

    def _saw_size(self, verb: str, size: int) -> None:
        """Of an object that is to be moved, or was. Small ones are not waited for: all that come soon know it from the first few."""
        if verb not in _WAYS or not size:
            return
        self._sizes.append(size)
        if self.on and len(self._sizes) == _SAMPLE:
            controller = self._controller(_WAYS[verb])
            controller.found_size(max(self._sizes))
            self._apply(controller, "auto: the size of the objects")

    def _progressed(self, op: int, count: int) -> None:
        now = anyio.current_time()
        verb, since, moving = self._running.get(op, ("", now, True))
        way = _WAYS.get(verb)
        if way is None:
            return
        self._bytes[way] += count
        self._slowest = max(self._slowest, now - since)
        self._running[op] = verb, now, True
        if way == "down" and not moving:
            self._saw_round_trip(now - since)

    def _saw_round_trip(self, seconds: float) -> None:
        self._rtts.append((anyio.current_time(), seconds))

    def _rtt(self) -> float:
        """The least of late; what is older than a minute is forgotten, but for the last one."""
        oldest = anyio.current_time() - RTT_COUNTS
        while len(self._rtts) > 1 and self._rtts[0][0] < oldest:
            self._rtts.popleft()
        return min((seconds for _, seconds in self._rtts), default=0.0)

    def _controller(self, way: Way) -> Controller:
        if way not in self._controllers:
            start = FROM_STORE if self._store and way == "down" else START
            self._controllers[way] = Controller(start=start, most=self._most, rtt=self._rtt())
        return self._controllers[way]

    async def _judge_one(self) -> None:
        """One window, looked at from its beginning to its end (A1). While nothing runs there is none: an idle lane costs nothing."""
        if not self._gate.running:
            self._started = anyio.Event()
            await self._started.wait()
        controller = self._controller(self._way)
        controller.rtt = self._rtt()
        self._bytes = {"up": 0, "down": 0}
        self._was_limited = bool(self._limited)
        began, limit = anyio.current_time(), self._gate.limit
        seconds = max(controller.window, _CHUNKS * self._slowest)
        self._slowest = 0.0
        running, free, lags = 0, True, list[float]()
        while anyio.current_time() - began < seconds:
            due = anyio.current_time() + TICK
            await anyio.sleep_until(due)
            lags.append(anyio.current_time() - due)
            running += self._gate.running
            free = free and self._gate.state is State.RUNNING and not self._gate.paused
        if self._gate.limit != limit:
            return  # changed meanwhile, by a throttle or for small objects: the window shows neither limit
        way: Way = "down" if self._bytes["down"] > self._bytes["up"] else "up" if self._bytes["up"] else self._way
        late = sorted(lags)[int(0.95 * (len(lags) - 1))] > LAG
        held_up = running < len(lags) * limit / 2 or not free or late or self._was_limited
        seconds = anyio.current_time() - began
        if way != self._way:
            self._way = way
            self._apply(self._controller(way), f"auto: now {way}")
            return
        controller.judge(Window(seconds, self._bytes[way], held_up))
        self._apply(controller, f"auto: {way} {self._bytes[way] / seconds / 1e6:.1f} MB/s")

    def _apply(self, controller: Controller, why: str, *, throttled: bool = False) -> None:
        limit = controller.throttled() if throttled else controller.limit
        if limit != self._gate.limit:
            self._change(limit, why)
