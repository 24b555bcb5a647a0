"""The operator: flag file, orders, time limit, and what a dead process left behind (N1, N2, R1, R2, G7-G10)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import InterruptedByOperator, UsageError
from asyncdup.events import EpisodeClosed, EpisodeOpened, GateChanged, Notice
from asyncdup.testing.faults import Raise, auth_lost
from asyncdup.transfer import Intervention, RetryPolicy, open_engine
from asyncdup.transfer.gate import State

HOLD = RetryPolicy(mode="intervention", max_attempts=2)


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    return tmp_path / "flags" / "stopped.json"


@pytest.fixture(autouse=True)
def folder(flag: Path) -> None:
    flag.parent.mkdir()


class Case:
    """One put that needs the operator, and what the operator does once the flag is there."""

    def __init__(self, backend, flag: Path, log, **options) -> None:
        self.backend = backend
        self.flag = flag
        self.log = log
        self.options = options
        self.record: dict[str, object] = {}

    async def run(self, operator=None) -> None:
        intervention = Intervention(flag=self.flag, job="job1", now=lambda: 1234.5, **self.options)
        async with open_engine(policy=HOLD, intervention=intervention, events=self.log.hub) as engine:
            lane = engine.lane(self.backend)
            async with anyio.create_task_group() as tasks:
                if operator is not None:
                    tasks.start_soon(self._wait_and, operator, engine, lane)
                await engine.run(lane, "put", "a", BytesBody(b"x"))

    async def _wait_and(self, operator, engine, lane) -> None:
        while not self.flag.exists():
            await anyio.sleep(0.5)
        self.record = json.loads(self.flag.read_text())
        await anyio.sleep(100)
        operator(engine, lane)


def write(text: str):
    return lambda flag, engine, lane: flag.write_text(text)


def touch(flag: Path, engine, lane) -> None:
    os.utime(flag, (5, 5))


ORDERS = {
    "flag removed": lambda flag, engine, lane: flag.unlink(),
    "flag touched": touch,
    "flag: resume": write("resume\n"),
    "api": lambda flag, engine, lane: lane.gate.resume(),
    "signal": lambda flag, engine, lane: engine.resume("signal"),
}


@pytest.mark.parametrize("how", ORDERS)
async def test_r1_every_way_to_resume(far, flag: Path, log, how: str) -> None:
    backend = far(1.0)
    backend.script("put", Raise(auth_lost))
    case = Case(backend, flag, log)

    await case.run(lambda engine, lane: ORDERS[how](flag, engine, lane))

    assert backend.names("put") == ["a", "a"] and not flag.exists()
    (closed,) = log.of(EpisodeClosed)
    assert 100 <= closed.waited <= 105 and closed.by == how
    changes = [(event.state, event.why) for event in log.of(GateChanged)]
    assert [state for state, _ in changes] == ["WAITING", "PROBING", "RUNNING", "STOPPED"], "R2"
    assert changes[1][1] == how


async def test_n2_the_flag_says_what_happened_and_what_to_do(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))
    case = Case(backend, flag, log, signals=True)
    modes: list[int] = []

    def operator(engine, lane) -> None:
        modes.append(flag.stat().st_mode & 0o777)
        engine.resume()

    await case.run(operator)

    record = case.record
    assert modes == [0o600] and list(flag.parent.iterdir()) == []
    assert (record["version"], record["job"], record["pid"], record["host"]) == (1, "job1", os.getpid(), socket.gethostname())
    assert (record["since"], record["backend"], record["class"]) == (1234.5, "memory://", "operator")
    assert record["message"] == "authentication failed" and record["hint"] == "renew the credentials"
    assert record["attempts"] == 1 and record["episode"] == "memory://#1"
    assert f"rm {flag}" in record["resume"] and f"kill -USR1 {os.getpid()}" in record["resume"]


async def test_n1_once_in_once_out_with_the_exact_commands(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost), Raise(auth_lost), Raise(auth_lost))
    case = Case(backend, flag, log)

    def operator(engine, lane) -> None:
        engine.resume()

    async def keep_resuming() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(case.run, operator)
            for _ in range(4):
                await anyio.sleep(200)
                if flag.exists():
                    flag.unlink()

    await keep_resuming()

    (opened,) = log.of(EpisodeOpened)
    assert len(log.of(EpisodeClosed)) == 1
    assert opened.error == "authentication failed" and opened.hint == "renew the credentials"
    assert opened.resume == (f"rm {flag}", f"touch {flag}", f"echo resume > {flag}", f"echo abort > {flag}  # to give up")


async def test_g4_the_flag_is_there_again_when_the_probe_fails(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost), Raise(auth_lost))
    seen: list[bool] = []

    def operator(engine, lane) -> None:
        flag.unlink()

    async def look() -> None:
        await anyio.sleep(110)
        seen.append(flag.exists())
        flag.unlink()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await Case(backend, flag, log).run(operator)

    assert seen == [True] and any("still failing" in event.message for event in log.of(Notice))
    assert len(backend.names("put")) == 3


async def test_r1_abort_by_flag_ends_with_61_and_the_cause(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))

    with pytest.raises(InterruptedByOperator) as caught:
        await Case(backend, flag, log).run(lambda engine, lane: flag.write_text("abort"))

    assert caught.value.exit_code == 61 and str(caught.value.__cause__) == "authentication failed"
    assert not flag.exists() and log.of(EpisodeClosed)[0].by == "flag: abort"


@pytest.mark.slow
async def test_g8_the_time_limit_ends_with_61(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))

    with pytest.raises(InterruptedByOperator):
        await Case(backend, flag, log, timeout=3600).run()

    assert 3600 <= anyio.current_time() <= 3601 and not flag.exists()


async def test_r1_an_empty_file_is_looked_at_again_and_nonsense_is_reported_once(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))

    async def later() -> None:
        await anyio.sleep(150)
        assert not any("known" in event.message for event in log.of(Notice))
        flag.write_text("please go on")
        await anyio.sleep(50)
        flag.write_text("resume")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(later)
        await Case(backend, flag, log).run(lambda engine, lane: flag.write_text(""))

    assert sum("please go on" in event.message for event in log.of(Notice)) == 1


async def test_g9_cancelling_a_wait_removes_the_flag_at_once(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))

    with anyio.move_on_after(500) as scope:
        await Case(backend, flag, log).run()

    assert scope.cancelled_caught and anyio.current_time() == 500
    assert list(flag.parent.iterdir()) == [] and len(log.of(EpisodeClosed)) == 1


async def test_n2_a_flag_that_cannot_be_written_later_changes_nothing_else(far, flag: Path, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))
    intervention = Intervention(flag=flag)
    async with open_engine(policy=HOLD, intervention=intervention, events=log.hub) as engine:
        flag.parent.rmdir()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, engine.lane(backend), "put", "a", BytesBody(b"x"))
            await anyio.sleep(100)
            assert engine.lane(backend).gate.state is State.WAITING
            engine.resume()

    assert any("cannot be written" in event.message for event in log.of(Notice))


def stale(flag: Path, **changes: object) -> None:
    """What a process that is dead left."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as dead:
        pass
    record = {"program": "asyncdup", "pid": dead.pid, "host": socket.gethostname(), "message": "disk full"}
    flag.write_text(json.dumps(record | changes))


async def test_g10_a_stale_flag_is_reported_and_removed_at_the_first_success(far, flag: Path, log) -> None:
    stale(flag)
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), events=log.hub) as engine:
        lane = engine.lane(far(1.0))
        assert any("disk full" in event.message for event in log.of(Notice))
        assert lane.gate.state is State.RUNNING and flag.exists()
        await engine.list(lane)
        assert not flag.exists()


async def test_g10_our_own_number_in_a_stale_flag_means_a_restarted_container(flag: Path, log) -> None:
    stale(flag, pid=os.getpid())
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), events=log.hub):
        pass

    assert flag.exists(), "no success, so the earlier cause is still worth a look"


@pytest.mark.parametrize(
    "content",
    [
        "somebody's notes",
        "[]",
        "{}",
        json.dumps({"program": "asyncdup", "pid": os.getppid(), "host": socket.gethostname()}),
        json.dumps({"program": "asyncdup", "pid": 1, "host": "another"}),
    ],
)
async def test_n2_a_foreign_or_living_flag_is_refused(flag: Path, content: str) -> None:
    flag.write_text(content)

    with pytest.raises(UsageError) as caught:
        async with open_engine(policy=HOLD, intervention=Intervention(flag=flag)):
            pass

    assert caught.value.exit_code == 23 and flag.read_text() == content


async def test_n2_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        async with open_engine(policy=HOLD, intervention=Intervention(flag=tmp_path / "nowhere" / "flag")):
            pass


async def test_n2_a_symlink_is_not_followed(flag: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("x")
    flag.symlink_to(target)

    with pytest.raises(UsageError):
        async with open_engine(policy=HOLD, intervention=Intervention(flag=flag)):
            pass

    assert target.read_text() == "x"


async def test_n2_in_mode_fail_the_flag_is_unused_with_a_notice(flag: Path, log) -> None:
    flag.write_text("somebody's notes")
    async with open_engine(intervention=Intervention(flag=flag), events=log.hub):
        pass

    assert [event.message for event in log.of(Notice)] == [f"the flag {flag} is not used in mode fail"]


async def test_g6_other_lanes_go_on(far, flag: Path, log) -> None:
    bad, good = far(), far(1.0)
    bad.script("put", Raise(auth_lost))
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), events=log.hub) as engine:
        held = await engine.submit(engine.lane(bad), "put", "a", BytesBody(b"x"))
        for number in range(5):
            await engine.run(engine.lane(good), "put", f"{number}", BytesBody(b"x"))
        assert not held.done
        engine.resume()


async def test_two_lanes_that_wait_share_the_flag(far, flag: Path, log) -> None:
    one, two = far(), far()
    for backend in (one, two):
        backend.script("put", Raise(auth_lost))
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag), events=log.hub) as engine:
        for backend in (one, two):
            await engine.submit(engine.lane(backend), "put", "a", BytesBody(b"x"))
        await anyio.sleep(10)
        flag.unlink()

    assert len(one.names("put")) == len(two.names("put")) == 2


@pytest.mark.realtime
async def test_sigusr1_resumes_through_the_loop(far, flag: Path, log) -> None:
    """R1: what the command line installs."""
    import asyncio

    backend = far()
    backend.script("put", Raise(auth_lost))
    async with open_engine(policy=HOLD, intervention=Intervention(flag=flag, signals=True), events=log.hub) as engine:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, engine.resume, "SIGUSR1")
        try:
            op = await engine.submit(engine.lane(backend), "put", "a", BytesBody(b"x"))
            while not flag.exists():
                await anyio.sleep(0.001)
            os.kill(os.getpid(), signal.SIGUSR1)
            await op.result()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    assert log.of(GateChanged)[1].why == "SIGUSR1"
