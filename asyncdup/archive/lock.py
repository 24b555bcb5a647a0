"""The lock at a target: one writer at a time, also from several machines and through several backends (P10).

Every writer stores an object of its own, ``asyncdup-lock-ID``, and then lists: if the listing shows its own and no other, it holds the lock.
Two cannot both hold it, as each had stored before it listed; so no backend needs an exclusive put, and the listing that proves the lock is
at the same time the one that the run may build upon. Objects of others are removed only if their writer is known to be dead. The names
mean nothing to stock duplicity, which neither waits for the lock nor removes it (observed: collection-status, cleanup --force).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import anyio

from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import AsyncdupError, BackendError, DependencyFailed, LockedError, NotFound
from asyncdup.formats.names import Prefixes
from asyncdup.transfer import Engine, Lane, Op
from asyncdup.units import format_duration

MARK = "asyncdup-lock-"
REFRESH = 600.0  # seconds between two signs of life
EXPIRY = 3600.0  # seconds without one, after which the writer counts as dead
YOUNG = 30.0  # seconds: another lock that is no older may be one that is withdrawn, since two began at once
LOOKS, PAUSE = 15, 2.0  # times and seconds that the first of them waits for the others to withdraw
CLEANUP = 5.0  # seconds to remove our object from a run that failed
MAX_SIZE = 1 << 16

# Ids of this process's locks: an object of this very process that is not among them was left by a run that could not remove it.
_held: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock: the content of its object. Empty text and 0: not known.

    Attributes:
        host, machine: names of the machine, as people and as the system know it; boot: its run since it was switched on.
        space: the name space that ``pid`` counts in (a container has its own); birth: when that process began, as the kernel counts.
        started, refreshed: seconds since the epoch, by the holder's clock.
    """

    id: str = ""
    command: str = ""
    host: str = ""
    machine: str = ""
    boot: str = ""
    space: str = ""
    pid: int = 0
    birth: str = ""
    started: float = 0.0
    refreshed: float = 0.0

    def encode(self) -> bytes:
        """As it is stored."""
        return json.dumps({"v": 1, **asdict(self)}).encode("ascii") + b"\n"

    def describe(self, now: float) -> str:
        """For a person."""
        if not self.host:
            return "somebody who has not said who"
        age = f", begun {format_duration(max(0.0, now - self.started))} ago" if self.started else ""
        return f"{self.command or 'a run'} on {self.host} (process {self.pid}{age})"


def decode(data: bytes, id: str) -> Holder:
    """The holder that an object says; one that is nobody if it says nothing that can be understood. Hostile content does no harm."""
    try:
        found = json.loads(data)
        known = {field.name: type(getattr(_NOBODY, field.name)) for field in fields(Holder)}
        values = {name: kind(found[name]) for name, kind in known.items() if name in found}
        values |= {name: _printable(value) for name, value in values.items() if isinstance(value, str)}
        return Holder(**{**values, "id": id})
    except (ValueError, TypeError, OverflowError, RecursionError):
        return Holder(id=id)


_NOBODY = Holder()


def this_process(command: str, now: float) -> Holder:
    """Ourselves, with a new id. Looks at a few small files of the kernel."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return Holder(
        id=secrets.token_hex(8),
        command=command,
        host=socket.gethostname(),
        machine=_line("/etc/machine-id"),
        boot=_line("/proc/sys/kernel/random/boot_id"),
        space=space,
        pid=os.getpid(),
        birth=birth_of(os.getpid()) or "",
        started=now,
        refreshed=now,
    )


def birth_of(pid: int) -> str | None:
    """When the process began, in the kernel's count; "" if that cannot be known; None: there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # a number beyond all processes is nobody's
        return None
    except OSError:
        pass  # it is another user's
    return ""


def why_dead(holder: Holder, here: Holder, *, age: float, birth: Callable[[int], str | None] = birth_of) -> str:
    """Why the writer that ``holder`` speaks of cannot be alive; "" if it may be. Pure but for ``birth``.

    ``age``: seconds since its last sign of life, by the clock of the target or of both machines.
    """
    same_host = bool(holder.host) and holder.host == here.host and holder.machine == here.machine
    if same_host and holder.boot == here.boot and holder.space == here.space and here.boot:
        if (holder.pid, holder.birth) == (here.pid, here.birth):
            return "" if holder.id in _held else "it was left by an earlier run of this process"
        found = birth(holder.pid)
        if found is None or (found and holder.birth and found != holder.birth):
            return f"its process {holder.pid} has ended"
        return ""  # it lives, however long it has been silent
    if same_host and here.machine and here.boot and holder.boot and holder.boot != here.boot:
        return "this machine was started anew since"
    return f"it gave no sign of life for {format_duration(age)}" if age > EXPIRY else ""


def lock_names(names: Iterable[str], prefixes: Prefixes) -> list[str]:
    """Those of ``names`` that are locks of the backups with these prefixes."""
    mark = prefixes.file_prefix + MARK
    return [name for name in names if name.startswith(mark)]


class _Doubtful(AsyncdupError):
    """Another lock was seen, or the target is not as it was when the run began to prepare."""


class TargetLock:
    """Our lock at one target: ``begin``, then ``hold`` before anything is written, ``release`` at the end.

    Args:
        holder: ourselves.
        now: the wall clock.
        notice: told what a person should know.
    """

    def __init__(
        self, engine: Engine, lane: Lane, holder: Holder, *, prefixes: Prefixes, now: Callable[[], float], notice: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._lane = lane
        self._holder = holder
        self._prefixes = prefixes
        self._now = now
        self._notice = notice
        self._begun = False  # our object may be there
        self._put: Op[ObjectInfo] | None = None
        self._relist: Op[list[ObjectInfo]] | None = None
        self._refreshed = 0.0
        self._ended: set[str] = set()  # locks of dead writers that were removed
        self.held = False

    @property
    def name(self) -> str:
        """Of our object."""
        return f"{self._prefixes.file_prefix}{MARK}{self._holder.id}"

    async def listing(self) -> dict[str, ObjectInfo]:
        """The objects at the target as they are. Before ``hold`` has said True, good for preparing only."""
        return _by_name(await self._engine.list(self._lane))

    async def begin(self, listing: Mapping[str, ObjectInfo]) -> None:
        """Have our object stored, and the listing made that proves the lock, while the caller goes on from ``listing``. Idempotent.

        Not before it is known that the run may write at all: on a disk that is not mounted this would make the folder (P19).
        """
        if self._begun:
            return
        self._begun = True
        _held.add(self._holder.id)
        body = BytesBody(self._holder.encode())
        self._put = await self._engine.submit(self._lane, "put", self.name, body, absent=True, metadata=True)
        judge = partial(self._judge, listing)
        self._relist = await self._engine.submit(self._lane, "list", "", after=[self._put], on_stored=judge)
        self._put.observed = self._relist.observed = True  # their failures come up by ``hold``, or by what was sent behind them

    @property
    def proof(self) -> list[Op[Any]]:
        """What must have succeeded before anything is written, unless ``hold`` has said True: for ``after`` of ``submit``.

        It fails if the target is not as ``begin`` was told, or another lock is there: then ``excuse``, and ``hold``.
        """
        return [] if self.held or self._relist is None else [self._relist]

    async def excuse(self, error: DependencyFailed) -> None:
        """Return if ``error`` came up because ``proof`` failed; else, and if the lock could not be stored, raise why."""
        if self._relist is None or self.held:
            raise error
        await self._relist.wait()
        if self._relist.succeeded:
            raise error
        if self._put is not None:
            await self._put.result()
        if not isinstance(self._relist.error, _Doubtful):
            await self._relist.result()

    async def hold(self, listing: Mapping[str, ObjectInfo]) -> bool:
        """Whether we hold the lock and the target is as ``listing`` says. False: we hold it, but prepare anew, from a new ``listing``.

        Raises:
            LockedError: another writer is at work.
        """
        await self.begin(listing)
        proof = await self._proof(listing)
        alive: list[tuple[Holder, float]] | None = None
        for left in range(LOOKS, -1, -1):
            while (alive := await self._others(proof)) is None:
                proof = await self.listing()
            if not alive:
                self._take()
                return _shown(proof, self._prefixes) == _shown(listing, self._prefixes)
            # Of those that began at once the one with the first id waits for the others to withdraw. None of them may hold the lock:
            # then it does not withdraw, and we must.
            if not left or not all(self._holder.id < other.id and age <= YOUNG for other, age in alive):
                break
            await anyio.sleep(PAUSE)
            proof = await self.listing()
        await self._withdraw()
        raise self._refusal(alive or [])

    async def held_listing(self) -> dict[str, ObjectInfo]:
        """The objects at the target, under the lock; nothing is locked if there are none. Raises LockedError."""
        listing = await self.listing()
        while listing and not await self.hold(listing):
            listing = await self.listing()
        return listing

    async def keep(self) -> None:
        """Give a sign of life now and then, for ever. Raises LockedError when somebody has taken our lock away."""
        while True:
            await anyio.sleep(REFRESH)
            if self.held:
                await self._refresh()

    async def check(self) -> None:
        """Before a commit: that nobody has taken the lock of a machine that slept. Costs nothing if a sign of life was given lately.

        Raises:
            LockedError: it was taken over.
        """
        if self.held and self._now() - self._refreshed > EXPIRY / 2:
            await self._refresh()

    async def release(self, *, failed: bool) -> None:
        """Remove our object. After a failure, or cancelled, within some seconds and past the engine, which may take nothing any more."""
        if not self._begun:
            return
        orderly = False
        try:
            if not failed:
                await self._withdraw()
                orderly = True
        except BackendError as error:
            orderly = True
            self._notice(f"the lock {self.name} could not be removed ({error}); the next run here takes it over")
        finally:
            if not orderly:
                await self._remove()
            _held.discard(self._holder.id)

    async def _remove(self) -> None:
        with anyio.move_on_after(CLEANUP, shield=True), suppress(BackendError):
            if self._put is not None:  # else it was cancelled while it was submitted, which may be when it was stored
                self._put.cancel()
                await self._put.wait()
            await self._lane.backend.delete(self.name)

    async def _proof(self, listing: Mapping[str, ObjectInfo]) -> Mapping[str, ObjectInfo]:
        """A listing that was made when our object was there."""
        assert self._put is not None and self._relist is not None, "begin comes first"
        await self._put.result()
        if self.name in listing:
            return listing
        await self._relist.wait()
        proof = _by_name(self._relist.value) if self._relist.succeeded else await self.listing()
        if self.name not in proof and self._lane.backend.capabilities().read_after_write:
            raise LockedError(
                f"the lock that was just stored at {self._lane.name} is not there",
                hint="another run has removed it, or the place does not keep what it is given; try again",
            )
        return proof

    async def _judge(self, listing: Mapping[str, ObjectInfo], infos: list[ObjectInfo]) -> None:
        """Whether nothing speaks against the lock; anything else is for ``hold`` to find out."""
        proof = _by_name(infos)
        if self.name not in proof and self._lane.backend.capabilities().read_after_write:
            raise _Doubtful
        if await self._others(proof) != [] or _shown(proof, self._prefixes) != _shown(listing, self._prefixes):
            raise _Doubtful
        self._take()

    def _take(self) -> None:
        if not self.held:
            self.held, self._refreshed = True, self._now()

    async def _others(self, listing: Mapping[str, ObjectInfo]) -> list[tuple[Holder, float]] | None:
        """Writers that may be alive, with the age of their last sign of life. Locks of dead ones are removed.

        None: one has ended, perhaps just now; what it wrote last the listing may lack.
        """
        alive, has_ended = [], False
        for name in lock_names(listing, self._prefixes):
            if name == self.name:
                continue
            try:
                data = await self._engine.fetch(self._lane, name, MAX_SIZE)
            except NotFound:
                return None
            holder = decode(data, name.rpartition(MARK)[2])
            age = self._age(listing, name, holder)
            reason = why_dead(holder, self._holder, age=age)
            if reason:
                self._notice(f"the lock of {holder.describe(self._now())} is taken over: {reason}")
                await self._engine.run(self._lane, "delete", name)
                has_ended |= name not in self._ended  # once: a target may go on listing what was deleted
                self._ended.add(name)
            else:
                alive.append((holder, age))
        return None if has_ended else alive

    def _age(self, listing: Mapping[str, ObjectInfo], name: str, holder: Holder) -> float:
        own, other = listing.get(self.name), listing[name]
        if own is not None and own.mtime is not None and other.mtime is not None:
            return max(0.0, own.mtime - other.mtime)  # both by the target's clock
        return max(0.0, self._now() - holder.refreshed) if holder.refreshed else 0.0

    async def _withdraw(self) -> None:
        await self._engine.run(self._lane, "delete", self.name)
        self.held = False

    async def _refresh(self) -> None:
        late = self._now() - self._refreshed > EXPIRY / 2  # by now another may be about to take us for dead
        try:
            await self._engine.run(self._lane, "stat", self.name)
        except NotFound:
            self.held = False
            raise self._lost() from None
        self._refreshed = self._now()
        values = {**asdict(self._holder), "refreshed": self._refreshed}
        await self._engine.run(self._lane, "put", self.name, BytesBody(Holder(**values).encode()), metadata=True)
        if late and len(lock_names(await self.listing(), self._prefixes)) > 1:
            await self._withdraw()
            raise self._lost()

    def _lost(self) -> LockedError:
        return LockedError(
            f"our lock at {self._lane.name} was taken over by another run",
            hint="it took this one for dead: was the machine asleep? Run the same command again when the other has ended",
        )

    def _refusal(self, alive: list[tuple[Holder, float]]) -> LockedError:
        holder, age = alive[0] if alive else (_NOBODY, 0.0)
        silent = f"; its last sign of life is {format_duration(age)} old" if age > 2 * REFRESH else ""
        return LockedError(
            f"{self._lane.name} is locked by {holder.describe(self._now())}{silent}",
            hint=f"wait for it to end. A lock without a sign of life for {format_duration(EXPIRY)} is taken over; "
            "if you know that its run is dead: asyncdup unlock --force URL",
        )


def _by_name(infos: Iterable[ObjectInfo]) -> dict[str, ObjectInfo]:
    return {info.name: info for info in infos}


def _shown(listing: Mapping[str, ObjectInfo], prefixes: Prefixes) -> dict[str, int]:
    """What two listings must agree in: names and sizes, but for locks."""
    locks = set(lock_names(listing, prefixes))
    return {name: info.size for name, info in listing.items() if name not in locks}


def _printable(text: str) -> str:
    return "".join(character for character in text[:200] if character.isprintable())


def _line(path: str) -> str:
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as file:
        return file.read(200).strip()
    return ""
