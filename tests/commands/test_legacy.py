"""A legacy class with blocking methods is all that a whole backup and restore need (S8)."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

import asyncdup
from tests.commands.conftest import Stage, tree


class Shelf:
    """The four methods, nothing else. Objects are files of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.threads: set[int] = set()
        self.inside = 0
        self.most = 0

    def enter(self) -> None:
        self.threads.add(threading.get_ident())
        self.inside += 1
        self.most = max(self.most, self.inside)

    def list(self) -> list[str]:
        self.enter()
        found = [path.name for path in self.folder.iterdir()]
        self.inside -= 1
        return found

    def get(self, name: str, local: Path) -> None:
        self.enter()
        try:
            shutil.copyfile(self.folder / name, local)
        finally:
            self.inside -= 1

    def put(self, name: str, local: Path) -> None:
        self.enter()
        self.folder.mkdir(exist_ok=True)
        shutil.copyfile(local, self.folder / name)
        self.inside -= 1

    def delete(self, name: str) -> None:
        self.enter()
        (self.folder / name).unlink()
        self.inside -= 1


class ConcurrentShelf(Shelf):
    """Says that several calls may be made at once, and what it knows of an object."""

    def supports_concurrency(self) -> bool:
        return True

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size


@pytest.fixture
def shelf(tmp_path: Path, schemes: None) -> Shelf:
    made = Shelf(tmp_path / "shelf")
    made.folder.mkdir()
    asyncdup.register_blocking("shelf", lambda location: made)
    return made


async def test_a_serial_class_serves_for_everything(shelf: Shelf, tmp_path: Path) -> None:
    stage = Stage(tmp_path, "shelf://anywhere")
    stage.fill(4)

    await stage.backup(concurrency=5)
    stage.write("file01", "changed")
    await stage.backup(concurrency=5)
    restored = await stage.restore(concurrency=5)

    assert tree(restored) == tree(stage.source)
    assert (await stage.verify()).differences == 0
    assert len(await stage.files(archive_dir=tmp_path / "other")) == 5
    assert shelf.most == 1
    assert threading.get_ident() not in shelf.threads
    stage.nothing_is_left()


@pytest.mark.parametrize("concurrency", [0, 1, 5])
async def test_a_concurrent_class_is_made_once_for_each_call_at_once(schemes: None, tmp_path: Path, concurrency: int) -> None:
    made: list[Shelf] = []

    def make(location: asyncdup.Location) -> Shelf:
        made.append(ConcurrentShelf(tmp_path / "shelf"))
        return made[-1]

    (tmp_path / "shelf").mkdir()
    asyncdup.register_blocking("shelf", make)
    stage = Stage(tmp_path, "shelf://anywhere")
    stage.defaults = {"concurrency": concurrency, "backend": asyncdup.BackendOptions(concurrency=concurrency)}
    stage.fill(6)

    await stage.backup()
    restored = await stage.restore()

    assert tree(restored) == tree(stage.source)
    assert all(shelf.most <= 1 for shelf in made)
    assert (len(made) > 2) == (concurrency > 1)


async def test_an_unfinished_run_at_a_class_without_sizes_is_gone_on_with(shelf: Shelf, tmp_path: Path) -> None:
    """P1: nothing of a listing without sizes is taken for granted."""
    stage = Stage(tmp_path, "shelf://anywhere")
    stage.fill(4)
    shelf.put = _breaks_at("vol3", shelf.put)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="a bug"):
        await stage.backup(concurrency=1)
    del shelf.put

    result = await stage.backup()

    assert result.resumed == 2
    assert tree(await stage.restore()) == tree(stage.source)


def _breaks_at(part: str, put):  # type: ignore[no-untyped-def]
    def broken(name: str, local: Path) -> None:
        if part in name:
            raise ValueError("a bug")
        put(name, local)

    return broken
