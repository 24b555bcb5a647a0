"""One command on the event loop: its events to the report and the log, its signals to drain and cancel, its result to an exit code."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

import anyio

from asyncdup.cli.dispatch import Coroutine, Route
from asyncdup.cli.failure import single
from asyncdup.cli.interrupts import Control, Interrupts
from asyncdup.cli.machine_log import MachineLog, open_machine_log
from asyncdup.cli.observers import Observers, open_observers
from asyncdup.cli.options import MAKING
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import Report, Screen, put_line
from asyncdup.cli.settings import Settings
from asyncdup.errors import exit_code_of
from asyncdup.events import EventHub, Notice
from asyncdup.observe.notify import Notify

_WITH_WARNINGS = 62  # X6: done, but some file was not stored as it is (P13)
_TICK = 0.5  # seconds between looks at the progress line, so that its rate falls to zero when nothing moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the command line has around it. ``out``, ``err``: the standard streams. ``wall``: seconds since the epoch."""

    screen: Screen
    out: TextIO
    err: TextIO
    control: Control
    wall: Callable[[], float] = time.time  # noqa: TID251 - the default of the seam itself


def run(settings: Settings, secrets: Secrets, route: Route, around: Surroundings) -> int:
    """Run a command to its end and return the exit code.

    Raises:
        Exception: what the command raised; but once a signal has asked for the end, that is the outcome and nothing is raised.
    """
    with open_machine_log(settings) as logs:
        return _logged(settings, secrets, route, around, logs)


def _logged(settings: Settings, secrets: Secrets, route: Route, around: Surroundings, logs: MachineLog | None) -> int:
    verbosity = min(settings.verbosity, 1) if settings.json else settings.verbosity  # else JSON is not alone
    stamp = partial(_stamp, around.wall) if settings.log_timestamp and not settings.json else None
    report = Report(around.screen, verbosity=verbosity, logs=logs, stamp=stamp)
    coroutine = route.bind(settings, secrets, report)
    person = around.out.isatty() or around.err.isatty()
    with open_observers(settings, around.out, person=person) as observers:
        result = anyio.run(partial(_run, settings, route, coroutine, report, around, observers), backend="asyncio")
        code = exit_code_of(result) if isinstance(result, BaseException) else result
        observers.finish(report, exit_code=code, now=around.wall())
    if isinstance(result, BaseException):
        raise result
    return result


async def _run(
    settings: Settings, route: Route, coroutine: Coroutine, report: Report, around: Surroundings, observers: Observers
) -> int | BaseException:
    """The exit code, or the command's error without the groups around it."""
    clock = asyncio.get_running_loop().time
    hub = EventHub(job=os.urandom(4).hex(), wall=around.wall, clock=clock)
    clear = "\r\x1b[K" if around.err.isatty() else ""  # the progress line may stand there
    say = partial(put_line, around.err, before=clear)
    with anyio.CancelScope() as scope:
        with Interrupts(around.control, scope, grace=settings.grace, say=say, status=lambda: report.status(clock())) as interrupts:
            hub.on_event(interrupts.on_event)
            hub.on_event(report.on_event)
            for subscriber in observers.subscribers:
                hub.on_event(subscriber)
            if address := os.environ.get("NOTIFY_SOCKET"):
                hub.on_event(Notify(address))
            for notice in settings.notices:
                hub.emit(Notice(message=notice))
            try:
                async with _ticking(report, clock):
                    result = await coroutine(events=hub, control=around.control)
                code = _show(settings, route, result, report, observers)
            except Exception as error:  # noqa: BLE001 - the outermost frame of a command: any error has its exit code
                if interrupts.exit_code is None:
                    return single(error)
            finally:
                report.end_progress()
    if interrupts.exit_code is None:
        return code
    report.line("interrupted; the same command goes on from here" if settings.command in MAKING else "interrupted")
    return interrupts.exit_code


def _show(settings: Settings, route: Route, result: Any, report: Report, observers: Observers) -> int:
    report.end_progress()
    code = route.show(result, settings, report)
    observers.summarize(report)
    report.repeat_warnings()
    return _WITH_WARNINGS if code == 0 and report.warned else code


def _stamp(wall: Callable[[], float]) -> str:
    """Local time, as stock writes it (observed: duplicity 3.2.1)."""
    now = wall()
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{int(now % 1 * 1000):03}"


@asynccontextmanager
async def _ticking(report: Report, clock: Callable[[], float]) -> AsyncIterator[None]:
    async def tick() -> None:
        while True:
            await anyio.sleep(_TICK)
            report.refresh(clock())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        yield
        tasks.cancel_scope.cancel()
