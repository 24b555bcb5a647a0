"""N4: a service manager is told that a run waits, and why."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncdup.events import EpisodeClosed, EpisodeContinues, EpisodeOpened, JobFinished, JobStarted, Scanned
from asyncdup.observe.notify import Notify


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "a path" else f"@asyncdup-test-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.setblocking(False)
        yield listening, name


def said(listening: socket.socket) -> list[str]:
    lines = []
    try:
        while True:
            lines.append(listening.recv(4096).decode())
    except BlockingIOError:
        return lines


def test_n4_status_lines_tell_the_cause_and_the_remedy(manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    notify = Notify(address)

    for event in (
        JobStarted(action="full"),
        Scanned(files=1, bytes=1),
        EpisodeOpened(lane="a", episode="a#1", error="disk\nfull", hint="make room", resume=("rm flag", "touch flag")),
        EpisodeContinues(lane="a", episode="a#1", error="disk full", waited=3600.0),
        EpisodeClosed(lane="a", episode="a#1", by="api"),
        JobFinished(action="full", error="cannot list on sftp://nas: no answer in time"),
    ):
        notify(event)

    assert said(listening) == [
        "STATUS=full",
        "STATUS=waiting for the operator: disk full (make room); to go on: rm flag",
        "STATUS=waiting for the operator: disk full",
        "STATUS=running",
        "STATUS=full: cannot list on sftp://nas: no answer in time",
    ]


def test_n4_a_second_lane_that_waits_is_shown_when_the_first_goes_on(manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    notify = Notify(address)

    for lane in "ab":
        notify(EpisodeOpened(lane=lane, episode=f"{lane}#1", error=f"{lane} is full"))
    notify(EpisodeClosed(lane="a", episode="a#1", by="api"))

    assert said(listening)[-1] == "STATUS=waiting for the operator: b is full"


def test_n4_nobody_who_listens_is_no_error(tmp_path: Path) -> None:
    Notify(str(tmp_path / "nowhere"))(JobStarted(action="full"))
    Notify("/" + "x" * 300)(JobStarted(action="full"))
