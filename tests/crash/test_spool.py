"""A killed run's sealed volumes are sent by the next one and not made again (X5); the next run believes no file that it has not compared."""

from __future__ import annotations

import json
import math
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.process import Place, Run
from interop.archives import Archive
from interop.stock import Stock
from interop.trees import listing, settle, write

pytestmark = [pytest.mark.slow, pytest.mark.realtime]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A source of four or five volumes."""
    found = Place(tmp_path)
    for number in range(4):
        write(found.source / f"file{number}", random.Random(number).randbytes(1_100_000))
    settle(found.source, 1_500_000_001)
    return found


@pytest.fixture
def killed(place: Place) -> Place:
    """After a run that had sealed two volumes or more and stored none: its target never answers."""
    with place.running("full", "--concurrency=1", latency=math.inf) as run:
        run.wait_for(lambda: place.noted() >= 2)
        run.kill()
    assert place.volumes() == 0
    return place


def spooled(place: Place) -> list[Path]:
    return sorted(place.tempdir.glob("asyncdup-run-*/asyncdup-*/0*"))


def made(run: Run, place: Place) -> list[int]:
    """Numbers of the volumes that a run made, once it has ended well."""
    assert run.end() == 0, run.output
    lines = [json.loads(line) for line in (place.folder / "events").read_text().splitlines()]
    return [line["number"] for line in lines if line["event"] == "VolumeMade"]


def again(place: Place, *more: str) -> Run:
    return place.start("full", f"--log-json={place.folder / 'events'}", *more)


def is_restored(place: Place) -> bool:
    return Archive(place.folder, None, source=place.source).read_by_us() == listing(place.source)


def nothing_is_left(place: Place) -> bool:
    return place.left_over() == place.journals() == []


@pytest.mark.interop
def test_sealed_volumes_are_sent_and_not_made_again(killed: Place, stock: Stock) -> None:
    """X5; and stock restores what came of it (P18)."""
    sealed = killed.noted()
    assert [stat.S_IMODE(path.stat().st_mode) for path in spooled(killed)[:sealed]] == [0o600] * sealed
    assert {stat.S_IMODE(path.parents[1].stat().st_mode) for path in spooled(killed)} == {0o700}

    run = again(killed)

    assert min(made(run, killed)) == sealed + 1
    assert f"0 of its volumes are at the target, and {sealed} wait here to be sent" in run.output
    assert nothing_is_left(killed)
    assert is_restored(killed)
    assert Archive(killed.folder, stock, source=killed.source).read_by_stock() == listing(killed.source)


def test_killed_again_and_again_each_volume_is_made_once(killed: Place) -> None:
    """X5: what two runs have sealed is sent by the third, from both their folders."""
    first = killed.noted()
    with killed.running("full", "--concurrency=3", latency=math.inf) as run:
        run.wait_for(lambda: killed.noted() > first)
        run.kill()
    sealed = killed.noted()

    assert min(made(again(killed), killed), default=sealed + 1) == sealed + 1
    assert nothing_is_left(killed)
    assert is_restored(killed)


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [_tear, _cut, Path.unlink])
def test_a_damaged_file_is_not_sent(killed: Place, damage: Callable[[Path], None]) -> None:
    """X5: a power cut may leave anything; from the first such volume on they are made again."""
    damage(spooled(killed)[1])

    assert min(made(again(killed), killed)) == 2
    assert nothing_is_left(killed)
    assert is_restored(killed)


def test_a_cut_file_that_changed_is_made_again_before_anything_is_sent(killed: Place) -> None:
    """P2: the file that the last sealed volume ends inside of is another one; no mixture is sent."""
    for number in range(4):
        write(killed.source / f"file{number}", random.Random(100 + number).randbytes(1_100_000), mtime=1_500_000_002)
    settle(killed.source, 1_500_000_003)

    assert again(killed).end() == 0
    assert nothing_is_left(killed)
    assert killed.start("incremental").end() == 0
    assert is_restored(killed)


def test_a_run_that_begins_anew_removes_them(killed: Place) -> None:
    run = again(killed, "--exclude=**/file3")

    assert min(made(run, killed)) == 1
    assert "of another kind" in run.output
    assert nothing_is_left(killed)


@pytest.fixture
def other(killed: Place, tmp_path: Path) -> Iterator[Place]:
    """Another backup, which uses the same temporary folder."""
    found = Place(tmp_path / "other")
    found.tempdir.rmdir()
    found.tempdir = killed.tempdir
    write(found.source / "file", b"of another backup")
    yield found


def test_another_backups_run_leaves_them_alone(killed: Place, other: Place) -> None:
    before = spooled(killed)

    assert other.start("full").end() == 0

    assert before == spooled(killed) != []


def test_once_their_journal_is_gone_any_run_removes_them(killed: Place, other: Place) -> None:
    for name in killed.journals():
        (killed.cache / "c" / name).unlink()

    assert other.start("full").end() == 0

    assert spooled(killed) == []
