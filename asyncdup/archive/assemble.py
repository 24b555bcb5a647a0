"""Volumes, fetched in the order they are needed and read ahead -> the merger, which puts the tree together.

The sets of a chain are read side by side. Which volume is needed when follows from the manifests: the next one of a set when the merge has
passed the end of the one before. So one ordered read serves all sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from asyncdup.archive.consume import Merger
from asyncdup.codecs import Codec
from asyncdup.events import EventHub, VolumeRead
from asyncdup.formats.tar import key
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Lane, OrderedReader, ReadItem, ReadRequest

AHEAD = 16 << 20  # bytes of decoded chunks over all sets, about
SMALLEST_CHUNK, LARGEST_CHUNK = 64 << 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """One volume of a restore. ``index``: of its set in the chain. ``hashes``: as the manifest names them (SHA1, MD5)."""

    index: int
    number: int
    name: str
    size: int | None
    hashes: Mapping[str, str]


def in_order_of_need(sets: Sequence[Sequence[tuple[Needed, bytes]]]) -> list[Needed]:
    """All volumes in the order in which the merge will ask for them. Each set: (volume, path at its end) by number."""
    volumes: list[tuple[bytes, int, int, Needed]] = []
    for volumes_of_set in sets:
        after = b""
        for needed, end in volumes_of_set:
            volumes.append((after, needed.index, needed.number, needed))
            after = key(end) + b"\0"  # after the entry itself; the first volumes come before everything
    return [needed for *_, needed in sorted(volumes, key=lambda volume: volume[:3])]


class Assembly:
    """Feeds a merger until every set is finished.

    Each set has a task that decodes its volumes, one after the other, a chunk ahead of the merge; so what is open is opened and closed in
    that task, whatever the order in which the sets are read.
    """

    def __init__(
        self, engine: Engine, lane: Lane, codecs: Sequence[Codec], merger: Merger, hub: EventHub, needed: Sequence[Needed]
    ) -> None:
        self._engine = engine
        self._lane = lane
        self._merger = merger
        self._hub = hub
        self._needed = needed
        self._fetched = 0  # volumes so far: items come in the order of the requests
        # All sets are open at once: what they hold together stays under 2 * AHEAD, down to the smallest useful chunk.
        chunk = max(SMALLEST_CHUNK, min(LARGEST_CHUNK, AHEAD // max(1, len(codecs))))
        self._sets = [_SetStream(codec, chunk) for codec in codecs]

    async def run(self) -> None:
        """Raises what the engine, a codec or the format reader raises; problems of single entries go to the merger's callback."""
        for needed in self._needed:
            self._sets[needed.index].left += 1
        requests = [ReadRequest(n.name, n.size, _digests(n.hashes), in_place=True) for n in self._needed]
        try:
            async with self._engine.read_ordered(self._lane, requests) as items, anyio.create_task_group() as tasks:
                for stream in self._sets:
                    tasks.start_soon(stream.decode)
                while (index := self._merger.needs()) is not None:
                    await self._advance(index, items)
                await in_thread(self._merger.finish)
                tasks.cancel_scope.cancel()
        finally:
            for stream in self._sets:
                stream.discard()  # once nobody reads them any more

    async def _advance(self, index: int, items: OrderedReader[ReadItem]) -> None:
        stream = self._sets[index]
        while not stream.waiting:
            if not stream.left:
                await in_thread(self._merger.end_set, index)
                return
            await self._fetch_next(items)
        data = await stream.chunks.receive()
        if data is None:
            stream.waiting -= 1
            await in_thread(self._merger.end_volume, index)
        else:
            await in_thread(self._merger.feed, index, data)

    async def _fetch_next(self, items: OrderedReader[ReadItem]) -> None:
        item = await anext(items)
        needed = self._needed[self._fetched]
        self._fetched += 1
        self._hub.emit(VolumeRead(number=needed.number, name=needed.name, size=item.size, total=len(self._needed)))
        self._sets[needed.index].add(item.keep())


class _SetStream:
    """The plain bytes of one set. ``left``: volumes not yet handed over; ``waiting``: handed over and not yet merged to their end."""

    def __init__(self, codec: Codec, chunk: int) -> None:
        self.left = 0
        self.waiting = 0
        self._codec = codec
        self._chunk = chunk
        self._paths: list[Path] = []
        self._send_path, self._receive_path = anyio.create_memory_object_stream[Path](math.inf)  # paths, as many as there are volumes
        self._send_chunk, self.chunks = anyio.create_memory_object_stream[bytes | None](1)

    def add(self, path: Path) -> None:
        """The set's next volume; its file is ours to delete."""
        self.left -= 1
        self.waiting += 1
        self._paths.append(path)
        self._send_path.send_nowait(path)

    async def decode(self) -> None:
        """Volumes in, chunks out; None after each volume."""
        async for path in self._receive_path:
            async with self._codec.open(path, chunk=self._chunk) as chunks:
                async for data in chunks:
                    await self._send_chunk.send(data)
            path.unlink()
            self._paths.remove(path)
            await self._send_chunk.send(None)

    def discard(self) -> None:
        """Delete what was not read."""
        for stream in (self._send_path, self._receive_path, self._send_chunk, self.chunks):
            stream.close()
        for path in self._paths:
            path.unlink(missing_ok=True)


def _digests(hashes: Mapping[str, str]) -> dict[str, str]:
    """The best present is checked, as stock does (format, section 3)."""
    best = next(name for name in ("SHA1", "MD5") if name in hashes)
    return {best.lower(): hashes[best]}
