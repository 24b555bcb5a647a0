"""Volumes, fetched in the order they are needed and read ahead -> the merger, which puts the tree together.

The sets of a chain are read side by side. Which volume is needed when follows from the manifests: the next one of a set when the merge has
passed the end of the one before. So one ordered read serves all sets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncdup.archive.consume import Merger
from asyncdup.codecs import Chunks, Codec
from asyncdup.errors import IntegrityError, NotFound
from asyncdup.events import EventHub, VolumeRead
from asyncdup.formats.tar import key
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, OrderedReader, ReadItem, ReadRequest, ReadResult

AHEAD = 16 << 20  # bytes of decoded chunks over all sets, about
HOP = 8 << 20  # bytes decoded and merged in one thread call; a cancellation waits for them
SMALLEST_CHUNK, LARGEST_CHUNK = 64 << 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """One volume of a restore. ``index``: of its set in the chain. ``hashes``: as the manifest names them (SHA1, MD5)."""

    index: int
    number: int
    name: str
    size: int | None
    hashes: Mapping[str, str]


OnLost = Callable[[Needed, Exception], None]


def in_order_of_need(sets: Sequence[Sequence[tuple[Needed, bytes]]]) -> list[Needed]:
    """All volumes in the order in which the merge will ask for them. Each set: (volume, path at its end) by number."""
    volumes: list[tuple[bytes, int, int, Needed]] = []
    for volumes_of_set in sets:
        after = b""
        for needed, end in volumes_of_set:
            volumes.append((after, needed.index, needed.number, needed))
            # After the entry itself; the first volumes come before everything. A wrong bound must not put a set out of order.
            after = max(after, key(end) + b"\0")
    return [needed for *_, needed in sorted(volumes, key=lambda volume: volume[:3])]


def read_ahead(engine: Engine, lane: Lane, needed: Iterable[Needed], *, may_be_lost: bool = False) -> OrderedReader[Any]:
    """The volumes in the order of ``needed``, for assemblies one after the other. ``may_be_lost``: each of these has an ``on_lost``."""
    requests = [ReadRequest(each.name, each.size, _digests(each.hashes), in_place=True) for each in needed]
    if may_be_lost:
        return engine.read_ordered(lane, requests, errors="yield", hedge=True)
    return engine.read_ordered(lane, requests, hedge=True)


class Assembly:
    """Feeds a merger until every set is finished.

    A set is decoded in the thread that merges it, some MiB in one go: handing over each chunk cost more than the two threads gained.
    ``on_lost``: told of a volume that is missing or not what was stored, which is then left out; None: that is raised.
    """

    def __init__(
        self,
        engine: Engine,
        lane: Lane,
        codecs: Sequence[Codec],
        merger: Merger,
        hub: EventHub,
        needed: Sequence[Needed],
        *,
        on_lost: OnLost | None = None,
    ) -> None:
        self._engine = engine
        self._lane = lane
        self._merger = merger
        self._hub = hub
        self._needed = needed
        self._on_lost = on_lost
        self._fetched = 0  # volumes so far: items come in the order of the requests
        # All sets are open at once: what they hold together stays under 2 * AHEAD, down to the smallest useful chunk.
        chunk = max(SMALLEST_CHUNK, min(LARGEST_CHUNK, AHEAD // max(1, len(codecs))))
        self._sets = [_SetStream(codec, chunk) for codec in codecs]

    async def run(self, items: OrderedReader[Any] | None = None) -> None:
        """``items``: what ``read_ahead`` gives of volumes that go on with ``needed``; None: a reader of its own.

        Raises what the engine, a codec or the format reader raises; problems of single entries go to the merger's callback.
        """
        for needed in self._needed:
            self._sets[needed.index].left += 1
        try:
            async with nullcontext(items) if items else self._reader() as volumes:
                while (index := self._merger.needs()) is not None:
                    await self._advance(index, volumes)
                await in_thread(self._merger.finish)
        finally:
            for stream in self._sets:
                await stream.aclose()

    def _reader(self) -> OrderedReader[Any]:
        return read_ahead(self._engine, self._lane, self._needed, may_be_lost=self._on_lost is not None)

    async def _advance(self, index: int, items: OrderedReader[Any]) -> None:
        stream = self._sets[index]
        while not stream.paths:
            if not stream.left:
                await in_thread(self._merger.end_set, index)
                return
            await self._fetch_next(items)
        if stream.paths[0] is None:
            stream.paths.popleft()
            await in_thread(self._merger.lose_volume, index)
        elif not await stream.pour(lambda data: self._feed(index, data)):
            await stream.drop()
            await in_thread(self._merger.end_volume, index)

    def _feed(self, index: int, data: bytes) -> bool:
        """Whether the same set is needed next. In a thread."""
        self._merger.feed(index, data)
        return self._merger.needs() == index

    async def _fetch_next(self, items: OrderedReader[Any]) -> None:
        found: ReadItem | ReadResult = await anext(items)
        needed = self._needed[self._fetched]
        self._fetched += 1
        item = found if isinstance(found, ReadItem) else self._found(needed, found)
        if item is None:
            self._sets[needed.index].left -= 1
            self._sets[needed.index].paths.append(None)
            return
        self._hub.emit(VolumeRead(number=needed.number, name=needed.name, size=item.size, total=len(self._needed)))
        stream = self._sets[needed.index]
        stream.left -= 1
        stream.paths.append(item.keep())

    def _found(self, needed: Needed, result: ReadResult) -> ReadItem | None:
        """None if the volume is lost. Raises any error but that."""
        error = result.error
        if error is None:
            return result.item
        if self._on_lost is None or not isinstance(error, (IntegrityError, NotFound)):
            raise error
        self._on_lost(needed, error)
        return None


class _SetStream:
    """The volumes of one set. ``left``: not yet fetched; ``paths``: fetched and not yet merged to their end, ours to delete; None: lost."""

    def __init__(self, codec: Codec, chunk: int) -> None:
        self.left = 0
        self.paths: deque[Path | None] = deque()
        self._codec = codec
        self._chunk = chunk
        self._first = AsyncExitStack()  # of what is open of the first volume
        self._chunks: Chunks | None = None

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """The next bytes of the first volume into ``take``; False at its end."""
        path = self.paths[0]
        if self._chunks is None and path is not None:
            self._chunks = await self._first.enter_async_context(self._codec.open(path, chunk=self._chunk))
        assert self._chunks is not None, "a lost volume has no bytes"
        return await self._chunks.pour(take, HOP)

    async def drop(self) -> None:
        """The first volume is done with."""
        self._chunks = None
        await self._first.aclose()
        if (path := self.paths.popleft()) is not None:
            path.unlink()

    async def aclose(self) -> None:
        """Delete what was not merged."""
        try:
            await self._first.aclose()
        finally:
            for path in filter(None, self.paths):
                path.unlink(missing_ok=True)


def _digests(hashes: Mapping[str, str]) -> dict[str, str]:
    """The best present is checked, as stock does (format, section 3)."""
    best = next(name for name in ("SHA1", "MD5") if name in hashes)
    return {best.lower(): hashes[best]}
