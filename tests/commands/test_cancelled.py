"""The calling task is cancelled, at any turn of the loop: nothing is left behind, and the same command ends right (C5, P1, P2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from asyncdup.testing import FaultyBackend, VirtualLoop
from tests.commands.conftest import Stage, tree

POINTS = int(os.environ.get("ASYNCDUP_CANCEL_POINTS", "20"))  # a nightly run takes more

Command = Callable[[], Awaitable[object]]


class CancellingLoop(VirtualLoop):
    """Cancels ``task`` at turn ``last``, as ``asyncio.timeout`` or a task group of the application would."""

    def __init__(self) -> None:
        self.turns = 0
        self.last = 0
        self.task: asyncio.Task[object] | None = None
        super().__init__()

    def _run_once(self) -> None:
        if self.task is not None:
            self.turns += 1
            if self.turns == self.last:
                self.call_soon(self.task.cancel)
        super()._run_once()

    async def watch(self, command: Command, last: int) -> bool:
        """Run ``command``, cancelled at turn ``last``; whether it came to its end."""
        self.turns, self.last = 0, last
        self.task = self.create_task(command())  # type: ignore[arg-type]
        try:
            await self.task
        except asyncio.CancelledError:
            return False
        finally:
            self.task = None
        return True


def run(test: Callable[[CancellingLoop], Awaitable[None]]) -> None:
    loop = CancellingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(test(loop))  # type: ignore[arg-type]


def at(share: int, turns: int) -> int:
    return max(1, turns * share // POINTS)


@pytest.fixture(scope="module")
def turns() -> dict[str, int]:
    """How many turns a command takes, about, by its name: the threads have a say in it."""
    return {}


@pytest.mark.parametrize("share", range(POINTS))
def test_a_backup_that_is_cancelled_leaves_nothing_and_is_gone_on_with(tmp_path: Path, turns: dict[str, int], share: int) -> None:
    stage = Stage(tmp_path, f"file://{tmp_path / 'target'}")
    stage.defaults = {"concurrency": 2}
    stage.fill(5)

    async def test(loop: CancellingLoop) -> None:
        if "backup" not in turns:
            await loop.watch(stage.backup, -1)
            turns["backup"] = loop.turns
            stage.write("file00", "changed")

        await loop.watch(stage.backup, at(share, turns["backup"]))

        stage.nothing_is_left()
        await stage.backup()
        assert tree(await stage.restore()) == tree(stage.source)
        assert (await stage.backup("incremental")).statistics.delta_entries == 0

    run(test)


@pytest.mark.parametrize("share", range(POINTS))
def test_a_restore_that_is_cancelled_leaves_nothing_but_what_it_wrote(tmp_path: Path, turns: dict[str, int], share: int) -> None:
    stage = Stage(tmp_path, f"file://{tmp_path / 'target'}")
    stage.defaults = {"concurrency": 2}
    stage.fill(5)

    async def test(loop: CancellingLoop) -> None:
        await stage.backup()
        if "restore" not in turns:
            await loop.watch(lambda: stage.restore("whole"), -1)
            turns["restore"] = loop.turns

        await loop.watch(stage.restore, at(share, turns["restore"]))

        stage.nothing_is_left()
        assert tree(await stage.restore(force=True)) == tree(stage.source)

    run(test)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5])
async def test_a_timeout_ends_a_backup_and_a_restore_at_a_far_target(far: tuple[Stage, FaultyBackend], seconds: float) -> None:
    """``asyncio.timeout`` of the application, while calls are on their way: no call runs on."""
    stage, backend = far
    stage.defaults = {"concurrency": 2}
    stage.fill(5)
    backend.inner.latency = 1.3

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await stage.backup()
    stage.nothing_is_left()
    assert "running" not in {call.outcome for call in backend.calls}
    await stage.backup()

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stage.restore("cut")
    stage.nothing_is_left()
    assert "running" not in {call.outcome for call in backend.calls}
    assert tree(await stage.restore()) == tree(stage.source)
