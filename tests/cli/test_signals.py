"""X4 with real signals to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.realtime]

PROGRAM = """
import sys, time
import anyio
from asyncdup.cli.dispatch import Route
from asyncdup.cli.main import main

class Steered:
    def drain(self): print("drain", flush=True)
    def resume(self, by): print("resume", flush=True)

async def run(*, events, control):
    print("ready", flush=True)
    if "stuck" in sys.argv:
        time.sleep(600)
    try:
        await anyio.sleep(600)
    finally:
        print("cleaned up", flush=True)

sys.exit(main(["src", "file:///x", "--no-encryption", *sys.argv[2:]],
              routes={"backup": Route(lambda *_: run, lambda *_: 0)}, control=Steered()))
"""


@contextmanager
def program(*words: str, stuck: bool = False) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, "stuck" if stuck else "-", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def send(process: subprocess.Popen[str], number: int, answer: str | None = None) -> None:
    process.send_signal(number)
    if answer is not None:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{answer}\n"


def test_two_ctrl_c_cancel_with_clean_up_and_130() -> None:
    with program() as process:
        send(process, signal.SIGINT, "drain")
        send(process, signal.SIGINT, "cleaned up")
        assert process.stdout is not None and process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()  # communicate would miss what came together with the last line
        process.wait(60)

    assert process.returncode == 130
    assert "the same command goes on" in out
    assert err == "stopping: running transfers have 10 s to end; Ctrl-C again stops now\n"


def test_grace_ends_the_drain() -> None:
    with program("--grace=0.2") as process:
        send(process, signal.SIGINT, "drain")
        process.communicate(timeout=60)

    assert process.returncode == 130


def test_three_ctrl_c_end_a_process_whose_loop_is_stuck() -> None:
    with program(stuck=True) as process:
        while process.poll() is None:  # more than three where the kernel merges two into one
            send(process, signal.SIGINT)
            time.sleep(0.05)
        out, _ = process.communicate()

    assert process.returncode == 130
    assert "cleaned up" not in out


def test_sigterm_cancels_with_clean_up_and_143() -> None:
    with program() as process:
        send(process, signal.SIGTERM, "cleaned up")
        process.communicate(timeout=60)

    assert process.returncode == 143


def test_usr1_resumes_and_usr2_tells_on_standard_error() -> None:
    with program() as process:
        send(process, signal.SIGUSR1, "resume")
        send(process, signal.SIGUSR2)
        assert process.stderr is not None
        assert process.stderr.readline() == "asyncdup: starting\n"
        send(process, signal.SIGTERM, "cleaned up")
        process.communicate(timeout=60)
