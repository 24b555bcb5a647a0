"""A body on its way out over aiohttp, in small pieces: what a request holds in memory, and what happens to a body that is not sent whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct

import aiohttp
import anyio
from aiohttp.abc import AbstractStreamWriter

from asyncdup.backends.base import Body
from asyncdup.backends.http.sockets import tune
from asyncdup.errors import IntegrityError, RetryableError
from asyncdup.threads import in_thread

_PIECE = 256 << 10  # bytes that the transport holds of a body at a time: 16 bodies in flight are 4 MiB
_SETTLE = 2.0  # seconds that a body's reader may take to end after its request has (G9)
_HASHED = 64 << 10  # bytes that are hashed on the loop; more in a thread
_RESET = struct.pack("ii", 1, 0)  # linger for no time at all


class Sender(aiohttp.Payload):
    """A body on its way out, in pieces that the transport has taken before the next one is read.

    aiohttp writes it in a task of its own. ``begun``: bytes may have left; ``complete``: all have; ``error``: what the body itself raised, for
    the caller to raise.

    Args:
        take_md5: of the bytes as they pass.
        congestion: what the connection is to use; None = the host's.
    """

    _autoclose = True

    def __init__(self, body: Body, *, take_md5: bool = False, congestion: str | None = None) -> None:
        super().__init__(body)
        self._md5 = hashlib.md5(usedforsecurity=False) if take_md5 else None
        self._size = body.size
        self._body = body
        self._congestion = congestion
        self._transport: asyncio.Transport | None = None
        self._stopped = False
        self.complete = False
        self._ended = asyncio.Event()
        self.begun = False
        self.error: Exception | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """No text: part of aiohttp's interface that nothing here asks for."""
        raise TypeError("a body is bytes")

    @property
    def md5(self) -> str | None:
        """Of the whole body in hex; None: not taken, or not all of it was sent."""
        return self._md5.hexdigest() if self._md5 and self.complete else None

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send all of it. Raises IntegrityError if it is not as long as it says."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """As ``write``: the length is the body's in any case."""
        self._consumed = self.begun = True
        self._transport = getattr(writer, "transport", None)  # the writer forgets it when the request is cancelled
        tune(self._transport, self._body.size, congestion=self._congestion)
        lost: list[Exception] = []
        try:
            await self._pass_on(writer, lost)
            self.complete = True
        except Exception as exc:
            if not lost:
                self.error = exc
            raise
        finally:
            self._ended.set()
            self.stop()

    def stop(self) -> None:
        """Send nothing more: the request is over, however it went.

        A body that was not sent whole ends in a reset: some servers take the end of a connection for that of the body, and keep it.
        """
        self._stopped = True
        transport, self._transport = self._transport, None
        if transport is None or self.complete:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    async def settle(self) -> None:
        """Wait until nobody reads the body any more."""
        if self.begun:
            with anyio.move_on_after(_SETTLE, shield=True):
                await self._ended.wait()

    async def _pass_on(self, writer: AbstractStreamWriter, lost: list[Exception]) -> None:
        sent = 0
        async with self._body.open() as chunks:
            async for chunk in chunks:
                sent += len(chunk)
                if sent > self._body.size:
                    raise IntegrityError(f"the body gave more than the {self._body.size} bytes that it said")
                if self._md5 is not None:
                    await _hash(self._md5, chunk)
                view = memoryview(chunk)
                for at in range(0, len(chunk), _PIECE):
                    try:
                        await writer.write(view[at : at + _PIECE])
                    except Exception as exc:
                        lost.append(exc)
                        raise
                await asyncio.sleep(0)  # a cancelled request is noticed, even if the transport takes everything at once
                if self._stopped:
                    raise RetryableError("the request is over")
        if sent != self._body.size:
            raise IntegrityError(f"the body gave {sent} bytes and not the {self._body.size} that it said")


async def stopped(sender: Sender | None) -> None:
    """Nothing more is sent, and nobody reads the body any more."""
    if sender is not None:
        sender.stop()
        await sender.settle()


async def _hash(digest: hashlib._Hash, data: bytes) -> None:
    if len(data) > _HASHED:
        await in_thread(digest.update, data)
    else:
        digest.update(data)
