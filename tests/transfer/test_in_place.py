"""Objects of a local folder are read where they are if the reader says so, and are as well checked as downloads are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from asyncdup.backends.local import LocalBackend
from asyncdup.errors import IntegrityError, NotFound
from asyncdup.transfer import ReadRequest, open_engine
from asyncdup.transfer.in_place import STEP

DATA = bytes(range(256)) * (STEP // 256 + 5)
SHA1 = hashlib.sha1(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    (target / "v").write_bytes(DATA)
    return target


async def test_an_object_read_in_place_is_not_copied(folder: Path, tmp_path: Path) -> None:
    async with open_engine(spool_dir=tmp_path) as engine:
        lane = engine.lane(LocalBackend(folder))
        request = ReadRequest("v", len(DATA), {"sha1": SHA1}, in_place=True)
        async with engine.read_ordered(lane, [request]) as items:
            item = await anext(items)

            assert item.path.stat().st_ino == (folder / "v").stat().st_ino
            assert item.size == len(DATA)


async def test_without_that_word_an_object_is_copied(folder: Path, tmp_path: Path) -> None:
    async with open_engine(spool_dir=tmp_path) as engine:
        lane = engine.lane(LocalBackend(folder))
        async with engine.read_ordered(lane, [ReadRequest("v", len(DATA), {"sha1": SHA1})]) as items:
            item = await anext(items)

            assert item.path.stat().st_ino != (folder / "v").stat().st_ino


async def test_what_is_kept_and_removed_is_the_link_only(folder: Path, tmp_path: Path) -> None:
    async with open_engine(spool_dir=tmp_path) as engine:
        lane = engine.lane(LocalBackend(folder))
        async with engine.read_ordered(lane, [ReadRequest("v", in_place=True), ReadRequest("v", in_place=True)]) as items:
            kept = (await anext(items)).keep()
            await anext(items)
            kept.unlink()

    assert (folder / "v").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize(
    "request_", [ReadRequest("v", len(DATA), {"sha1": "0" * 40}, in_place=True), ReadRequest("v", len(DATA) + 1, in_place=True)]
)
async def test_an_object_that_is_not_what_was_expected_is_not_given_out(folder: Path, tmp_path: Path, request_: ReadRequest) -> None:
    """O7."""
    async with open_engine(spool_dir=tmp_path) as engine, engine.read_ordered(engine.lane(LocalBackend(folder)), [request_]) as items:
        with pytest.raises(IntegrityError):
            await anext(items)


async def test_an_object_that_is_not_there_is_not_found(folder: Path, tmp_path: Path) -> None:
    (folder / "link-to-nothing").symlink_to("nowhere")
    (folder / "folder").mkdir()
    for name in ("x", "link-to-nothing", "folder"):
        async with open_engine(spool_dir=tmp_path) as engine:
            lane = engine.lane(LocalBackend(folder))
            async with engine.read_ordered(lane, [ReadRequest(name, in_place=True)]) as items:
                with pytest.raises(NotFound):
                    await anext(items)
