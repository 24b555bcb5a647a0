"""A large object in parts: each an attempt of its own, several side by side, one that fails sent again alone (engine rules Q4, I2, X5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import anyio

from asyncdup.backends.base import Body, ObjectInfo, Part, PartLimits, SupportsParts
from asyncdup.backends.bodies import SlicedBody
from asyncdup.errors import NotFound, PermanentError, RetryableError, Unsupported, in_words
from asyncdup.events import Event, Notice
from asyncdup.transfer import verbs
from asyncdup.transfer.attempt import MeteredBody, current_attempt
from asyncdup.transfer.gate import State
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import CLEANUP, Ticket
from asyncdup.transfer.ops import Call
from asyncdup.transfer.retry import Done, call_persistently
from asyncdup.transfer.side_by_side import side_by_side

T = TypeVar("T")

PART = 8 << 20  # bytes; smaller parts cost more in requests than they gain
NUMBER = 9000  # of parts at most: below the 10,000 that S3 takes
IN_FLIGHT = 4 << 20  # bytes that the attempt of a part holds in memory at a time
HURRY = 1.0  # seconds for giving an upload up where the lane does not work anyhow: an end that the user asked for comes within 2 s (G9)
_MIB = 1 << 20


class Begun(NamedTuple):
    """An upload that a journal speaks of: its id, the bytes of a part, and the parts that were stored."""

    id: str
    part_size: int
    parts: tuple[Part, ...] = ()


class PartJournal(Protocol):
    """What a later run must know to go on with an upload. Each call returns when it is noted durably."""

    def earlier(self) -> Begun | None:
        """The upload of the same bytes under the same name that an earlier run has begun."""
        ...

    async def begun(self, upload: str, part_size: int) -> None:
        """Before the first part is sent."""
        ...

    async def stored(self, upload: str, part: Part) -> None:
        """Before the part counts as done."""
        ...


def part_size(size: int, limits: PartLimits) -> int | None:
    """Bytes of a part of an object of ``size`` bytes (Q4); None: it is sent whole, since it is too small for two parts or too large for all."""
    number = min(NUMBER, limits.number)
    even = -(-size // number)
    chosen = max(limits.least, -(-even // _MIB) * _MIB, PART)
    return None if size < 2 * chosen or chosen > limits.most else chosen


def parts_for(lane: Lane, body: Body) -> int | None:
    """Bytes of a part, if ``body`` goes to the backend of ``lane`` in parts. A serial one gains nothing by them."""
    backend, limits = lane.backend, lane.backend.capabilities().parts
    if limits is None or lane.without_parts or not isinstance(backend, SupportsParts) or verbs.is_opaque(backend) or lane.gate.serial:
        return None
    return part_size(body.size, limits)


class PartedPut:
    """What the op of such a put does.

    Args:
        ticket: the op's own; its parts go by its age and level.
        size: bytes of a part.
        whole: puts the object in one request, for a backend that turns out to know no parts (Q2).
        absent: as of ``Engine.submit``.
    """

    def __init__(
        self,
        lane: Lane,
        ticket: Ticket,
        body: Body,
        size: int,
        *,
        whole: Callable[[Call], Awaitable[ObjectInfo]],
        absent: bool,
        journal: PartJournal | None,
        emit: Callable[[Event], None],
    ) -> None:
        assert isinstance(lane.backend, SupportsParts)
        self._lane = lane
        self._backend: SupportsParts = lane.backend
        self._ticket = ticket
        self._name = ticket.name
        self._body = body
        self._size = size
        self._whole = whole
        self._look = partial(verbs.is_stored, lane.backend, self._name, body, absent=absent)
        self._journal = journal
        self._emit = emit

    async def __call__(self, call: Call) -> ObjectInfo:
        earlier = await self._earlier()
        if earlier is not None:
            try:
                return await self._finish(earlier)
            except PermanentError as error:
                self._say(f"{self._name} is sent anew: {in_words(error)}")
        try:
            upload = await self._begin()
        except Unsupported as error:
            self._lane.without_parts = True
            self._say(f"{self._lane.name} takes no objects in parts: {in_words(error)}")
            return await self._whole(call)
        try:
            return await self._finish(upload)
        except NotFound as error:  # somebody has given the upload up, as a rule for old ones does: once that may happen
            self._say(f"{self._name} is sent anew: {in_words(error)}")
        return await self._finish(await self._begin())

    async def _begin(self) -> Begun:
        async def txn() -> str:
            current_attempt().request_sent()
            return await self._backend.begin_parts(self._name, self._body)

        upload = Begun(await self._call("begin", txn), self._size)
        if self._journal is not None:
            try:
                await self._journal.begun(upload.id, self._size)
            except BaseException:
                await self._give_up(upload)
                raise
        return upload

    async def _earlier(self) -> Begun | None:
        """The upload to go on with, and what of it is there. Given up if the target has anything else than what was noted."""
        begun = None if self._journal is None else self._journal.earlier()
        if begun is None:
            return None

        async def txn() -> list[Part]:
            current_attempt().request_sent()
            return await self._backend.list_parts(self._name, begun.id)

        try:
            listed = {part.number: part for part in await self._call("parts", txn)}
        except PermanentError:  # it is gone, or the backend does not tell
            listed = {}
        noted = tuple(part for part in begun.parts if listed.get(part.number) == part and part.size == self._slice(part.number).size)
        if begun.part_size != self._size or not noted or len(noted) < len(begun.parts):
            await self._give_up(begun)
            return None
        self._say(f"{self._name}: going on behind {len(noted)} of {self._number} parts")
        return begun

    async def _finish(self, upload: Begun) -> ObjectInfo:
        """Send what is missing and make the object of it; the upload is given up whatever else happens."""
        try:
            return await self._complete(upload, await self._put_all(upload))
        except BaseException:
            await self._give_up(upload)
            raise

    async def _put_all(self, upload: Begun) -> list[Part]:
        done = {part.number: part for part in upload.parts}

        async def one(number: int, started: Callable[[], None]) -> None:
            part = await self._put(upload, number, started)
            if self._journal is not None:
                await self._journal.stored(upload.id, part)
            done[number] = part

        await side_by_side([number for number in range(1, self._number + 1) if number not in done], one)
        return [part for _, part in sorted(done.items())]

    async def _put(self, upload: Begun, number: int, started: Callable[[], None]) -> Part:
        body = self._slice(number)

        async def txn() -> Part:
            started()
            attempt = current_attempt()
            part = await self._backend.put_part(self._name, upload.id, number, MeteredBody(body, attempt))
            attempt.progress(max(0, body.size - attempt.bytes))
            if part.size != body.size:
                raise RetryableError(f"part {number} of {self._name} is {part.size} bytes at the target, but {body.size} were sent")
            return part

        return await self._call("part", txn, memory=min(body.size, IN_FLIGHT))

    async def _complete(self, upload: Begun, parts: list[Part]) -> ObjectInfo:
        async def txn() -> ObjectInfo:
            attempt = current_attempt()
            attempt.body_begun = True  # whatever is lost from here on may have had its effect
            attempt.request_sent()
            try:
                info = await self._backend.complete_parts(self._name, upload.id, parts, self._body)
            except NotFound:
                done = await self._look()
                if done is None:
                    raise
                return done.value
            return verbs.as_sent(info, self._body)

        return await self._call("complete", txn, reconcile=self._look)

    async def _give_up(self, upload: Begun) -> None:
        """Not cut short by a cancellation. What is left after all, ``cleanup`` finds."""
        gate = self._lane.gate
        works = gate.state is State.RUNNING and not gate.paused
        why = "no answer"
        with anyio.move_on_after(CLEANUP if works else HURRY, shield=True):
            try:
                await self._backend.abort_parts(self._name, upload.id)
                return
            except Exception as error:  # noqa: BLE001 - the failure that led here is the one to be raised
                why = in_words(error)
        self._say(f"the parts of {self._name} are still at {self._lane.name} ({why}); cleanup removes them")

    async def _call(
        self,
        verb: str,
        txn: Callable[[], Awaitable[T]],
        *,
        memory: int = 0,
        reconcile: Callable[[], Awaitable[Done[T] | None]] | None = None,
    ) -> T:
        ticket = replace(self._ticket, verb=verb, memory=memory, last=None)
        return await call_persistently(txn, gate=self._lane.gate, op=ticket, reconcile=reconcile, emit=self._emit)

    @property
    def _number(self) -> int:
        return -(-self._body.size // self._size)

    def _slice(self, number: int) -> SlicedBody:
        start = (number - 1) * self._size
        return SlicedBody(self._body, start, max(0, min(self._size, self._body.size - start)))

    def _say(self, message: str) -> None:
        self._emit(Notice(lane=self._lane.name, op=self._ticket.number, message=message))
