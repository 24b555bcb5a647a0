"""N1: reminders. N3: the operator's own command. G8 with both."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.errors import InterruptedByOperator
from asyncdup.events import EpisodeContinues, EpisodeOpened, Notice
from asyncdup.testing.faults import Raise, auth_lost
from asyncdup.transfer import Intervention, RetryPolicy, hook, intervention, open_engine
from asyncdup.transfer.intervention import next_reminder

HOLD = RetryPolicy(mode="intervention")
HOUR, DAY = 3600.0, 86400.0


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", program)


def test_n1_reminders_come_after_one_hour_six_hours_and_then_daily() -> None:
    due, instants = 0.0, []
    for _ in range(5):
        due = next_reminder(due)
        instants.append(due)

    assert instants == [HOUR, 6 * HOUR, DAY, 2 * DAY, 3 * DAY]


@pytest.mark.slow
async def test_n1_a_wait_of_a_day_is_told_three_times_more(far, log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over a failed probe: the reminders are the episode's. The looks at the flag are a minute apart here, to be quick."""
    monkeypatch.setattr(intervention, "LOOK_EVERY", 60.0)
    backend = far()
    backend.script("put", Raise(auth_lost), Raise(auth_lost))
    async with open_engine(policy=HOLD, intervention=Intervention(), events=log.hub) as engine:
        lane = engine.lane(backend)
        op = await engine.submit(lane, "put", "a", BytesBody(b"x"))
        await anyio.sleep(2 * HOUR)
        lane.gate.resume()
        await anyio.sleep(23 * HOUR)
        lane.gate.resume()
        await op.result()

    reminders = log.of(EpisodeContinues)
    assert [round(event.waited / HOUR, 2) for event in reminders] == [1, 6, 24]
    (opened,) = log.of(EpisodeOpened)
    for event in reminders:
        assert (event.episode, event.error, event.hint) == (opened.episode, opened.error, opened.hint)
        assert event.resume == opened.resume


def later(seconds: float) -> None:
    """The virtual clock, which runs as fast as the real one while there is a process, is moved on."""
    asyncio.get_running_loop().now += seconds  # type: ignore[attr-defined]


class Told:
    """An engine that waits, with a command."""

    def __init__(self, backend, log, *command: str, **options) -> None:
        self.backend = backend
        self.log = log
        self.operator = Intervention(command=command, job="job1", **options)

    async def run(self, *, until: str) -> None:
        """Wait for a notice with ``until`` in it; then the operator resumes."""
        async with open_engine(policy=HOLD, intervention=self.operator, events=self.log.hub) as engine:
            lane = engine.lane(self.backend)
            op = await engine.submit(lane, "put", "a", BytesBody(b"x"))
            with anyio.fail_after(1000):
                while not any(until in event.message for event in self.log.of(Notice)):
                    await anyio.sleep(0.05)
            lane.gate.resume()
            await op.result()

    def said(self) -> list[str]:
        return [event.message for event in self.log.of(Notice)]


@pytest.mark.slow
async def test_n3_the_command_gets_json_and_variables_and_no_secrets(far, log, tmp_path: Path) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))
    seen = tmp_path / "seen"
    program = f"import os, json, sys; open({str(seen)!r}, 'w').write(json.dumps([json.load(sys.stdin), dict(os.environ)])); print('told')"
    environ = {"PATH": os.environ["PATH"], "PASSPHRASE": "p", "SSH_PASSWORD": "p", "AWS_SECRET_ACCESS_KEY": "p", "MAILTO": "me"}
    case = Told(backend, log, *python(program), environ=environ)

    await case.run(until="told")

    record, variables = json.loads(seen.read_text())
    assert (record["job"], record["episode"], record["pid"]) == ("job1", "memory://#1", os.getpid())
    assert (record["message"], record["hint"]) == ("authentication failed", "renew the credentials")
    assert (variables["ASYNCDUP_MESSAGE"], variables["ASYNCDUP_HINT"]) == (record["message"], record["hint"])
    assert variables["MAILTO"] == "me" and "p" not in variables.values()
    assert f"{sys.executable}: told" in case.said()


@pytest.mark.slow
async def test_n3_no_shell_looks_at_the_words(far, log) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))
    words = tuple(shlex.split("echo '$HOME' '; exit 3' '*'"))

    await Told(backend, log, *words).run(until="echo: $HOME ; exit 3 *")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("/nowhere/at-all",), "No such file"),
        (python("raise SystemExit(7)"), "exit code 7"),
        (
            python("import sys; sys.stdin.close(); sys.stdout.buffer.write(b'\\xff' * 9 + b'x' * 300000); sys.stdout.flush(); 1 / 0"),
            "exit code 1",
        ),
    ],
)
async def test_n3_a_failing_command_is_logged_only(far, log, command: tuple[str, ...], message: str) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost))
    case = Told(backend, log, *command)

    await case.run(until=message)

    assert backend.names("put") == ["a", "a"] and sum(map(len, case.said())) < 2 * hook.MOST_OUTPUT


@pytest.mark.slow
async def test_n3_a_command_that_hangs_is_ended_and_blocks_nothing(far, log) -> None:
    """Its children, too; the operator may resume meanwhile, and the run may end."""
    backend, other = far(), far()
    backend.script("put", Raise(auth_lost))
    operator = Intervention(command=("sh", "-c", "sleep 1000 & sleep 1000"))
    async with open_engine(policy=HOLD, intervention=operator, events=log.hub) as engine:
        lane = engine.lane(backend)
        op = await engine.submit(lane, "put", "a", BytesBody(b"x"))
        await anyio.sleep(0.05)
        await engine.run(engine.lane(other), "put", "b", BytesBody(b"x"))
        lane.gate.resume()
        await op.result()
        assert not log.of(Notice), "the command still runs"
        later(hook.LIMIT)
        with anyio.fail_after(1000):
            while not log.of(Notice):
                await anyio.sleep(0.05)

    assert [event.message for event in log.of(Notice)] == ["--on-intervention sh: ended, as it took longer than 30 s"]


@pytest.mark.slow
async def test_n3_one_run_an_episode_and_none_is_left_at_the_end(far, log, tmp_path: Path) -> None:
    backend = far()
    backend.script("put", Raise(auth_lost), Raise(auth_lost))
    seen = tmp_path / "seen"
    operator = Intervention(command=("sh", "-c", f"echo x >> {seen}; sleep 1000"), timeout=1000)
    with pytest.raises(InterruptedByOperator) as caught:
        async with open_engine(policy=HOLD, intervention=operator, events=log.hub) as engine:
            lane = engine.lane(backend)
            op = await engine.submit(lane, "put", "a", BytesBody(b"x"))
            while not (seen.exists() and seen.read_text()):
                await anyio.sleep(0.01)
            lane.gate.resume()
            while len(backend.names("put", "error")) < 2:
                await anyio.sleep(0.01)
            later(1000)
            await op.result()

    assert seen.read_text() == "x\n", "G7: the probe failed, the episode is the same"
    assert caught.value.exit_code == 61, "G8"
