"""The lock at the target, for the time of a command that writes there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from asyncdup.archive.lock import TargetLock, this_process
from asyncdup.commands.session import Session
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
        raise sole(group) from None
    finally:
        await lock.release(failed=failed)
