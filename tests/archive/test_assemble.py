"""Which volume is needed when, and how the decoded volumes of several sets reach the merger: in order, verified, leaving nothing behind."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from asyncdup.archive.assemble import Assembly, Needed, in_order_of_need
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.codecs import Codec, make_codec
from asyncdup.errors import FormatError, IntegrityError
from asyncdup.events import EventHub, VolumeRead
from asyncdup.testing import FaultyBackend
from asyncdup.transfer import open_engine

CONTENT = {(index, number): f"set {index} volume {number} ".encode() * 5000 for index in (0, 1) for number in (1, 2, 3)}


def name(index: int, number: int) -> str:
    return f"set{index}.vol{number}"


def stored(index: int, number: int) -> bytes:
    return gzip.compress(CONTENT[index, number], mtime=0)


def needed(index: int, number: int) -> Needed:
    data = stored(index, number)
    return Needed(
        index=index, number=number, name=name(index, number), size=len(data), hashes={"SHA1": hashlib.sha1(data).hexdigest(), "MD5": "no"}
    )


def ends(index: int, *paths: bytes) -> list[tuple[Needed, bytes]]:
    return [(needed(index, number), path) for number, path in enumerate(paths, 1)]


def order(*sets: list[tuple[Needed, bytes]]) -> list[str]:
    return [volume.name for volume in in_order_of_need(sets)]


def test_one_set_is_read_in_its_order() -> None:
    assert order(ends(0, b"b", b"b", b"a/x")) == ["set0.vol1", "set0.vol2", "set0.vol3"]


def test_a_volume_is_needed_when_the_merge_has_passed_the_end_of_the_one_before() -> None:
    found = order(ends(0, b"d", b"m", b"z"), ends(1, b"f", b"z"))

    assert found == ["set0.vol1", "set1.vol1", "set0.vol2", "set1.vol2", "set0.vol3"]


def test_paths_are_compared_by_their_components() -> None:
    """``a.b`` comes after everything in ``a``."""
    found = order(ends(0, b"a.b", b"z"), ends(1, b"a/z", b"z"))

    assert found == ["set0.vol1", "set1.vol1", "set1.vol2", "set0.vol2"]


class Collector:
    """In the place of a merger: takes a turn from each set. ``asks``: the sets to be asked, in order; each ends when it has been read."""

    def __init__(self, asks: list[int]) -> None:
        self.got: dict[int, list[bytes]] = {0: [], 1: []}
        self.ended: list[int] = []
        self.finished = False
        self._asks = asks

    def needs(self) -> int | None:
        left = [index for index in self._asks if index not in self.ended]
        return left[sum(map(len, self.got.values())) % len(left)] if left else None

    def feed(self, index: int, data: bytes) -> None:
        self.got[index].append(data)

    def end_volume(self, index: int) -> None:
        self.got[index].append(b"|")

    def end_set(self, index: int) -> None:
        self.ended.append(index)

    def finish(self) -> None:
        self.finished = True


async def assemble(folder: Path, merger: Collector, damage: dict[str, bytes] | None = None) -> tuple[FaultyBackend, list[int]]:
    backend = FaultyBackend(MemoryBackend())
    for index, number in CONTENT:
        await backend.inner.put(name(index, number), BytesBody((damage or {}).get(name(index, number), stored(index, number))))
    codecs: list[Codec] = [make_codec(encryption=None, tempdir=folder) for _ in range(2)]
    wanted = in_order_of_need([ends(0, b"d", b"m", b"z"), ends(1, b"f", b"n", b"z")])
    read: list[int] = []
    hub = EventHub(wall=lambda: 0.0, clock=lambda: 0.0)
    hub.on_event(lambda event: read.append(event.total) if isinstance(event, VolumeRead) else None)
    spool = folder / "spool"
    spool.mkdir()
    try:
        async with open_engine(spool_dir=spool, concurrency=2) as engine:
            await Assembly(engine, engine.lane(backend), codecs, merger, hub, wanted).run()  # type: ignore[arg-type]
    finally:
        assert list(spool.iterdir()) == []
    return backend, read


@pytest.mark.parametrize("asks", [[0, 1], [1, 0], [0, 0, 1]])
async def test_every_set_gets_its_bytes_whole_and_in_order(tmp_path: Path, asks: list[int]) -> None:
    merger = Collector(asks)

    backend, read = await assemble(tmp_path, merger)

    for index in (0, 1):
        assert b"".join(merger.got[index]) == b"|".join(CONTENT[index, number] for number in (1, 2, 3)) + b"|"
    assert merger.finished
    assert read == [6] * 6
    assert len(backend.names("get")) == 6


async def test_a_volume_with_other_bytes_never_reaches_the_merger(tmp_path: Path) -> None:
    """P4."""
    merger = Collector([0, 1])
    other = bytearray(stored(0, 2))
    other[-5] ^= 1

    with pytest.raises(IntegrityError, match=r"set0\.vol2"):
        await assemble(tmp_path, merger, {"set0.vol2": bytes(other)})

    assert b"volume 2" not in b"".join(merger.got[0])
    assert not merger.finished


async def test_a_merger_that_fails_ends_it_and_leaves_no_file(tmp_path: Path) -> None:
    class Failing(Collector):
        def end_volume(self, index: int) -> None:
            raise FormatError("the merger")

    with pytest.raises(FormatError, match="the merger"):
        await assemble(tmp_path, Failing([0, 1]))
