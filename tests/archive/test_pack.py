"""Members become volumes: where they end, what is journaled before they are sent, what is left if something fails."""

from __future__ import annotations

import errno
import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncdup.archive import checkpoint
from asyncdup.archive.checkpoint import Journal, RunHead
from asyncdup.archive.pack import Packer
from asyncdup.archive.produce import Batch, Bound, Counts, Cut
from asyncdup.backends.memory import MemoryBackend
from asyncdup.codecs import make_codec
from asyncdup.errors import AsyncdupError, Drained, PermanentError, exit_code_of
from asyncdup.events import Event, EventHub, VolumeMade, VolumeStored
from asyncdup.formats.volumes import target_size
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise
from asyncdup.transfer import Engine, open_engine

HEAD = RunHead(type="full", start=None, end=1_700_000_000, source="/src", form=".gz", rules="", hostname="here")
SMALL = 300_000  # bytes of a volume
MEMBER = 60_000


class Members:
    """In the place of a producer: members of random bytes, as many as fit."""

    def __init__(self, count: int, *, happens: Callable[[int], None] = lambda number: None) -> None:
        self.counts = Counts()
        self._left: Iterator[int] = iter(range(count))
        self._held: int | None = None
        self._happens = happens

    def next_batch(self, limit: int) -> Batch | None:
        taken: list[int] = []
        while (len(taken) + 1) * MEMBER <= limit and (number := next(self._left, None)) is not None:
            self._happens(number)
            taken.append(number)
        if not taken:
            return None
        data = b"".join(random.Random(number).randbytes(MEMBER) for number in taken)
        return Batch(data, Bound(b"%03d" % taken[0], None), Bound(b"%03d" % taken[-1], None), Cut(b"%03d" % taken[-1], 1, 2, 3, 4, 5))


@dataclass
class Packing:
    folder: Path
    backend: FaultyBackend = field(default_factory=lambda: FaultyBackend(MemoryBackend()))
    events: list[Event] = field(default_factory=list)

    async def run(
        self,
        producer: Any,
        *,
        number: int = 1,
        size: int = SMALL,
        act: Callable[[Engine], None] = lambda engine: None,
        concurrency: int = 2,
    ) -> Packer:
        """Pack all of it; the spool must be empty afterwards."""
        journal = Journal.begin(self.folder, HEAD)
        hub = EventHub(wall=lambda: 0.0, clock=lambda: 0.0)
        hub.on_event(self.events.append)
        spool = self.folder / "spool"
        spool.mkdir()
        try:
            async with open_engine(spool_dir=spool, concurrency=concurrency) as engine, engine.writer(engine.lane(self.backend)) as writer:
                packer = Packer(
                    engine=engine,
                    writer=writer,
                    codec=make_codec(encryption=None, tempdir=spool),
                    producer=producer,
                    journal=journal,
                    hub=hub,
                    name_of=lambda number: f"vol{number}",
                    volume_size=size,
                    target=target_size(size, encrypted=False),
                    number=number,
                )
                act(engine)
                await packer.run()
        finally:
            journal.close()
            assert list(spool.iterdir()) == []
            spool.rmdir()
        return packer

    def stored(self) -> dict[str, bytes]:
        assert isinstance(self.backend.inner, MemoryBackend)
        return {name: found.data for name, found in self.backend.inner.store.items()}

    def journal(self) -> checkpoint.State:
        (state,) = checkpoint.find(self.folder)
        return state


@pytest.fixture
def packing(tmp_path: Path) -> Packing:
    return Packing(tmp_path)


async def test_volumes_hold_all_members_in_order_and_keep_to_their_size(packing: Packing) -> None:
    packer = await packing.run(Members(20))

    stored = packing.stored()
    assert list(packer.notes) == list(range(1, len(stored) + 1))
    assert all(SMALL // 2 < len(data) <= SMALL for name, data in stored.items() if name != f"vol{len(stored)}")
    content = [gzip.decompress(stored[f"vol{number}"]) for number in packer.notes]
    members = b"".join(random.Random(number).randbytes(MEMBER) for number in range(20))
    assert b"".join(data[: len(data) - len(data) % MEMBER] for data in content) == members
    assert packer.stored_bytes == sum(map(len, stored.values()))


@pytest.mark.parametrize("concurrency", [0, 1, 5])
async def test_the_same_members_are_cut_at_the_same_places(packing: Packing, concurrency: int) -> None:
    packer = await packing.run(Members(20), concurrency=concurrency)

    assert [note.last.path for note in packer.notes.values()] == [b"003", b"007", b"011", b"015", b"019"]


async def test_a_tree_that_ends_with_its_volume_has_no_empty_one_behind_it(packing: Packing) -> None:
    packer = await packing.run(Members(4))

    assert list(packing.stored()) == ["vol1"]
    assert list(packer.notes) == [1]


async def test_a_set_without_members_has_one_volume(packing: Packing) -> None:
    """Format, section 11: also an incremental of nothing is a set."""
    packer = await packing.run(Members(0))

    assert packer.notes[1].first == packer.notes[1].last == Bound(b"", None)
    assert packer.notes[1].cut is None
    assert set(gzip.decompress(packing.stored()["vol1"])) == {0}


async def test_a_volume_is_in_the_journal_before_it_is_sent_and_known_as_stored_after(packing: Packing) -> None:
    known: dict[str, set[int]] = {}
    inner = packing.backend.inner

    class Looking(MemoryBackend):
        async def put(self, name, body):  # type: ignore[no-untyped-def]
            known[name] = set(packing.journal().volumes)
            return await inner.put(name, body)

    packing.backend.inner = Looking()

    packer = await packing.run(Members(12))

    assert all(int(name[3:]) in numbers for name, numbers in known.items())
    state = packing.journal()
    assert state.stored == set(packer.notes)
    assert state.volumes == packer.notes


async def test_a_stored_volume_is_told_after_it_was_made(packing: Packing) -> None:
    await packing.run(Members(8))

    told = [(type(event), event.number) for event in packing.events if isinstance(event, (VolumeMade, VolumeStored))]
    assert sorted(told, key=str) == sorted([(kind, number) for kind in (VolumeMade, VolumeStored) for number in (1, 2)], key=str)
    assert all(told.index((VolumeMade, number)) < told.index((VolumeStored, number)) for number in (1, 2))


async def test_a_volume_that_cannot_be_stored_ends_it(packing: Packing) -> None:
    packing.backend.script("put", Raise(lambda: PermanentError("no")), name="vol2")

    with pytest.raises(PermanentError, match="no"):
        await packing.run(Members(40))

    assert packing.journal().stored <= {1, 3, 4, 5, 6}
    assert len(packing.journal().volumes) < 10  # the producer did not go on in vain


async def test_a_producer_that_fails_leaves_no_file(packing: Packing) -> None:
    def fail(number: int) -> None:
        if number == 9:
            raise RuntimeError("the producer")

    with pytest.raises(RuntimeError, match="the producer"):
        await packing.run(Members(20, happens=fail))


class Draining(Members):
    """Drains the engine at a member. ``asked``: how many were made."""

    def __init__(self, count: int, at: int) -> None:
        super().__init__(count, happens=self._look)
        self.engine: Engine | None = None
        self.asked = 0
        self._at = at

    def begin(self, engine: Engine) -> None:
        self.engine = engine

    def _look(self, number: int) -> None:
        self.asked += 1
        if number == self._at and self.engine is not None:
            self.engine.drain()


async def test_a_drained_run_keeps_what_was_accepted(packing: Packing) -> None:
    """X4."""
    members = Draining(40, at=9)

    with pytest.raises(Drained):
        await packing.run(members, act=members.begin)

    assert packing.journal().stored == {1, 2}
    assert sorted(packing.stored()) == ["vol1", "vol2"]


async def test_a_drained_run_does_not_finish_a_volume_that_could_not_be_sent(packing: Packing) -> None:
    members = Draining(100, at=3)

    with pytest.raises(Drained):
        await packing.run(members, act=members.begin, size=6_000_000)

    assert members.asked < 40


async def test_a_full_disk_is_told_with_its_folder_and_what_to_do(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("asyncdup.codecs.base.StoredFile.flush", full)

    with pytest.raises(AsyncdupError, match="cannot write in .*spool.*: No space left") as caught:
        await packing.run(Members(4))

    assert exit_code_of(caught.value) == 53
    assert "--tempdir" in (caught.value.hint or "")
    assert packing.stored() == {}


async def test_a_resumed_run_goes_on_with_its_numbers(packing: Packing) -> None:
    packer = await packing.run(Members(4), number=3)

    assert list(packer.notes) == [3]
    assert list(packing.stored()) == ["vol3"]


async def test_a_resumed_run_with_nothing_left_makes_no_volume(packing: Packing) -> None:
    packer = await packing.run(Members(0), number=3)

    assert packer.notes == packing.stored() == {}
