"""How many transfers a command has at once when nobody gives a number (A2, S4, S8)."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from asyncdup import events
from asyncdup.backends.memory import MemoryBackend
from asyncdup.transfer.adaptive import MOST, START
from tests.commands.conftest import SMALL, Stage, tree

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, f"memory://{tmp_path}")


async def test_it_looks_for_the_number_itself(stage: Stage) -> None:
    """A2: from eight. The volumes of a test are small, so there are soon more."""
    stage.fill(7)

    await stage.backup()

    changes = [(event.new, event.why) for event in stage.of(events.LimitChanged)]
    assert changes == [(START, "new lane"), (MOST, "auto: the size of the objects")]


async def test_s8_a_backend_that_takes_one_call_at_a_time_gets_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBackend, "supports_concurrency", lambda self: False)
    stage.fill(3)

    await stage.backup()

    assert [event.new for event in stage.of(events.LimitChanged)] == [1]


async def test_s4_no_more_than_the_temporary_folder_has_room_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for five volumes: three on their way, one sealed and one in the making."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 5 * SMALL))
    stage.fill(7)

    await stage.backup()

    assert max(event.new for event in stage.of(events.LimitChanged)) == 3
    assert any("--concurrency is lowered from 8 to 3" in event.message for event in stage.of(events.Notice))
    assert tree(await stage.restore()) == tree(stage.source)
