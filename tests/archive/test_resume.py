"""How far an unfinished run got: what the journal says and what is at the target, compared (P1, P2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from asyncdup.archive.checkpoint import RunHead, State, VolumeNote
from asyncdup.archive.produce import Bound, Cut
from asyncdup.archive.resume import before_cut_file, kept_volumes, try_to_open
from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.codecs import make_codec
from asyncdup.errors import FormatError
from asyncdup.testing import FaultyBackend
from asyncdup.transfer import open_engine

HEAD = RunHead(type="full", start=None, end=1_700_000_000, source="/src", form=".gz", rules="", hostname="here")


def data(number: int) -> bytes:
    return f"volume {number}".encode() * number


def note(number: int, *, cut: Cut | None = None) -> VolumeNote:
    content = data(number)
    return VolumeNote(
        number=number,
        name=f"vol{number}",
        size=len(content),
        sha1=hashlib.sha1(content).hexdigest(),
        first=Bound(b"a", None),
        last=Bound(b"b", None),
        cut=cut,
        sigtar=0,
        files=0,
        lines=0,
    )


def state(upto: int, stored: Iterable[int]) -> State:
    return State(HEAD, {number: note(number) for number in range(1, upto + 1)}, set(stored))


async def upto(journal: State, target: dict[int, bytes], tmp_path: Path, *, sizes_known: bool = True) -> tuple[int, list[str]]:
    """The answer, and what was read back for it."""
    backend = FaultyBackend(MemoryBackend())
    for number, content in target.items():
        await backend.inner.put(f"vol{number}", BytesBody(content))
    async with open_engine(spool_dir=tmp_path) as engine:
        lane = engine.lane(backend)
        listing = {info.name: info for info in await engine.list(lane)}
        if not sizes_known:
            listing = {name: ObjectInfo(name, UNKNOWN_SIZE) for name in listing}
        found = await kept_volumes(journal, listing, engine, lane)
    return found.upto, backend.names("get")


@pytest.mark.parametrize(
    ("there", "expected"),
    [([], 0), ([1, 2, 3], 3), ([1, 3], 1), ([2, 3], 0), ([1, 2], 2), ([1, 2, 3, 4], 3)],
)
async def test_what_counts_is_stored_without_a_gap_and_known(tmp_path: Path, there: list[int], expected: int) -> None:
    target = {number: data(number) for number in there}

    assert await upto(state(3, there), target, tmp_path) == (expected, [])


@pytest.mark.parametrize("sizes_known", [True, False])
async def test_a_volume_of_another_size_does_not_count(tmp_path: Path, sizes_known: bool) -> None:
    """Also where a legacy backend tells sizes only when it is asked for one."""
    target = {1: data(1), 2: data(2) + b"x", 3: data(3)}

    assert await upto(state(3, {1, 2, 3}), target, tmp_path, sizes_known=sizes_known) == (1, [])


async def test_only_what_is_not_known_to_be_stored_is_read_back(tmp_path: Path) -> None:
    """The answer to its put may have been lost; other volumes may have overtaken it."""
    target = {number: data(number) for number in (1, 2, 3)}

    found, read = await upto(state(3, {1, 3}), target, tmp_path)

    assert (found, read) == (3, ["vol2"])


async def test_a_volume_with_other_bytes_does_not_count(tmp_path: Path) -> None:
    target = {1: data(1), 2: data(2)[::-1], 3: data(3)}

    found, _ = await upto(state(3, {1}), target, tmp_path)

    assert found == 1


async def test_the_beginning_of_a_volume_tells_whether_a_codec_fits(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await backend.put("vol1", BytesBody(data(1)))
    async with open_engine(spool_dir=tmp_path) as engine:
        lane = engine.lane(backend)
        await try_to_open(note(1), make_codec(encryption=None, compression=False, tempdir=tmp_path), engine, lane)
        with pytest.raises(FormatError, match="vol1"):
            await try_to_open(note(1), make_codec(encryption=None, tempdir=tmp_path), engine, lane)


def cut(path: bytes) -> Cut:
    return Cut(path, 1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("cuts", "upto", "expected"),
    [
        ([None, b"x", b"big", b"big"], 4, 2),  # the volume in which it begins goes, too
        ([None, b"x", b"big", b"big"], 2, 1),
        ([b"big", b"big"], 2, 0),
        ([b"big", None, b"big"], 3, 2),
        ([None, None], 2, 2),
    ],
)
def test_a_changed_cut_file_takes_back_every_volume_with_a_part_of_it(cuts: list[bytes | None], upto: int, expected: int) -> None:
    """P2."""
    volumes = {number: note(number, cut=cut(path) if path else None) for number, path in enumerate(cuts, 1)}

    assert before_cut_file(State(HEAD, volumes, set()), upto) == expected
