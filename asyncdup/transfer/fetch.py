"""What the op of one object of an ordered read does: fetch it into the spool, verified, and again if it is not what was expected (engine rule O7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from asyncdup.backends.base import SupportsLocalFiles
from asyncdup.errors import BadRequest, IntegrityError, Unsupported, in_words
from asyncdup.events import Event, Notice
from asyncdup.transfer.download import Download
from asyncdup.transfer.hedge import Race, may_hedge
from asyncdup.transfer.in_place import InPlace
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import Ticket
from asyncdup.transfer.ops import Call
from asyncdup.transfer.permits import Permit
from asyncdup.transfer.ranges import comes_in_ranges, fetch_in_ranges
from asyncdup.transfer.retry import call_once
from asyncdup.transfer.spool import Spool, SpoolFile

FETCHES = 3  # of an object whose bytes are not what was expected (O7)
IN_FLIGHT = 4 << 20  # bytes: what an attempt that streams to or from a file holds in memory at a time
UNKNOWN = 32 << 20  # bytes of room for an object of unknown size


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """An object to be read, and what is known of it. ``digests``: ``hashlib`` name to hex digest; all are checked.

    ``in_place``: the item may be a link to the object itself where that is a local file, so its file must not be written to.
    """

    name: str
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    in_place: bool = False


class ReadItem:
    """An object that was read and verified. Its file is the consumer's until the next item is asked for."""

    __slots__ = ("_file", "name", "path", "size")

    def __init__(self, name: str, size: int, file: SpoolFile) -> None:
        self.name = name
        self.size = size
        self.path = file.path
        self._file = file

    def keep(self) -> Path:
        """The file is the caller's for good: nobody else removes it."""
        return self._file.keep()

    async def discard(self) -> None:
        """Remove the file, unless it was kept. Idempotent."""
        await self._file.discard()


@dataclass(slots=True)
class Ahead:
    """What is left of an ordered read: objects that were begun and are not fetched, and whether there may be ``more``."""

    unfinished: int = 0
    more: bool = True


class Fetch:
    """Knows nothing of the reader, so that nobody keeps the other alive.

    ``ahead``: what the reader has left to do; what few objects are left are fetched in ranges, where there are slots for them.
    ``race``: where a second attempt may be made; None: nowhere (H1). ``began``: its first attempt has.
    """

    def __init__(
        self, lane: Lane, spool: Spool, request: ReadRequest, ticket: Ticket, emit: Callable[[Event], None], *, ahead: Ahead, hedge: bool
    ) -> None:
        self._emit = emit
        self._lane = lane
        self._spool = spool
        self._request = request
        self._ticket = ticket
        self._ahead = ahead
        self.race: Race[ReadItem] | None = None
        if hedge and request.size is not None and not self._in_place and may_hedge(lane):
            self.race = Race(lane, ticket, request.size, emit)

    @property
    def began(self) -> bool:
        return self.race is not None and self.race.began is not None

    async def __call__(self, call: Call) -> ReadItem:
        try:
            if self.race is None:
                return await self._first(call)
            return await self.race.run(partial(self._first, call), self._second)
        finally:
            self._ahead.unfinished -= 1

    async def _first(self, call: Call) -> ReadItem:
        file = await self._room()
        return await self._into(file, lambda download: self._verified(call, download, file))

    async def _second(self, permit: Permit) -> ReadItem:
        """Once, and whole: what the first attempt has so far may be what is wrong with it."""
        assert self.race is not None
        race, gate = self.race, self._lane.gate
        try:
            file = await self._room()  # at once, as for every object that is waited for
        except BaseException:
            gate.release(permit)
            raise

        async def once(download: Download | InPlace) -> int:
            await call_once(partial(race.watched, download.attempt, hedge=True), gate=gate, permit=permit, emit=self._emit)
            return download.check()

        return await self._into(file, once)

    async def _room(self) -> SpoolFile:
        size = self._request.size
        return await self._spool.for_reading(UNKNOWN if size is None else size, self._ticket)

    async def _into(self, file: SpoolFile, fetch: Callable[[Download | InPlace], Awaitable[int]]) -> ReadItem:
        """The file is the item's, or removed."""
        try:
            download = self._download(file.path)
            try:
                size = await fetch(download)
            finally:
                await download.close()
        except BaseException:
            await file.discard()
            raise
        return ReadItem(self._request.name, size, file)

    @property
    def _in_place(self) -> bool:
        return self._request.in_place and isinstance(self._lane.backend, SupportsLocalFiles)

    def _download(self, path: Path) -> Download | InPlace:
        request, backend = self._request, self._lane.backend
        if request.in_place and isinstance(backend, SupportsLocalFiles):
            return InPlace(backend, request.name, path, size=request.size, digests=request.digests)
        return Download(backend, request.name, path, size=request.size, digests=request.digests)

    async def _verified(self, call: Call, download: Download | InPlace, file: SpoolFile) -> int:
        if (size := self._in_ranges()) is not None:
            try:
                return await fetch_in_ranges(self._lane, self._ticket, file, size=size, digests=self._request.digests, emit=self._emit)
            except (IntegrityError, BadRequest, Unsupported) as error:  # whatever became of the ranges, the whole may be right
                self._say(f"{in_words(error)}; fetching {self._request.name} whole")
        for _ in range(FETCHES - 1):
            try:
                return await self._fetch(call, download, file)
            except IntegrityError as error:
                self._say(f"{error}; fetching it again")
                download.restart()
        return await self._fetch(call, download, file)

    async def _fetch(self, call: Call, download: Download | InPlace, file: SpoolFile) -> int:
        attempt = download.attempt if self.race is None else partial(self.race.watched, download.attempt)
        await file.filled_by(lambda: call(attempt))  # while it waits for the disk, the slot at the target is given back (S2)
        return download.check()

    def _in_ranges(self) -> int | None:
        """The object's size, if it is to be fetched in ranges: slots are free that no other object of this read will want."""
        request, ahead = self._request, self._ahead
        spare = not ahead.more and ahead.unfinished < self._lane.concurrency
        return request.size if spare and comes_in_ranges(self._lane, request.size, request.digests) else None

    def _say(self, message: str) -> None:
        self._emit(Notice(lane=self._lane.name, op=self._ticket.number, message=message))
