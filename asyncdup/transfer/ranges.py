"""A large object fetched in ranges: several side by side through the gate, into one file that is verified whole (engine rule O7).

One connection carries at most a window in a round trip; where nothing else is left to fetch, the other slots take their part of this object.
Each range is a call of its own under the retry rules, and goes on where it broke off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import FileIO
from typing import NamedTuple

from asyncdup.backends.base import SupportsLocalFiles
from asyncdup.errors import Unsupported
from asyncdup.events import Event
from asyncdup.threads import in_thread
from asyncdup.transfer.download import Download, check_object, known_digests
from asyncdup.transfer.lane import Lane
from asyncdup.transfer.limits import Ticket
from asyncdup.transfer.parts import IN_FLIGHT, PART
from asyncdup.transfer.retry import call_persistently
from asyncdup.transfer.side_by_side import side_by_side
from asyncdup.transfer.spool import SpoolFile
from asyncdup.transfer.verbs import is_opaque

PER_SLOT = 4  # ranges for each slot, so that no slot is left with a large one at the end
_HASH = 16 << 20  # bytes that a thread hashes in one go: a cancellation waits for no more
_BUFFER = 1 << 18


class Range(NamedTuple):
    """``size`` bytes from byte ``start`` on."""

    start: int
    size: int


def ranges_of(size: int, slots: int) -> list[Range]:
    """An object of ``size`` bytes in ranges of at least ``PART`` each, but for the last."""
    each = max(PART, -(-size // (PER_SLOT * slots)))
    return [Range(start, min(each, size - start)) for start in range(0, size, each)]


def comes_in_ranges(lane: Lane, size: int | None, digests: Mapping[str, str]) -> bool:
    """Whether an object can be fetched in ranges, and gains by it. Without a digest nobody would know whether they fit together."""
    if size is None or size < 2 * PART or not known_digests(digests):
        return False
    backend, able = lane.backend, lane.backend.capabilities()
    if not able.ranged_get or able.stripes or isinstance(backend, SupportsLocalFiles) or is_opaque(backend):
        return False
    return not lane.inline and not lane.gate.serial


async def fetch_in_ranges(
    lane: Lane, ticket: Ticket, file: SpoolFile, *, size: int, digests: Mapping[str, str], emit: Callable[[Event], None]
) -> int:
    """Fetch the object of ``ticket`` into ``file``; its size, verified.

    Raises:
        IntegrityError: it is not what was expected, or a range is shorter.
        Unsupported: the backend turns out to know no ranges.
        Exception: the root cause of a range's failure.
    """

    async def fetch(piece: Range, started: Callable[[], None]) -> None:
        download = Download(lane.backend, ticket.name, file.path, size=piece.size, digests={}, at=piece.start)

        async def attempt() -> None:
            started()
            if not lane.backend.capabilities().ranged_get:  # the ranges before this one have shown it (Q2)
                raise Unsupported(f"{lane.name} gives no part of an object")
            await download.attempt()

        async def call() -> None:  # asks for the op's level anew: it may be needed first by now (O2)
            op = replace(ticket, verb="range", memory=min(piece.size, IN_FLIGHT), last=None)
            await call_persistently(attempt, gate=lane.gate, op=op, emit=emit)

        try:
            await file.filled_by(call)
            download.check()
        finally:
            await download.close()

    await side_by_side(ranges_of(size, lane.concurrency), fetch)
    expected = known_digests(digests)
    return check_object(ticket.name, size, await _hashed(file, expected), size=size, expected=expected)


async def _hashed(file: SpoolFile, kinds: Mapping[str, str]) -> dict[str, hashlib._Hash]:
    """In threads, from pages that the kernel still holds."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with FileIO(file.path) as source:
        while await in_thread(_hash_some, source, hashes):
            pass
    return hashes


def _hash_some(source: FileIO, hashes: Mapping[str, hashlib._Hash]) -> int:
    """How many bytes there were."""
    buffer, done = memoryview(bytearray(_BUFFER)), 0
    while done < _HASH and (count := source.readinto(buffer)):
        done += count
        for digest in hashes.values():
            digest.update(buffer[:count])
    return done
