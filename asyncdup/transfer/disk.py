"""The disk under the spool, as a lane with a gate of its own (engine rule S11).

A write that it refuses for want of room, or by a fault, is made again at the same place, so nothing that was read or compressed is lost. While
volumes in the spool are on their way to the target their leaving frees room by itself; only when none is, somebody has to act.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import anyio

from asyncdup.errors import OperatorError
from asyncdup.events import Blocked, Event, Unblocked
from asyncdup.threads import in_thread
from asyncdup.transfer.attempt import current_attempt
from asyncdup.transfer.lane import Gate
from asyncdup.transfer.limits import Room, Ticket
from asyncdup.transfer.retry import call_persistently
from asyncdup.units import format_size

REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class SpoolDisk:
    """The file system that ``folder`` is on. ``gate``: its own; ``room``: what the spool holds."""

    def __init__(self, folder: Path, room: Room, gate: Gate, emit: Callable[[Event], None]) -> None:
        self.gate = gate
        self._folder = folder
        self._room = room
        self._emit = emit
        self._freed = anyio.Event()

    def freed(self) -> None:
        """A file of the spool is gone, which counts as a success (G2)."""
        self.gate.freed()
        self._freed.set()
        self._freed = anyio.Event()

    async def repeat(self, refused: OSError, again: Callable[[], None], *, needed: int) -> None:
        """A write was ``refused``: call ``again`` (in a thread) until it succeeds. ``needed``: bytes of the whole file, for the message.

        Raises:
            OSError: ``refused`` is of another kind, or mode ``fail`` gives up.
            InterruptedByOperator: told to stop, or waited for too long (R1, G8).
        """
        if refused.errno not in REFUSALS:
            raise refused
        if not await self._as_sends_free_room(again):
            await self._at_gate(again, needed)

    async def _as_sends_free_room(self, again: Callable[[], None]) -> bool:
        """Try whenever something has left the spool, as long as anything is about to; whether it succeeded."""
        began = anyio.current_time()
        if not self._room.leaving:
            return False
        self._emit(Blocked(lane=self.gate.name, what="spool"))
        try:
            while self._room.leaving:
                await self._freed.wait()
                try:
                    await in_thread(again)
                    return True
                except OSError as error:
                    if error.errno not in REFUSALS:
                        raise
            return False
        finally:
            self._emit(Unblocked(lane=self.gate.name, what="spool", seconds=anyio.current_time() - began))

    async def _at_gate(self, again: Callable[[], None], needed: int) -> None:
        async def txn() -> None:
            with current_attempt().own_wait():  # a slow disk is no stall (T2)
                try:
                    await in_thread(again)
                except OSError as error:
                    if error.errno not in REFUSALS:
                        raise
                    raise self._operator_error(error, needed) from error

        await call_persistently(txn, gate=self.gate, op=Ticket(verb="put", name="a file of the spool"), emit=self._emit)

    def _operator_error(self, error: OSError, needed: int) -> OperatorError:
        where = f"{mount_point(self._folder)}, where {self._folder} is"
        if error.errno == errno.EIO:
            hint = f"see to the disk of {where}: it reports a fault"
        else:
            hint = f"make room on {where}: a file of {format_size(needed)} is being written"
        return OperatorError(f"{where}: {error.strerror}", space=True, hint=hint)


def mount_point(folder: Path) -> Path:
    """The root of the file system that ``folder`` is on."""
    folder = folder.absolute()
    device = folder.stat().st_dev
    while folder.parent != folder and folder.parent.stat().st_dev == device:
        folder = folder.parent
    return folder
