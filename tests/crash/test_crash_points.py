"""Every crash point of a full, an incremental, a resumed run and a removal of old backups, under five models of what a crash keeps (M3).

One run of each command is watched (``disk``). Each state of the disk that it can leave, and there are more than 400 different ones, is
restored from, gone on with and built upon (P1, P2). All this in simulated time and without threads, so the states follow from the seed,
which also says where a write is torn. Crash points that leave the same, as most models do behind a flush, are one state.
``ASYNCDUP_CRASH_SEEDS`` is the number of seeds.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from crash.disk import MODELS, Disk, State
from crash.moments import SMALL, Crash, left_in, nothing_is_left_over, set_at, the_older_chain_is_restored, the_same_command_ends_right
from interop import archives
from interop.archives import Archive
from interop.stock import Stock
from interop.trees import listing, settle, write

from asyncdup.commands.cleanup import cleanup
from asyncdup.commands.remove import remove_all_but_n_full
from asyncdup.errors import ChainError
from asyncdup.testing.simulation import simulation

SEEDS = int(os.environ.get("ASYNCDUP_CRASH_SEEDS", "1"))
AT_LEAST = {"full": 140, "incremental": 140, "resumed": 100, "removal": 25}  # different states that a crash leaves of each
STOCK_SHARE = 40  # stock takes long to restore: so many crash points are looked at by us for each that it looks at

assert sum(AT_LEAST.values()) >= 400

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unflushed"), pytest.mark.timeout(600)]


@pytest.fixture(params=range(SEEDS))
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def archive(seed: int, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """A source that fills five volumes; commands on it are simulated."""
    with simulation(seed) as run:
        monkeypatch.setattr(archives, "run", run)
        found = Archive(in_memory, None)
        for number in range(5):
            write(found.source / f"file{number}", random.Random(number).randbytes(70_000))
        settle(found.source, 1_500_000_001)
        yield found


def edit(root: Path, mtime: int) -> None:
    """All files change, one goes, a folder comes; again five volumes in an incremental."""
    rng = random.Random(mtime)
    for path in sorted(root.glob("file*")):
        write(path, rng.randbytes(72_000), mtime=mtime)
    write(root / "new/deep", rng.randbytes(500), mtime=mtime)
    path.rename(root / f"file{rng.randrange(10, 99)}")
    settle(root, mtime + 1)


def disk_of(archive: Archive, seed: int) -> Disk:
    return Disk(archive.target, archive.cache["us"] / "c", tempdir=archive.folder, models=MODELS, rng=random.Random(seed))


def crash_points(archive: Archive, action: str, seed: int, **options: Any) -> Crash:
    return Crash(archive, action, disk=disk_of(archive, seed), **options)


def full(archive: Archive, seed: int) -> Crash:
    return crash_points(archive, "full", seed)


def incremental(archive: Archive, seed: int, **options: Any) -> Crash:
    archive.by_us("full", volume_size=SMALL)
    edit(archive.source, 1_500_001_000)
    return crash_points(archive, "incremental", seed, **options)


def resumed(archive: Archive, seed: int) -> Crash:
    """A run that goes on with what a killed one has left."""
    here = incremental(archive, seed, concurrency=1).killed_with(volumes=2)
    return crash_points(here, "incremental", seed)


Begin = Callable[[Archive, int], Crash]


@pytest.mark.parametrize("begin", [full, incremental, resumed])
def test_every_crash_point_of_a_backup_is_restored_from_and_gone_on_with(begin: Begin, archive: Archive, seed: int) -> None:
    crash = begin(archive, seed)

    for state in crash.states:
        here = crash.at(state, "at")
        goes_on_and_on(crash, here)
        shutil.rmtree(here.folder)

    assert len(crash.states) >= AT_LEAST[begin.__name__]


def goes_on_and_on(crash: Crash, here: Archive) -> None:
    """Restored at once, gone on with, restored, built upon, restored."""
    the_older_chain_is_restored(crash, here)
    the_same_command_ends_right(crash, here)
    here.source = changed_copy(crash.archive.source)
    here.by_us("incremental", volume_size=SMALL, allow_source_mismatch=True)
    assert here.read_by_us() == listing(here.source)


def changed_copy(source: Path) -> Path:
    """One for all crash points: each has to find the same source again."""
    copy = source.with_name("source-later")
    if not copy.exists():
        shutil.copytree(source, copy, symlinks=True)
        edit(copy, 1_500_002_000)
    return copy


@pytest.mark.interop
@pytest.mark.parametrize("begin", [full, incremental, resumed])
def test_stock_restores_what_followed_a_crash(begin: Begin, archive: Archive, seed: int, stock: Stock) -> None:
    """P18, for some of the crash points."""
    archive.stock = stock
    crash = begin(archive, seed)

    for state in crash.states[:: len(crash.states) // max(1, len(crash.states) // STOCK_SHARE)]:
        here = crash.at(state, "for-stock")
        goes_on_and_on(crash, here)
        assert here.read_by_stock() == listing(here.source), state


def two_chains(archive: Archive) -> None:
    for number, action in enumerate(["full", "incremental", "full", "incremental"]):
        archive.by_us(action, volume_size=SMALL)
        edit(archive.source, 1_500_001_000 + 100 * number)


def removal(here: Archive) -> None:
    archives.run(remove_all_but_n_full(here.url, 1, here.options(force=True)))


def removal_points(archive: Archive, seed: int) -> Sequence[State]:
    disk = disk_of(archive, seed)
    with disk.watched():
        removal(archive)
    return disk.states


def test_every_crash_point_of_a_removal_keeps_what_stays(archive: Archive, seed: int) -> None:
    """What stays is restored; what goes is restored or refused, never wrong; the same command ends it, and cleanup leaves nothing."""
    two_chains(archive)
    states = removal_points(archive, seed)
    staying = {time for time in archive.kept if set_at(archive, time)}
    names = {path.name for path in archive.target.iterdir()}
    assert len(staying) == 2

    for state in states:
        here = left_in(state, archive, "at")
        for time, tree in archive.kept.items():
            assert time not in staying or here.read_by_us(time, archive_dir=here.folder / "empty") == tree
            assert time in staying or not is_complete(here, time) or is_restored_or_refused(here, time, archive)
        removal(here)
        archives.run(cleanup(here.url, here.options(force=True)))
        assert {path.name for path in here.target.iterdir()} == names
        nothing_is_left_over(here)
        here.by_us("incremental", volume_size=SMALL)
        assert here.read_by_us() == listing(here.source)
        shutil.rmtree(here.folder)

    assert len(states) >= AT_LEAST["removal"]


def is_complete(here: Archive, time: int) -> bool:
    found = set_at(here, time)
    return found is not None and found.is_complete


def is_restored_or_refused(here: Archive, time: int, archive: Archive) -> bool:
    """Deletions that a power cut has put into another order may leave a manifest without its volumes."""
    try:
        return here.read_by_us(time, archive_dir=here.folder / "empty") == archive.kept[time]
    except ChainError:
        return True
