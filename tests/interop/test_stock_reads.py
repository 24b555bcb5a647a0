"""Chains that we write, restored and verified by stock duplicity to what the source was: content, type, mode, owner, time, links."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.archives import BARE, PLAIN, SIGNED, SYMMETRIC, Archive, Form
from interop.trees import edit_again, edit_odd, edit_plain, make_odd, make_plain, remove, settle, write

from asyncdup.archive.selection import Rule

pytestmark = [pytest.mark.interop, pytest.mark.realtime, pytest.mark.slow]

Make = Callable[..., Archive]


def check_wholly(made: Archive) -> None:
    """All times restore by both, both find no difference to the source as it is, and stock sees one whole chain."""
    made.check()
    assert made.verified_by_stock().endswith(" 0 difference(s) found.")
    assert made.differences_by_us() == []
    status = made.say("collection-status", made.url)
    assert "Found primary backup chain with matching signature chain" in status
    assert "No orphaned or incomplete backup sets found." in status


@pytest.mark.parametrize("form", [PLAIN, BARE, SYMMETRIC, SIGNED, PLAIN.with_prefixes()], ids=lambda form: form.name)
def test_a_full_and_two_increments_in_every_form(form: Form, archive: Make) -> None:
    """Changed, new and deleted files, changed types, modes and times (format, sections 4 to 10)."""
    made = archive(form)
    make_plain(made.source)
    made.by_us("full")
    edit_plain(made.source)
    made.by_us("incremental")
    edit_again(made.source)
    made.by_us("incremental")

    check_wholly(made)


@pytest.mark.parametrize("form", [PLAIN, BARE, SYMMETRIC, SIGNED], ids=lambda form: form.name)
def test_many_volumes(form: Form, archive: Make) -> None:
    """Files and deltas that are split over volumes (format, sections 4.2 and 6)."""
    made = archive(form)
    make_plain(made.source)
    write(made.source / "huge", random.Random(5).randbytes(700_000))
    settle(made.source, 1_500_000_001)
    first = made.by_us("full", volume_size=200 << 10)
    edit_plain(made.source)
    write(made.source / "huge", random.Random(6).randbytes(450_000) + (made.source / "huge").read_bytes(), mtime=1_500_001_000)
    second = made.by_us("incremental", volume_size=200 << 10)

    assert min(first.volumes, second.volumes) >= 4
    check_wholly(made)


def test_odd_names_types_owners_and_times(archive: Make) -> None:
    """Everything that the format keeps, and what it cannot keep as it says (format, sections 5 and 11)."""
    made = archive()
    make_odd(made.source)
    made.by_us("full")
    edit_odd(made.source)
    made.by_us("incremental")

    check_wholly(made)
    assert made.heard.warnings == []


@pytest.mark.parametrize("sizes", [(20, 0, 30), (300_000, 310_000, 65536)])
def test_a_single_file_as_source(archive: Make, sizes: tuple[int, ...], tmp_path: Path) -> None:
    """Its path is the root's (format, section 4)."""
    made = archive(source=tmp_path / "one file")
    data = random.Random(7).randbytes(310_000)
    for number, size in enumerate(sizes):
        write(made.source, data[:size], mtime=1_500_000_000 + number)
        made.by_us("backup", volume_size=160 << 10)

    check_wholly(made)


def test_an_empty_folder_and_sets_in_which_nothing_changed(archive: Make) -> None:
    """One volume without members, an empty signature archive (format, section 11)."""
    made = archive()
    made.source.mkdir()
    settle(made.source, 1_500_000_000)
    for _ in range(3):
        made.by_us()

    check_wholly(made)
    assert "Filelist 0" in next(made.target.glob("duplicity-inc*.manifest")).read_text()


def test_everything_is_deleted_and_comes_back(archive: Make) -> None:
    made = archive()
    make_plain(made.source)
    made.by_us()
    for path in made.source.iterdir():
        remove(path)
    settle(made.source, 1_500_001_000)
    made.by_us()
    make_plain(made.source)
    made.by_us()

    check_wholly(made)


def test_a_selection_that_changes_within_the_chain(archive: Make) -> None:
    """What is excluded later is deleted by the set that leaves it out (format, section 11)."""
    made = archive()
    make_plain(made.source)
    made.by_us("full")
    rules = (Rule("exclude", os.fsencode(made.source / "folder")), Rule("exclude", b"**/sized-*"))
    made.by_us("incremental", rules=rules)
    made.kept[made.time] = {
        path: entry
        for path, entry in made.kept[made.time].items()
        if not f"{path}/".startswith("folder/") and not path.startswith("sized-")
    }

    made.check()


def test_a_file_that_changed_in_the_second_of_the_run_is_seen_by_the_next_of_stock(archive: Make) -> None:
    """P13: its signature is dated a second earlier, so that a change with the same time is not lost."""
    made = archive()
    moment = made.time + 86_400
    write(made.source / "f", b"before\n", mtime=moment)
    made.by_us("full")
    write(made.source / "f", b"after!\n", mtime=moment)

    made.by_stock("incremental")

    made.check()


def test_stock_lists_the_files_of_our_chain(archive: Make) -> None:
    """From our signature archives, without a cache (format, sections 7 and 19)."""
    made = archive()
    make_plain(made.source)
    made.by_us()
    edit_plain(made.source)
    made.by_us()

    for moment, tree in made.kept.items():
        lines = made.say("list-current-files", made.url, "--restore-time", str(moment)).splitlines()
        assert {line[25:] for line in lines if line[:4] in DAYS} == set(tree)


DAYS = ("Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun ")


def test_the_program_itself_restores_what_ours_wrote(archive: Make, tmp_path: Path) -> None:
    """Both as people start them, in processes of their own."""
    made = archive()
    assert made.stock is not None
    make_plain(made.source)
    made.by_us()

    words = ("--no-encryption", "--archive-dir", str(tmp_path / "cache"), "--no-restore-ownership")
    made.stock.program("restore", made.url, str(tmp_path / "restored"), *words)

    assert sorted(os.listdir(tmp_path / "restored")) == sorted(os.listdir(made.source))
