"""The lock at the target, for the time of a command that writes there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from asyncdup.archive.lock import TargetLock, this_process
from asyncdup.commands.session import Session
from asyncdup.errors import LaneUnavailable
from asyncdup.transfer.failure import sole


@asynccontextmanager
async def target_lock(session: Session, command: str) -> AsyncIterator[TargetLock]:
    """The lock, not yet taken: its ``begin`` asks for it, its ``hold`` or ``held_listing`` waits for it. Released at the end.

    Raises:
        LockedError: another writer is at work; or, later, has taken the lock of this one.
    """
    options = session.options
    lock = TargetLock(
        session.engine,
        session.lane,
        this_process(command, options.now()),
        prefixes=options.prefixes,
        now=options.now,
        notice=session.notice,
    )
    failed = True
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lock.keep)
            yield lock
            tasks.cancel_scope.cancel()
        failed = False
    except BaseExceptionGroup as group:
        raise _chief(group) from None
    finally:
        await lock.release(failed=failed)


def _chief(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of the run's error and that of its lock, if both failed at once, the one that says why: that the lane has given up has a cause as well."""
    errors = [sole(error) for error in getattr(sole(group), "exceptions", (sole(group),))]
    return min(errors, key=lambda error: (isinstance(error, Exception), isinstance(error, LaneUnavailable)))
