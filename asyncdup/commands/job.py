"""The first and the last event of every command."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from asyncdup.backends.urls import redact
from asyncdup.commands.options import Options
from asyncdup.errors import exit_code_of, headline
from asyncdup.events import EventHub, JobFinished, JobStarted


@asynccontextmanager
async def job(action: str, *, source: str, target: str, options: Options, events: EventHub | None) -> AsyncIterator[EventHub]:
    """The hub for a command's events: the caller's, or a silent one. What the command raises passes through."""
    hub = events or EventHub(wall=options.now, clock=anyio.current_time)
    hub.job = hub.job or os.urandom(6).hex()
    hub.started = JobStarted(action=action, source=redact(source), target=redact(target))
    hub.emit(hub.started)
    try:
        yield hub
    except BaseException as error:
        said = headline(error) if isinstance(error, Exception) else "interrupted"
        hub.emit(JobFinished(action=action, exit_code=exit_code_of(error), error=said))
        raise
    hub.emit(JobFinished(action=action))
