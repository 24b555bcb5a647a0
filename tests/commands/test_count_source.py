"""``Options.count_source``: a backup says beforehand what it will have gone through, by the same rules."""

from __future__ import annotations

import os

from asyncdup import Rule
from asyncdup.events import Scanned, SourceCounted
from tests.commands.conftest import Stage


def counted(stage: Stage) -> list[tuple[int, int, bool]]:
    return [(event.files, event.bytes, event.full) for event in stage.of(SourceCounted)]


def scanned(stage: Stage) -> tuple[int, int]:
    last = stage.of(Scanned)[-1]
    return last.files, last.bytes


async def test_the_count_is_what_the_backup_comes_to(stage: Stage) -> None:
    stage.fill(3)
    stage.write("folder/left-out", b"x" * 5000)
    rules = (Rule("exclude", os.fsencode(stage.source / "folder")),)

    await stage.backup("full", count_source=True, rules=rules)

    assert counted(stage) == [(*scanned(stage), True)]
    assert scanned(stage)[0] == 4  # three files and the root
    kinds = [type(event) for event in stage.heard if isinstance(event, (SourceCounted, Scanned))]
    assert kinds[0] is SourceCounted and kinds.count(SourceCounted) == 1


async def test_of_an_incremental_it_says_that_not_all_of_it_will_be_stored(stage: Stage) -> None:
    stage.fill(2)
    await stage.backup("full")
    assert counted(stage) == []

    stage.write("another")
    await stage.backup(count_source=True)

    assert counted(stage) == [(*scanned(stage), False)]
