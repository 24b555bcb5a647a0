"""A backup that ends at any moment, by a kill or a power cut: what it leaves can be restored and gone on with (P1, P2, M3).

One run is watched (``disk``); then each state that it went through is checked. A quick run checks every ``SHARE``-th of them, a nightly one
all (``ASYNCDUP_CRASH_SHARE=1``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.moments import SMALL, Crash, good_volumes, nothing_is_left_over, the_older_chain_is_restored, the_same_command_ends_right
from interop.archives import Archive
from interop.stock import Stock
from interop.trees import Listing, edit_again, edit_plain, listing, make_plain, settle, write

from asyncdup.archive import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unflushed")]


def the_signatures_are_right(crash: Crash, here: Archive) -> None:
    """P2: an incremental finds what differs, and nothing else."""
    stored, now = here.read_by_us(), listing(here.source)

    result = here.by_us("incremental")

    assert here.read_by_us() == now
    if stored == now:
        assert result.statistics.delta_entries == 0


def the_next_incremental_ends_right(here: Archive) -> None:
    here.by_us("incremental", volume_size=SMALL)
    assert here.read_by_us() == listing(here.source)


def the_changed_source_is_gone_on_with(crash: Crash, here: Archive) -> None:
    """P2: no file is a mixture, and the next incremental brings everything."""
    now = listing(here.source)

    crash.run(here)

    nothing_is_left_over(here)
    assert is_of_one_or_the_other(here.read_by_us(), crash.tree, now)
    del here.kept[here.time]
    the_next_incremental_ends_right(here)
    for time, tree in here.kept.items():
        assert here.read_by_us(time) == tree


def is_of_one_or_the_other(found: Listing, then: Listing, now: Listing) -> bool:
    """Each entry is as it was at some time."""
    return all(entry in (then.get(path), now.get(path)) for path, entry in found.items())


def all_that_follows(crash: Crash, change: Callable[[Path], None]) -> None:
    """Each state with an unchanged source, then with a changed one."""
    archives = crash.archives("same")
    for here in archives:
        the_older_chain_is_restored(crash, here)
        the_same_command_ends_right(crash, here)
        the_signatures_are_right(crash, here)
    change(crash.archive.source)
    for here in archives:
        the_next_incremental_ends_right(here)
    for here in crash.archives("changed"):
        the_changed_source_is_gone_on_with(crash, here)


def begun(tmp_path: Path, stock: Stock | None = None) -> Archive:
    archive = Archive(tmp_path, stock)
    make_plain(archive.source)
    return archive


def with_a_chain(tmp_path: Path, stock: Stock | None = None) -> Archive:
    archive = begun(tmp_path, stock)
    archive.by_us("full")
    edit_plain(archive.source)
    return archive


def test_the_first_full(tmp_path: Path) -> None:
    all_that_follows(Crash(begun(tmp_path), "full"), edit_plain)


def test_what_was_sealed_is_not_made_again(tmp_path: Path) -> None:
    """X5: at every moment at which a volume waits in the spool, a kill costs nothing of it."""
    crash = Crash(begun(tmp_path), "full")
    waiting = [state for state in crash.states if state.model == "kill" and len(state.spool) > 1]  # one being made, others sealed
    sample = waiting[:: max(1, len(waiting) // 6)]
    seen = 0
    for number, state in enumerate(
        [*sample, *waiting]
    ):  # on from the sample to where one waits: which states those are, the threads decide
        if number >= len(sample) and seen:
            break
        here = crash.at(state, "sealed")
        notes = (checkpoint.find(here.cache["us"] / "c") or [None])[0]
        sealed = 0
        while notes and (note := notes.volumes.get(sealed + 1)) and (is_at_target(here, note) or Path(note.spool).exists()):
            sealed += 1
        seen += sealed > len(good_volumes(here))

        assert crash.run(here).resumed == sealed

        nothing_is_left_over(here)
        assert here.read_by_us() == crash.tree
    assert seen > 0


def is_at_target(here: Archive, note: checkpoint.VolumeNote) -> bool:
    path = here.target / note.name
    return path.exists() and path.stat().st_size == note.size


def test_a_full_beside_a_chain(tmp_path: Path) -> None:
    all_that_follows(Crash(with_a_chain(tmp_path), "full", concurrency=1), edit_again)


def test_an_incremental(tmp_path: Path) -> None:
    all_that_follows(Crash(with_a_chain(tmp_path), "incremental"), edit_again)


def test_a_full_that_was_resumed(tmp_path: Path) -> None:
    here = Crash(with_a_chain(tmp_path), "full", concurrency=1).killed_with(volumes=3)

    all_that_follows(Crash(here, "full"), edit_again)


def test_an_incremental_that_was_resumed_with_another_source(tmp_path: Path) -> None:
    """The file that the last stored volume ends inside of has changed: volumes are taken back."""
    here = Crash(with_a_chain(tmp_path), "incremental", concurrency=1).killed_with(volumes=2)
    edit_again(here.source)

    all_that_follows(Crash(here, "incremental"), edit_third)


def edit_third(root: Path) -> None:
    write(root / "big", b"short now", mtime=1_500_003_000)
    write(root / "folder/inner/deeper", b"new\n", mtime=1_500_003_000)
    (root / "text").unlink()
    settle(root, 1_500_003_001)


@pytest.mark.interop
def test_a_resumed_backup_is_as_good_for_stock(tmp_path: Path, stock: Stock) -> None:
    """P18: an incremental that was resumed with a changed source, and one upon it; stock restores and goes on."""
    here = Crash(with_a_chain(tmp_path, stock), "incremental", concurrency=1).killed_with(volumes=2)
    edit_again(here.source)
    here.by_us("incremental", volume_size=SMALL)
    mixed = here.kept[here.time] = here.read_by_us()
    assert mixed != listing(here.source)
    here.by_us("incremental")

    here.check("us", "stock")

    edit_third(here.source)
    here.by_stock("incremental")
    here.check("us", "stock")
