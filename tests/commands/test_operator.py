"""A target that fails, through the real commands: retries, the operator who is asked, and what a run that gives up raises (G, N2, R1)."""

from __future__ import annotations

import errno
import json
import os
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

import asyncdup
from asyncdup import RetryPolicy, events
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise, auth_lost, disk_full, lost, refused, throttled
from tests.commands.conftest import Stage, tree

INTERVENTION = RetryPolicy(mode="intervention", max_elapsed=60.0)
FULL_DISK = [Raise(disk_full)] * 100

Far = tuple[Stage, FaultyBackend]


def ready(far: Far, **defaults: object) -> tuple[Stage, FaultyBackend, Path]:
    """Eight volumes to be sent, and the place of the flag."""
    stage, backend = far
    stage.fill(8)
    flag = stage.folder / "flag"
    stage.defaults = {"retry": INTERVENTION, "retry_flag": flag, "concurrency": 3, **defaults}
    return stage, backend, flag


async def appears(flag: Path) -> dict[str, object]:
    with anyio.fail_after(3600):
        while not flag.exists():
            await anyio.sleep(0.3)
    return json.loads(flag.read_bytes())


async def is_whole(stage: Stage, flag: Path) -> None:
    assert not flag.exists()
    stage.nothing_is_left()
    assert tree(await stage.restore(retry_flag=None)) == tree(stage.source)


async def test_a_full_disk_is_one_episode_and_removing_the_flag_resumes(far: Far) -> None:
    """G6, G7, N2, R1, R2: however many transfers fail, one flag; its removal starts one attempt, then all."""
    stage, backend, flag = ready(far)
    backend.script("put", *FULL_DISK, name="*vol[3-9]*")
    found: list[dict[str, object]] = []

    async def operator() -> None:
        found.append(await appears(flag))
        await anyio.sleep(300)  # a person takes their time; nothing is hammered meanwhile
        backend.heal()
        backend.calls.clear()
        flag.unlink()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        result = await stage.backup()
        opened, closed = stage.of(events.EpisodeOpened), stage.of(events.EpisodeClosed)

    assert result.volumes == 8
    assert len(opened) == len(closed) == len(found) == 1
    assert closed[0].by == "flag removed"
    assert closed[0].waited > 300
    assert sum(call.began < backend.calls[0].ended for call in backend.calls if call.ended) == 1, "one probe, by itself"
    assert "no space left on device" in str(found[0]["message"])
    assert found[0]["pid"] == os.getpid()
    assert found[0]["resume"]
    await is_whole(stage, flag)


async def test_while_it_waits_nothing_is_sent_and_volumes_are_made_up_to_the_bound(far: Far) -> None:
    """G6, S4: room for three in flight, one sealed and one in the making."""
    stage, backend, flag = ready(far)
    stage.fill(20)
    backend.script("put", *FULL_DISK)

    async def operator() -> None:
        await appears(flag)
        tried = len(backend.calls)
        await anyio.sleep(500)
        assert len(backend.calls) == tried
        assert len(stage.of(events.VolumeMade)) == 5
        backend.heal()
        flag.write_text("resume\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        await stage.backup()

    await is_whole(stage, flag)


async def test_still_failing_after_resume_is_the_same_episode(far: Far) -> None:
    """G4: the flag is there again."""
    stage, backend, flag = ready(far)
    backend.script("put", *FULL_DISK)

    async def operator() -> None:
        for _ in range(3):
            await appears(flag)
            flag.unlink()
            await anyio.sleep(2)
        await appears(flag)
        backend.heal()
        flag.touch()
        os.utime(flag, (1, 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        await stage.backup()
        assert len(stage.of(events.EpisodeOpened)) == 1
        assert stage.of(events.EpisodeClosed)[0].by == "flag touched"

    await is_whole(stage, flag)


async def test_abort_in_the_flag_is_exit_61_and_the_same_command_goes_on(far: Far) -> None:
    """R1, P1."""
    stage, backend, flag = ready(far)
    backend.script("put", *FULL_DISK, name="*vol[3-9]*")

    async def operator() -> None:
        await appears(flag)
        flag.write_text("abort\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        with pytest.raises(asyncdup.InterruptedByOperator) as caught:
            await stage.backup()

    assert asyncdup.exit_code_of(caught.value) == 61
    assert not flag.exists()
    stage.nothing_is_left()
    backend.heal()
    assert (await stage.backup()).resumed == 2
    await is_whole(stage, flag)


async def test_a_control_resumes_as_a_signal_does(far: Far) -> None:
    stage, backend, flag = ready(far, retry_flag=None)
    backend.script("put", Raise(auth_lost))
    control = asyncdup.Control()

    def on_event(event: asyncdup.Event) -> None:
        if isinstance(event, events.EpisodeOpened):
            tasks.start_soon(mend)

    async def mend() -> None:
        await anyio.sleep(60)
        control.resume()

    stage.watch = on_event
    async with anyio.create_task_group() as tasks:
        await stage.backup(control=control)

    assert stage.of(events.EpisodeClosed)[0].by == "api"
    await is_whole(stage, flag)


async def test_a_cancelled_wait_removes_the_flag(far: Far) -> None:
    """G9."""
    stage, backend, flag = ready(far)
    backend.script("put", *FULL_DISK)

    with anyio.move_on_after(500) as scope:
        await stage.backup()

    assert scope.cancelled_caught
    assert len(stage.of(events.EpisodeOpened)) == 1
    assert not flag.exists()
    stage.nothing_is_left()


async def test_a_drained_backup_ends_with_a_state_to_go_on_from(far: Far) -> None:
    """X3, X4."""
    stage, _, flag = ready(far, retry=RetryPolicy(), retry_flag=None)
    stage.fill(20)
    control = asyncdup.Control()

    def on_event(event: asyncdup.Event) -> None:
        if isinstance(event, events.VolumeStored) and event.number == 2:
            control.drain()

    stage.watch = on_event
    with pytest.raises(asyncdup.Drained):
        await stage.backup(control=control)

    stored = len(stage.of(events.VolumeStored))
    assert 2 <= stored < 20
    stage.nothing_is_left()
    assert (await stage.backup()).resumed == stored
    await is_whole(stage, flag)


async def test_a_restore_waits_for_the_operator_too(far: Far) -> None:
    stage, backend, flag = ready(far)
    await stage.backup()
    backend.script("get", *[Raise(auth_lost)] * 20, name="*vol3*")

    async def operator() -> None:
        assert (await appears(flag))["class"] == "operator"
        backend.heal()
        flag.unlink()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operator)
        restored = await stage.restore()

    assert tree(restored) == tree(stage.source)


async def test_mode_wait_goes_on_trying_for_as_long_as_it_takes(far: Far) -> None:
    """G5: one attempt at a time, at most every 300 s."""
    stage, backend, flag = ready(far, retry=RetryPolicy(mode="wait"), retry_flag=None)
    backend.script("put", *[Raise(refused)] * 90, *FULL_DISK[:5])
    began = anyio.current_time()

    await stage.backup()

    assert anyio.current_time() - began > 3000
    gaps = [later.began - call.began for call, later in pairwise(backend.calls)]
    assert max(gaps) <= 301
    await is_whole(stage, flag)


async def test_fixed_retries_run_out_and_the_root_cause_is_raised(far: Far) -> None:
    """C2, C3, C7, B1; each retry is after a look at what became of the attempt, a second more (I2)."""
    stage, backend, _ = ready(far, retry=RetryPolicy.fixed(4, 10.0), retry_flag=None, concurrency=1)
    backend.script("put", *[Raise(lost)] * 10, name="*vol3*")

    with pytest.raises(ConnectionResetError) as caught:
        await stage.backup()

    tried = [call for call in backend.calls if call.verb == "put" and "vol3" in call.name]
    assert len(tried) == 4
    assert all(8.5 <= later.began - (call.ended or 0) <= 13.5 for call, later in pairwise(tried))
    assert any("4 attempts" in note for note in caught.value.__notes__)
    assert asyncdup.exit_code_of(caught.value) == 50
    stage.nothing_is_left()
    backend.heal()
    assert (await stage.backup()).resumed >= 2


async def test_mode_fail_raises_what_a_person_must_mend_at_once(far: Far) -> None:
    """C8."""
    stage, backend, _ = ready(far, retry=RetryPolicy(), retry_flag=None)
    backend.script("put", *FULL_DISK)

    with pytest.raises(OSError, match="no space left") as caught:
        await stage.backup()

    assert caught.value.errno == errno.ENOSPC
    assert asyncdup.exit_code_of(caught.value) == 53
    assert len(backend.names("put")) <= 3
    stage.nothing_is_left()


async def test_a_busy_server_is_given_the_time_that_it_asks_for(far: Far) -> None:
    """B2: for the whole lane."""
    stage, backend, flag = ready(far, retry=RetryPolicy(), retry_flag=None)
    backend.script("put", Raise(lambda: throttled(retry_after=100.0)), name="*vol1.*")

    await stage.backup()

    refusal = next(call for call in backend.calls if call.outcome == "error")
    assert not [call for call in backend.calls if refusal.ended < call.began < refusal.ended + 100.0]  # type: ignore[operator]
    await is_whole(stage, flag)


async def test_a_flag_that_is_not_ours_is_refused(far: Far) -> None:
    """N2."""
    stage, _, flag = ready(far)
    flag.write_text("somebody's notes")

    with pytest.raises(asyncdup.UsageError, match="no flag of ours"):
        await stage.backup()

    assert flag.read_text() == "somebody's notes"
    stage.nothing_is_left()


async def test_the_flag_of_a_dead_run_is_reported_and_removed(far: Far) -> None:
    """G10."""
    stage, _, flag = ready(far)
    dead = {"program": "asyncdup", "pid": os.getpid(), "host": os.uname().nodename, "message": "disk full yesterday"}
    flag.write_text(json.dumps(dead))

    await stage.backup()

    assert any("disk full yesterday" in event.message for event in stage.of(events.Notice))
    await is_whole(stage, flag)


async def test_in_mode_fail_the_flag_is_not_used(far: Far) -> None:
    """N2."""
    stage, _, flag = ready(far, retry=RetryPolicy())

    await stage.backup()

    assert any("not used" in event.message for event in stage.of(events.Notice))
    assert not flag.exists()
