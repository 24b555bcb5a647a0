"""S11: the spool disk is a lane of its own. What it refuses waits at its gate, sends go on, and nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import InterruptedByOperator
from asyncdup.events import Blocked, EpisodeClosed, EpisodeOpened, GateChanged, OpSucceeded, Unblocked
from asyncdup.transfer import Intervention, ReadRequest, RetryPolicy, download, open_engine
from asyncdup.transfer.disk import mount_point
from asyncdup.transfer.gate import State

HOLD = RetryPolicy(mode="intervention")
WAIT = RetryPolicy(mode="wait", cap=3.0)
REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EIO]


class Disk:
    """Refuses until there is room."""

    def __init__(self, code: int = errno.ENOSPC, *, room: bool = False) -> None:
        self.code = code
        self.room = room
        self.asked: list[float] = []

    def error(self) -> OSError:
        return OSError(self.code, os.strerror(self.code))

    def write(self) -> None:
        self.asked.append(anyio.from_thread.run_sync(anyio.current_time))
        if not self.room:
            raise self.error()

    def make_room(self) -> None:
        self.room = True


@pytest.mark.parametrize("code", REFUSALS)
async def test_s11_the_producer_waits_at_the_gate_of_the_disk_and_sends_go_on(far, log, tmp_path: Path, code: int) -> None:
    flag, full = tmp_path / "flag", Disk(code)
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), events=log.hub, spool_dir=tmp_path) as engine:
        file = await engine.spool.new(5 << 20)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(file.write_again, full.error(), full.write)
            await anyio.sleep(100)
            assert engine.spool.disk.gate.state is State.WAITING and flag.exists()
            await engine.run(engine.lane(far(1.0)), "put", "a", BytesBody(b"x"))
            full.make_room()
            flag.unlink()

    (opened,) = log.of(EpisodeOpened)
    assert opened.lane == f"the disk at {mount_point(tmp_path)}" and os.strerror(code) in opened.error
    assert str(mount_point(tmp_path)) in opened.hint and f"rm {flag}" in opened.resume
    assert code == errno.EIO or "5.0 MiB" in opened.hint
    (closed,) = log.of(EpisodeClosed)
    assert closed.by == "flag removed" and closed.waited >= 100
    assert len(log.of(OpSucceeded)) == 1 and len(full.asked) == 2, "no probe without the operator"


async def test_s11_mode_wait_probes_the_disk_slowly(log, tmp_path: Path) -> None:
    full = Disk()
    async with open_engine(policy=WAIT, events=log.hub, spool_dir=tmp_path) as engine:
        file = await engine.spool.new(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(file.write_again, full.error(), full.write)
            await anyio.sleep(300)
            full.make_room()

    gaps = [later - earlier for earlier, later in zip(full.asked, full.asked[1:], strict=False)]
    assert len(gaps) >= 9 and all(15 <= gap <= 30.1 for gap in gaps), "at most every cap * 10"


async def test_s11_freed_room_counts_as_a_success(log, tmp_path: Path) -> None:
    """G2: it ends BACKOFF of the disk at once."""
    full = Disk()
    policy = RetryPolicy(mode="wait", cap=360.0)
    async with open_engine(policy=policy, events=log.hub, spool_dir=tmp_path) as engine:
        other, file = await engine.spool.new(1), await engine.spool.new(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(file.write_again, full.error(), full.write)
            await anyio.sleep(10)
            assert engine.spool.disk.gate.state is State.BACKOFF
            full.make_room()
            await other.discard()

    assert anyio.current_time() < 11
    assert [event.state for event in log.of(GateChanged)] == ["BACKOFF", "RUNNING"]


async def test_s11_freed_room_never_ends_a_wait_for_the_operator(tmp_path: Path) -> None:
    """G2."""
    full = Disk()
    async with open_engine(policy=HOLD, spool_dir=tmp_path) as engine:
        other, file = await engine.spool.new(1), await engine.spool.new(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(file.write_again, full.error(), full.write)
            await anyio.sleep(10)
            full.make_room()
            await other.discard()
            await anyio.sleep(10)
            assert engine.spool.disk.gate.state is State.WAITING
            engine.resume()


@pytest.mark.parametrize("mode", ["fail", "wait", "intervention"])
async def test_s11_while_volumes_are_about_to_leave_nobody_is_bothered(far, log, spooled, tmp_path: Path, mode) -> None:
    full = Disk()
    async with open_engine(policy=RetryPolicy(mode=mode), events=log.hub, spool_dir=tmp_path) as engine:
        op = await engine.submit(engine.lane(far(60.0)), "put", "a", await spooled(engine, b"x"), on_stored=lambda info: make_room(full))
        file = await engine.spool.new(1)
        await file.write_again(full.error(), full.write)
        await op.result()

    assert len(full.asked) == 1 and not log.of(EpisodeOpened) and anyio.current_time() < 61
    assert sum(event.what == "spool" for event in log.of(Blocked)) == sum(event.what == "spool" for event in log.of(Unblocked)) == 1


async def make_room(full: Disk) -> None:
    full.make_room()


@pytest.mark.parametrize("code", REFUSALS)
async def test_s11_mode_fail_raises_the_error_of_the_disk(tmp_path: Path, code: int) -> None:
    full = Disk(code)
    async with open_engine(spool_dir=tmp_path) as engine:
        file = await engine.spool.new(1)
        with pytest.raises(OSError) as caught:
            await file.write_again(full.error(), full.write)

    assert caught.value.errno == code
    assert ("reports a fault" if code == errno.EIO else "make room") in caught.value.__notes__[0]


async def test_s11_other_errors_of_the_disk_are_not_waited_out(tmp_path: Path) -> None:
    full = Disk(errno.EBADF)
    async with open_engine(policy=HOLD, spool_dir=tmp_path) as engine:
        file = await engine.spool.new(1)
        with pytest.raises(OSError, match="Bad file"):
            await file.write_again(full.error(), full.write)

    assert full.asked == []


async def test_g8_the_time_limit_holds_for_the_disk_too(tmp_path: Path) -> None:
    full = Disk()
    async with open_engine(policy=HOLD, intervention=Intervention(timeout=50), spool_dir=tmp_path) as engine:
        file = await engine.spool.new(1)
        with pytest.raises(InterruptedByOperator):
            await file.write_again(full.error(), full.write)

    assert 50 <= anyio.current_time() <= 52


@pytest.mark.parametrize("ranged", [True, False])
async def test_s11_a_fetch_waits_for_room_without_a_slot_and_goes_on(
    far: Callable[..., object], log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranged: bool
) -> None:
    """S2: the only slot at the target is free meanwhile. What was written whole is not fetched again where ranges can be."""
    backend = far()
    data = bytes(range(256)) * 1000
    left = [100_000]

    class Full(download.FileIO):  # type: ignore[misc, name-defined]
        def write(self, chunk: bytes, /) -> int:
            view = memoryview(chunk)[: left[0]]
            if chunk and not view:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= len(view)
            return super().write(view)

    monkeypatch.setattr(download, "FileIO", Full)
    monkeypatch.setattr(download, "WRITE", 30_000)
    async with open_engine(concurrency=1, policy=HOLD, events=log.hub, spool_dir=tmp_path) as engine:
        lane = engine.lane(backend)
        await engine.run(lane, "put", "a", BytesBody(data))
        digests = {"sha1": hashlib.sha1(data).hexdigest()} if ranged else {}
        read: list[bytes] = []

        async def consume() -> None:
            async with engine.read_ordered(lane, [ReadRequest("a", size=len(data), digests=digests)]) as items:
                async for item in items:
                    read.append(item.path.read_bytes())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await anyio.sleep(20)
            assert not read and engine.spool.disk.gate.state is State.WAITING
            assert lane.gate.running == 0 and lane.gate.state is State.RUNNING
            left[0] = 10**6
            engine.resume()

    assert read == [data] and len(log.of(EpisodeOpened)) == 1


def test_s11_the_file_system_is_named_by_where_it_is_mounted(tmp_path: Path) -> None:
    found = mount_point(tmp_path)

    assert found.stat().st_dev == tmp_path.stat().st_dev and (found == Path("/") or os.path.ismount(found))
    with suppress(FileNotFoundError):
        assert mount_point(Path("/dev/shm")) == Path("/dev/shm") or not os.path.ismount("/dev/shm")


async def test_g9_a_wait_for_the_disk_is_cancelled_at_once(log, tmp_path: Path) -> None:
    full, flag = Disk(), tmp_path / "flag"
    with anyio.move_on_after(100) as scope:
        async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), events=log.hub, spool_dir=tmp_path) as engine:
            file = await engine.spool.new(1)
            await file.write_again(full.error(), full.write)

    assert scope.cancelled_caught and anyio.current_time() == 100
    assert list(tmp_path.iterdir()) == [] and len(log.of(EpisodeClosed)) == 1


async def test_r1_abort_by_flag_ends_a_wait_for_the_disk(tmp_path: Path) -> None:
    full, flag = Disk(), tmp_path / "flag"
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), spool_dir=tmp_path) as engine:
        file = await engine.spool.new(1)

        async def operator() -> None:
            await anyio.sleep(10)
            flag.write_text("abort")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(operator)
            with pytest.raises(InterruptedByOperator) as caught:
                await file.write_again(full.error(), full.write)

    assert caught.value.exit_code == 61 and not flag.exists()
