"""Whether a place keeps what backups rely on, and how fast it is: the conformance suite and a small speed test on the user's own storage.

Path: ``testing.conformance`` -> small stats -> puts and gets of 1 MiB, 1, 4 and 16 in flight -> ``link.advise``. No engine and no retry is between: what the
backend does is what is looked at. All names are its own, ``check-…``, and a few odd ones that were free; they are removed in any case.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from asyncdup.backends.base import Backend, Capabilities, LinkSigns, SupportsLinkSigns
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.registry import open_backend
from asyncdup.backends.tcp import read_controls
from asyncdup.commands.job import job
from asyncdup.commands.link import Advice, Rates, Watch, advise
from asyncdup.commands.options import Control, Options
from asyncdup.errors import BackendError, Drained, Unsupported
from asyncdup.events import EventHub, Notice
from asyncdup.testing.conformance import CHECKS, Check, ConformanceError
from asyncdup.testing.promises import closing_twice_is_closing_once
from asyncdup.testing.site import pattern
from asyncdup.threads import in_thread

LEVELS = (1, 4, 16)  # calls in flight
_MANY = 20  # objects for the check of long listings: enough to see it, few enough for a slow link
_PATIENCE = 300.0  # seconds for one check
_STATS = 7
_MIB = 1 << 20
_SMALL = 1 << 16  # bytes of an object where 1 MiB takes longer than a second
_MEASURE = 1.5  # seconds in which new transfers are started, for each level and direction
_LAST = 6.0  # seconds after which a level ends, whatever is under way
_MOST = 128  # objects of a level
_CLEANUP = 30.0  # seconds to remove what the speed test has put


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendReport:
    """What was found.

    Attributes:
        place: the URL without its password.
        concurrent: whether calls may run at once.
        passed, skipped: promises kept, and those that do not apply because an ability is absent.
        broken: promises broken, each with what was seen. ``lacking``: the same of what the server says that it has not.
        rtt: seconds of the fastest small question.
        size: bytes of the objects that ``rates`` were measured with.
        congestion: controls that the connections use; empty where that is not known.
    """

    place: str
    capabilities: Capabilities
    concurrent: bool
    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    lacking: tuple[tuple[str, str], ...]
    rtt: float
    rates: tuple[Rates, ...]
    size: int
    congestion: tuple[str, ...]
    advice: Advice


async def check_backend(
    url: str,
    options: Options | None = None,
    *,
    speed_only: bool = False,
    events: EventHub | None = None,
    control: Control | None = None,
    on_check: Callable[[str, str], None] = lambda name, outcome: None,
) -> BackendReport:
    """Try ``url`` out. It may hold backups: they are neither read nor touched.

    Args:
        speed_only: leave the promises out.
        on_check: is told each promise and "kept", "does not apply" or what was seen instead.

    Raises:
        BackendError: the place cannot be listed, written or read at all.
        Drained: the operator wants it to end.
    """
    options, control = options or Options(), control or Control()
    async with job("check-backend", source="", target=url, options=options, events=events) as hub:
        given = replace(options.backend, concurrency=max(LEVELS), notify=lambda message: hub.emit(Notice(message=message)))
        quiet = replace(given, notify=lambda message: None)  # the same remarks need not be made twice
        async with _closing(open_backend(url, given)) as backend:
            await _first_contact(backend)
            found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in ("kept", "does not apply", "not offered", "broken")}
            for check in () if speed_only else CHECKS:
                _go_on(control)
                kind, seen = await _outcome(check, backend, lambda: open_backend(url, quiet))
                found[kind].append((check.name, seen))
                on_check(check.name, seen or kind)
            speed = _Speed(backend, control)
            rtt, rates = await speed.measure()
            signs = _signs(backend)
            return BackendReport(
                place=backend.description,
                capabilities=backend.capabilities(),
                concurrent=backend.supports_concurrency(),
                passed=tuple(name for name, _ in found["kept"]),
                skipped=tuple(name for name, _ in found["does not apply"]),
                broken=tuple(found["broken"]),
                lacking=tuple(found["not offered"]),
                rtt=rtt,
                rates=rates,
                size=speed.size,
                congestion=tuple(sorted({sign.congestion for sign in signs})),
                advice=advise(rates, signs, await in_thread(read_controls)),
            )


async def _first_contact(backend: Backend) -> None:
    """A wrong password or a full disk is no broken promise, so it comes out as what it is."""
    name = f"check-{secrets.token_hex(4)}-first"
    try:
        await backend.put(name, BytesBody(b"asyncdup check-backend\n"))
    finally:
        await _remove(backend, [name])


async def _outcome(check: Check, backend: Backend, another: Callable[[], Backend]) -> tuple[str, str]:
    """What kind of end ``check`` has on ``backend``, and what was seen. One backend for all, so that logging in once is enough; the check of closing has one of its own."""

    @asynccontextmanager
    async def make() -> AsyncGenerator[Backend, None]:
        if check.promise is closing_twice_is_closing_once:
            async with _closing(another()) as own:
                yield own
        else:
            yield backend

    try:
        with anyio.fail_after(_PATIENCE):
            return ("kept" if await check.run(make, many=_MANY) else "does not apply"), ""
    except ConformanceError as error:
        kind = "not offered" if isinstance(error.__cause__, Unsupported) else "broken"
        return kind, str(error).removeprefix(f"{check.name}: ")
    except TimeoutError:
        return "broken", f"not done after {_PATIENCE:.0f} s"


class _Speed:
    """The speed test of one backend."""

    def __init__(self, backend: Backend, control: Control) -> None:
        self._backend = backend
        self._control = control
        self._prefix = f"check-{secrets.token_hex(4)}-speed"
        self._names: list[str] = []
        self.size = _MIB

    async def measure(self) -> tuple[float, tuple[Rates, ...]]:
        """Seconds of the fastest stat, and the rates at each level. Removes what it has put."""
        backend = self._backend
        most = backend.capabilities().max_concurrency or max(LEVELS)
        levels = [level for level in LEVELS if level == 1 or (backend.supports_concurrency() and level <= most)]
        try:
            name = self._name()
            await backend.put(name, BytesBody(b"x"))
            rtt = min([await _seconds(lambda: backend.stat(name)) for _ in range(_STATS)])
            data = pattern(_MIB)
            if await _seconds(lambda: backend.put(name, BytesBody(data))) > 1.0:
                self.size = _SMALL
            return rtt, tuple([await self._level(level, data[: self.size]) for level in levels])
        finally:
            await _remove(backend, self._names)

    async def _level(self, in_flight: int, data: bytes) -> Rates:
        put: list[str] = []
        watch = Watch(_signs(self._backend))

        async def up() -> None:
            name = self._name()
            await self._backend.put(name, BytesBody(data))
            put.append(name)
            watch.look(_signs(self._backend))

        up_rate = await self._rate(in_flight, up, len(data))
        turn = iter(put * (1 + _MOST // max(1, len(put))))

        async def down() -> None:
            async with self._backend.get(next(turn)) as chunks:
                async for _ in chunks:
                    pass

        down_rate = await self._rate(in_flight, down, len(data)) if put else None
        return Rates(
            in_flight=in_flight,
            up=up_rate,
            down=down_rate,
            sent=watch.sent,
            sent_again=watch.sent_again,
            queue=watch.queue,
            queued=watch.queued,
        )

    async def _rate(self, in_flight: int, call: Callable[[], Awaitable[None]], size: int) -> float | None:
        _go_on(self._control)
        begin = last = anyio.current_time()
        started = done = 0

        async def work() -> None:
            nonlocal started, done, last
            while started < _MOST and anyio.current_time() - begin < _MEASURE:
                started += 1
                try:
                    await call()
                except BackendError:
                    return  # too much at once is an answer, too: the others show the rate that there is
                done += 1
                last = anyio.current_time()

        with anyio.move_on_after(_LAST):
            async with anyio.create_task_group() as tasks:
                for _ in range(in_flight):
                    tasks.start_soon(work)
        return done * size / (last - begin) if done and last > begin else None

    def _name(self) -> str:
        self._names.append(f"{self._prefix}-{len(self._names)}")
        return self._names[-1]


@asynccontextmanager
async def _closing(backend: Backend) -> AsyncGenerator[Backend, None]:
    try:
        yield backend
    finally:
        with anyio.move_on_after(_CLEANUP, shield=True):
            await backend.aclose()


async def _remove(backend: Backend, names: list[str]) -> None:
    left = iter(names)

    async def work() -> None:
        for name in left:
            try:
                await backend.delete(name)
            except BackendError:
                continue  # it may never have been there; if it cannot be deleted, a check has said so

    with anyio.move_on_after(_CLEANUP, shield=True):
        async with anyio.create_task_group() as tasks:
            for _ in range(4 if backend.supports_concurrency() else 1):
                tasks.start_soon(work)


async def _seconds(call: Callable[[], Awaitable[object]]) -> float:
    begin = anyio.current_time()
    await call()
    return anyio.current_time() - begin


def _signs(backend: Backend) -> Sequence[LinkSigns]:
    return backend.link_signs() if isinstance(backend, SupportsLinkSigns) else ()


def _go_on(control: Control) -> None:
    if control.draining:
        raise Drained("check-backend was told to end")
