"""One SFTP session on one SSH connection: requests go out as they come, answers come back in any order.

Written over asyncssh's public session instead of its SFTP client: no task per block, the first request travels with the one for the subsystem,
and the answers to many READs find a window that is large enough far away (performance, section 10.3 and 10.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeAlias

import anyio
import asyncssh

from asyncdup.backends.sftp import packets as wire

RECEIVE_WINDOW = 16 << 20  # bytes that the server may send unasked for more; what is asked for is bounded by who asks

_STATUS: Mapping[int, Callable[[str], asyncssh.SFTPError]] = {
    1: asyncssh.SFTPEOFError,
    2: asyncssh.SFTPNoSuchFile,
    3: asyncssh.SFTPPermissionDenied,
    4: asyncssh.SFTPFailure,
    5: asyncssh.SFTPBadMessage,
    6: asyncssh.SFTPNoConnection,
    7: asyncssh.SFTPConnectionLost,
    8: asyncssh.SFTPOpUnsupported,
    # Of later versions, but some servers send them whatever was agreed.
    10: asyncssh.SFTPNoSuchPath,
    11: asyncssh.SFTPFileAlreadyExists,
    12: asyncssh.SFTPWriteProtect,
    14: asyncssh.SFTPNoSpaceOnFilesystem,
    15: asyncssh.SFTPQuotaExceeded,
}

Then: TypeAlias = Callable[["Answer"], None]


class Answer:
    """What came back for one request. ``error``: a status that is not "OK", or the end of the session; else ``kind`` and ``fields``."""

    __slots__ = ("_arrived", "_body", "_then", "error", "kind")

    def __init__(self, then: Then | None) -> None:
        self.kind = 0
        self.error: Exception | None = None
        self._body = b""
        self._then = then
        self._arrived: anyio.Event | None = None

    @property
    def fields(self) -> wire.Fields:
        """From the first one."""
        return wire.Fields(self._body)

    @property
    def data(self) -> bytes:
        """The bytes of DATA; none at the end of the file, which is no error. Raises ``error``, or Malformed."""
        if isinstance(self.error, asyncssh.SFTPEOFError):
            return b""
        self.expect(wire.DATA)
        return self.fields.text()

    def expect(self, kind: int) -> wire.Fields:
        """The fields of an answer of this kind. Raises ``error``, or Malformed."""
        if self.error is not None:
            raise self.error
        if self.kind != kind:
            raise wire.Malformed(f"an answer of kind {self.kind} instead of {kind}")
        return self.fields

    async def wait(self) -> Answer:
        """Itself, when it has arrived; an error is not raised here."""
        if not self.kind and self.error is None:
            self._arrived = self._arrived or anyio.Event()
            await self._arrived.wait()
        return self

    def when_arrived(self, then: Then) -> None:
        """Call ``then`` with it when it arrives: for somebody who does not wait any more."""
        if self.kind or self.error is not None:
            then(self)
        else:
            self._then = then

    def _arrive(self, kind: int, body: bytes, error: Exception | None) -> None:
        self.kind, self._body, self.error = kind, body, error
        if self._arrived is not None:
            self._arrived.set()
        if self._then is not None:
            self._then(self)


class Session(asyncssh.SSHClientSession[bytes]):
    """The client's end. Requests may be sent before the server has answered the first packet, and are answered a round trip earlier.

    Args:
        patience: seconds that the server may take for that; then the session ends.

    Attributes:
        version: the answer to the first packet.
        extensions: name and data of each that the server has told of with it.
    """

    def __init__(self, patience: float) -> None:
        self.version = Answer(None)
        self.extensions: dict[bytes, bytes] = {}
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._splitter = wire.Splitter()
        self._answers: dict[int, Answer] = {}
        self._number = 0
        self._ended: asyncssh.Error | None = None
        self._patience = patience
        self._limit: asyncio.TimerHandle | None = None  # of it, until the server has answered the first packet

    def send(self, kind: int, *parts: bytes, then: Then | None = None) -> Answer:
        """Send a request now. ``then`` is called, not from within this call, when the answer is there; it must not raise.

        Raises:
            asyncssh.Error: the session has ended, and why.
        """
        if self._ended is not None or self._channel is None:
            raise self._ended or asyncssh.SFTPConnectionLost("not connected")
        self._number = (self._number + 1) & 0xFFFFFFFF
        answer = self._answers[self._number] = Answer(then)
        try:
            self._channel.write(wire.request(kind, self._number, *parts))
        except OSError as error:
            self._answers.pop(self._number, None)
            raise asyncssh.SFTPConnectionLost(str(error)) from error
        return answer

    async def ask(self, kind: int, *parts: bytes) -> Answer:
        """Send a request and wait for its answer. Raises as ``send``."""
        return await self.send(kind, *parts).wait()

    # What asyncssh calls

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The subsystem is asked for in this turn of the loop, so the first packet goes out behind that in the same flight."""
        self._channel = chan
        asyncio.get_running_loop().call_soon(self._greet)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Answers, in pieces."""
        if datatype is not None:  # what the server writes for people
            return
        try:
            for kind, body in self._splitter.feed(data):
                self._receive(kind, body)
        except wire.Malformed as error:
            self._break_off(asyncssh.SFTPBadMessage(str(error)))

    def eof_received(self) -> bool:
        """The server's program has ended."""
        self._end(asyncssh.SFTPConnectionLost("the server has ended the session"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing will be answered any more."""
        self._end(exc or asyncssh.SFTPConnectionLost("the connection was closed"))

    def _greet(self) -> None:
        if self._channel is not None and self._ended is None:
            self._limit = asyncio.get_running_loop().call_later(
                self._patience, self._break_off, asyncssh.SFTPConnectionLost("no answer in time")
            )
            try:
                self._channel.write(wire.hello())
            except OSError as error:
                self._end(error)

    def _break_off(self, error: asyncssh.Error) -> None:
        self._end(error)
        if self._channel is not None:
            self._channel.abort()

    def _decided(self) -> None:
        if self._limit is not None:
            self._limit.cancel()

    def _receive(self, kind: int, body: bytes) -> None:
        fields = wire.Fields(body)
        if kind == wire.VERSION and not self.version.kind:
            self._decided()
            self._learn(fields)
            self.version._arrive(kind, body, None)
            return
        answer = self._answers.pop(fields.number(), None)
        if answer is None:
            raise wire.Malformed("an answer that nobody asked for")
        answer._arrive(kind, body[4:], _status_error(fields) if kind == wire.STATUS else None)

    def _learn(self, fields: wire.Fields) -> None:
        if fields.number() != 3:
            raise wire.Malformed("a version that was not asked for")
        while fields.more:
            name = fields.text()
            self.extensions[name] = fields.text()

    def _end(self, error: Exception) -> None:
        if self._ended is not None:
            return
        self._decided()
        self._ended = lost = error if isinstance(error, asyncssh.Error) else asyncssh.SFTPConnectionLost(str(error))
        answers, self._answers = list(self._answers.values()), {}
        for answer in (self.version, *answers):
            if not answer.kind:
                answer._arrive(0, b"", lost)


def _status_error(fields: wire.Fields) -> Exception | None:
    code = fields.number()
    if code == wire.OK:
        return None
    reason = fields.text().decode("utf-8", "replace") if fields.more else ""  # some servers give no text
    known = _STATUS.get(code)
    return known(reason) if known is not None else asyncssh.SFTPError(code, reason)
