"""P10: one writer at a target, whatever machine it is on; and what becomes of the locks of the dead."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import asyncdup
from asyncdup.archive import lock as locks
from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.archive.lock import EXPIRY, REFRESH, Holder, birth_of, this_process
from asyncdup.backends.memory import MemoryBackend, Store
from asyncdup.commands.cleanup import cleanup
from asyncdup.commands.remove import remove_all_but_n_full, remove_older_than
from asyncdup.commands.unlock import UnlockResult, unlock
from asyncdup.errors import LockedError
from asyncdup.testing import FaultyBackend
from tests.commands.conftest import START, Stage, tree

FAR = Holder(host="far-away", machine="m", boot="b", space="s", pid=7, birth="1", command="full", started=START, refreshed=START)


async def names(url: str) -> list[str]:
    async with asyncdup.open_backend(url).list() as infos:
        return sorted([info.name async for info in infos])


async def put_lock(stage: Stage, holder: Holder, id: str = "00ff") -> str:
    await asyncdup.open_backend(stage.url).put(f"asyncdup-lock-{id}", asyncdup.BytesBody(holder.encode()))
    return f"asyncdup-lock-{id}"


@pytest.mark.parametrize("action", ["full", "incremental", "backup"])
async def test_another_machines_lock_refuses_every_writer_and_nothing_is_written(action: str, stage: Stage) -> None:
    stage.write("a")
    await stage.backup("full")
    await put_lock(stage, FAR)
    before = await names(stage.url)

    with pytest.raises(LockedError, match="full on far-away") as caught:
        await stage.backup(action)

    assert caught.value.exit_code == 23
    assert "asyncdup unlock --force" in (caught.value.hint or "")
    assert await names(stage.url) == before
    stage.nothing_is_left()


@pytest.mark.parametrize("taken", ["target", "archive folder"])
@pytest.mark.parametrize("command", [cleanup, partial(remove_older_than, time=START), partial(remove_all_but_n_full, count=1)])
async def test_who_removes_is_a_writer_too(command: Any, taken: str, stage: Stage) -> None:
    stage.write("a")
    await stage.backup("full")
    options = stage.options(force=True)
    if taken == "target":
        await put_lock(stage, FAR)
    other = ArchiveDir(stage.cache, "cache")
    before = await names(stage.url)

    if taken == "archive folder":
        other.lock()
    try:
        with pytest.raises(LockedError):
            await command(stage.url, options=options)
    finally:
        other.unlock()

    assert await names(stage.url) == before


async def test_readers_take_no_lock_and_wait_for_none(stage: Stage) -> None:
    stage.write("a")
    await stage.backup("full")
    name = await put_lock(stage, FAR)

    assert tree(await stage.restore()) == tree(stage.source)
    await stage.verify()
    await stage.files()
    assert len((await stage.status()).chains) == 1
    assert name in await names(stage.url)


async def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_with_a_notice(stage: Stage) -> None:
    stage.write("a")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    await put_lock(stage, replace(this_process("full", START), pid=dead.pid, birth="1"))

    await stage.backup("full")

    assert any("is taken over" in notice.message and str(dead.pid) in notice.message for notice in stage.of(asyncdup.events.Notice))
    assert not [name for name in await names(stage.url) if "lock" in name]
    assert tree(await stage.restore()) == tree(stage.source)


async def test_what_a_writer_stored_just_before_it_ended_is_not_taken_for_unfinished(tmp_path: Path, schemes: None) -> None:
    """Between our listing, which has its lock and no manifest yet, and our second look at the lock it has committed and ended."""
    store: Store = {}
    late: Store = {}
    looks = itertools.count(1)
    writer = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

    class Late(MemoryBackend):
        def get(self, name: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
            if "lock" in name and next(looks) == 2:
                writer.communicate()
                store.update(late)
            return super().get(name, start=start, length=length)

    asyncdup.register_backend("late", lambda location, options: Late(store))
    stage = Stage(tmp_path, "late://place")
    stage.write("a")
    await stage.backup("full")
    before = dict(store)
    (manifest,) = (name for name in store if name.endswith(".manifest"))
    late[manifest] = store.pop(manifest)
    await put_lock(stage, replace(this_process("full", START), pid=writer.pid, birth=birth_of(writer.pid) or ""))

    await stage.backup("full", archive_dir=tmp_path / "another machine")

    assert before.items() <= store.items()
    assert len((await stage.status()).chains) == 2


async def test_a_lock_without_a_sign_of_life_is_taken_over_after_an_hour(tmp_path: Path) -> None:
    """By the holder's word where the target has no clock."""
    stage = Stage(tmp_path, f"memory://{tmp_path}/expiry")
    stage.write("a")
    await put_lock(stage, replace(FAR, refreshed=START - EXPIRY + 60))
    with pytest.raises(LockedError):
        await stage.backup("full")

    await put_lock(stage, replace(FAR, refreshed=START - EXPIRY - 60))
    await stage.backup("full")

    assert not [name for name in await names(stage.url) if "lock" in name]


async def test_an_object_that_says_nothing_is_a_lock_all_the_same_and_unlock_removes_it(stage: Stage) -> None:
    stage.write("a")
    await asyncdup.open_backend(stage.url).put("asyncdup-lock-x", asyncdup.BytesBody(b""))

    with pytest.raises(LockedError, match="not said who"):
        await stage.backup("full")
    listed: UnlockResult = await stage._run(unlock, stage.url)
    assert [holder.id for holder in listed.holders] == ["x"] and not listed.removed
    assert "asyncdup-lock-x" in await names(stage.url)

    assert (await stage._run(unlock, stage.url, force=True)).removed
    await stage.backup("full")
    assert tree(await stage.restore()) == tree(stage.source)


async def test_two_at_once_never_write_both_and_one_gets_through(far: tuple[Stage, FaultyBackend]) -> None:
    """Two machines begin in the same moment: both store, both list, both see the other; one withdraws."""
    stage, backend = far
    stage.fill(2)
    ended: list[object] = []

    async def machine(name: str) -> None:
        options = stage.options(archive_dir=stage.folder / name)
        try:
            ended.append((await asyncdup.backup(stage.source, stage.url, options, action="full")).set_id)
        except LockedError as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(machine, "one")
        tasks.start_soon(machine, "two")

    collection = await stage.status()
    assert [type(each) for each in ended].count(LockedError) == 1
    assert len(collection.sets) == len([each for each in ended if not isinstance(each, LockedError)]) >= 1
    assert not collection.unfinished and not collection.orphaned
    puts = [call for call in backend.calls if call.verb == "put" and "lock" not in call.name]
    for one, two in itertools.pairwise(puts):  # sets never interleave
        assert one.name.split(".")[1] == two.name.split(".")[1] or (one.ended or 0) <= two.began
    assert not [name for name in await names_at(backend) if "lock" in name]


async def names_at(backend: FaultyBackend) -> list[str]:
    async with backend.list() as infos:
        return [info.name async for info in infos]


async def test_what_another_run_wrote_while_we_prepared_is_built_upon(
    far: tuple[Stage, FaultyBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain that was listed first is not continued blindly: the listing under the lock counts."""
    stage, _ = far
    stage.write("a")
    first = await stage.backup("full")
    begin = locks.TargetLock.begin
    others: list[asyncdup.BackupResult] = []

    async def late(self: locks.TargetLock, listing: dict[str, asyncdup.ObjectInfo]) -> None:
        if not others:
            others.append(None)  # type: ignore[arg-type]  # the run of the other machine comes through here, too
            others[0] = await asyncdup.backup(
                stage.source, stage.url, stage.options(archive_dir=stage.folder / "other"), action="incremental"
            )
        await begin(self, listing)

    monkeypatch.setattr(locks.TargetLock, "begin", late)
    stage.write("b")
    ours = await stage.backup("incremental")

    assert others[0].set_id.start == first.set_id.end
    assert ours.set_id.start == others[0].set_id.end
    collection = await stage.status()
    assert [len(chain.sets) for chain in collection.chains] == [3] and not collection.forks
    assert tree(await stage.restore()) == tree(stage.source)


async def test_a_lock_costs_one_put_one_list_and_one_delete(far: tuple[Stage, FaultyBackend]) -> None:
    stage, backend = far
    stage.write("a")
    await stage.backup("full")

    locking = [call.verb for call in backend.calls if "asyncdup-lock" in call.name]
    assert locking == ["put", "delete"]
    assert [call.name for call in backend.calls if call.verb == "list"].count("") == 2


async def test_a_run_whose_lock_was_taken_away_ends_and_commits_nothing(far: tuple[Stage, FaultyBackend]) -> None:
    """It slept, or somebody unlocked: whoever came after it has the target now."""
    stage, backend = far
    stage.fill(4)
    backend.inner.latency = REFRESH / 2  # type: ignore[attr-defined]

    async def steal() -> None:
        await anyio.sleep(REFRESH * 1.8)
        at_once = asyncdup.open_backend(f"memory://{stage.folder}")
        for name in await names(f"memory://{stage.folder}"):
            if "lock" in name:
                await at_once.delete(name)

    retry = asyncdup.RetryPolicy(stall_timeout=EXPIRY, response_timeout=EXPIRY)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steal)
        with pytest.raises(LockedError, match="taken over"):
            await stage.backup("full", concurrency=1, retry=retry)

    assert not [name for name in await names_at(backend) if "manifest" in name]


async def test_a_failed_run_and_a_cancelled_one_leave_no_lock(far: tuple[Stage, FaultyBackend]) -> None:
    stage, backend = far
    stage.fill(4)
    with anyio.move_on_after(5.5):
        await stage.backup("full", concurrency=1)

    assert [call.verb for call in backend.calls if "asyncdup-lock" in call.name][-1] == "delete"
    assert not [name for name in await names_at(backend) if "lock" in name]


@pytest.mark.parametrize("concurrency", [0, 1])
async def test_cancelled_at_any_moment_it_leaves_no_lock(far: tuple[Stage, FaultyBackend], concurrency: int) -> None:
    """C5: also while the lock is being stored, and while it is being taken away."""
    stage, backend = far
    stage.write("a")
    for tenths in range(5, 200, 10):
        with anyio.move_on_after(tenths / 10) as scope:
            await stage.backup("full", concurrency=concurrency)
        assert not [name for name in await names_at(backend) if "lock" in name], tenths
        if not scope.cancelled_caught:
            return
    raise AssertionError("the backup never came to its end")


PROGRAM = """
import asyncio, sys
from pathlib import Path
import asyncdup
from asyncdup.archive import lock
lock.PAUSE = 0.05
folder, cache = Path(sys.argv[1]), sys.argv[2]
options = asyncdup.Options(archive_dir=folder / cache, name="c", volume_size=140_000, tempdir=folder, concurrency=1)
from asyncdup.testing import SlowBackend
asyncdup.register_backend("slow", lambda location, _: SlowBackend(asyncdup.open_backend(f"file://{folder}/target"), latency=float(sys.argv[3])))
print("begun", flush=True)
asyncio.run(asyncdup.backup(folder / "source", "slow://away/target", options, action=sys.argv[4]))
"""


def program(folder: Path, cache: str, *, latency: str = "0", action: str = "backup") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), cache, latency, action]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.realtime
async def test_killed_while_it_held_the_lock_the_next_run_takes_it_over(tmp_path: Path) -> None:
    """From another archive folder, so that the lock at the target alone is between them. A second writer meanwhile is refused."""
    target = tmp_path / "target"
    (tmp_path / "source").mkdir()
    (tmp_path / "source/big").write_bytes(os.urandom(6_000_000))
    holding = program(tmp_path, "one", latency="0.5")
    try:
        with anyio.fail_after(120):
            while not (list(target.glob("asyncdup-lock-*")) and list(target.glob("*vol1*"))):
                await anyio.sleep(0.02)
        holding.send_signal(signal.SIGSTOP)  # else it might be done before the second is there
        assert json.loads(next(target.glob("asyncdup-lock-*")).read_text())["pid"] == holding.pid
        second = program(tmp_path, "two")
        _, said = await anyio.to_thread.run_sync(second.communicate)
        assert second.returncode != 0 and "LockedError" in said and str(holding.pid) in said
    finally:
        holding.send_signal(signal.SIGKILL)
        holding.communicate()
    assert list(target.glob("asyncdup-lock-*"))

    after = program(tmp_path, "two")
    _, said = await anyio.to_thread.run_sync(after.communicate)

    assert after.returncode == 0, said
    assert not list(target.glob("asyncdup-lock-*"))
    assert len(list(target.glob("*manifest"))) == 1


@pytest.mark.realtime
async def test_of_several_processes_that_begin_at_once_never_two_continue_the_same_chain(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(os.urandom(300_000))
    url = f"file://{tmp_path}/target"
    begun = program(tmp_path, "first", action="full")
    await anyio.to_thread.run_sync(begun.communicate)
    (tmp_path / "source/more").write_bytes(os.urandom(300_000))

    both = [program(tmp_path, name, action="incremental") for name in ("one", "two")]
    for each in both:
        await anyio.to_thread.run_sync(each.communicate)

    assert 0 in [each.returncode for each in both]
    options = asyncdup.Options(archive_dir=tmp_path / "reader", tempdir=tmp_path)
    collection = await asyncdup.collection_status(url, options)
    assert not collection.forks and not collection.orphaned and not collection.unfinished
    assert [len(chain.sets) for chain in collection.chains] == [1 + [each.returncode for each in both].count(0)]
    await asyncdup.restore(url, tmp_path / "restored", options)
    assert tree(tmp_path / "restored") == tree(tmp_path / "source")
