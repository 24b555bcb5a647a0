"""One SFTP session without a server: requests go out before the first answer, and everybody who waits for an answer gets it."""

from __future__ import annotations

import struct
from typing import Any, cast

import anyio
import anyio.lowlevel
import asyncssh
import pytest

from asyncdup.backends.sftp import packets as wire
from asyncdup.backends.sftp.session import Answer, Session

EXTENSION = wire.text(b"fsync@openssh.com") + wire.text(b"1")


class Channel:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


VERSION = packet(wire.VERSION, struct.pack(">I", 3) + EXTENSION)


async def made() -> tuple[Session, Channel]:
    session, channel = Session(20.0), Channel()
    session.connection_made(cast("asyncssh.SSHClientChannel[bytes]", channel))
    await anyio.lowlevel.checkpoint()
    return session, channel


async def test_a_request_goes_out_behind_the_first_packet_and_before_its_answer() -> None:
    session, channel = await made()
    answer = session.send(wire.OPEN, wire.open_file(b"x", wire.FOR_READING))
    assert channel.written[0] == wire.hello()
    assert channel.written[1][4] == wire.OPEN
    assert session.extensions == {}

    session.data_received(VERSION + packet(wire.HANDLE, struct.pack(">I", 1) + wire.text(b"h")), None)

    assert session.extensions == {b"fsync@openssh.com": b"1"}
    assert (await answer.wait()).expect(wire.HANDLE).text() == b"h"


async def test_everybody_who_waits_for_an_answer_gets_it() -> None:
    session, _ = await made()
    got: list[Answer] = []

    async def wait() -> None:
        got.append(await session.version.wait())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        session.data_received(VERSION, None)

    assert got == [session.version, session.version]


@pytest.mark.parametrize(
    "data",
    [
        b"Welcome to this machine!\n",
        packet(wire.VERSION, struct.pack(">I", 6)),
        packet(wire.VERSION, struct.pack(">I", 3) + b"\0"),
        packet(wire.STATUS, struct.pack(">II", 7, 0)),
        VERSION + VERSION,
    ],
)
async def test_what_is_no_sftp_ends_the_session_and_all_that_was_asked(data: bytes) -> None:
    session, channel = await made()
    answer = session.send(wire.STAT, wire.text(b"x"))

    session.data_received(data, None)

    assert isinstance((await answer.wait()).error, asyncssh.SFTPBadMessage)
    assert channel.aborted
    with pytest.raises(asyncssh.SFTPBadMessage):
        session.send(wire.STAT, wire.text(b"x"))


async def test_a_session_that_ends_before_the_first_answer_ends_all_waits() -> None:
    session, _ = await made()
    answer: Any = session.send(wire.STAT, wire.text(b"x"))

    session.eof_received()

    for each in (session.version, answer):
        assert isinstance((await each.wait()).error, asyncssh.SFTPConnectionLost)


async def test_a_server_that_never_answers_the_first_packet_is_given_up_in_time() -> None:
    """T3: of a channel that opens and then says nothing nobody else would tell."""
    began = anyio.current_time()
    session, channel = await made()
    answer = session.send(wire.STAT, wire.text(b"x"))

    assert "in time" in str((await answer.wait()).error)

    assert channel.aborted and anyio.current_time() - began == pytest.approx(20.0)


async def test_one_that_has_answered_it_may_take_its_time_with_the_rest() -> None:
    session, channel = await made()
    session.data_received(VERSION, None)
    answer = session.send(wire.STAT, wire.text(b"x"))

    with anyio.move_on_after(60.0) as scope:
        await answer.wait()

    assert scope.cancelled_caught and not channel.aborted
