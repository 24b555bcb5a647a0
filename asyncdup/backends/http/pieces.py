"""A Body in small pieces for a client library that takes them in a task of its own: the Body stays in a task of ours, with its errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from asyncdup.backends.base import Body
from asyncdup.errors import IntegrityError

PIECE = 256 << 10  # bytes handed over before the transport has drained: what one transfer holds (dependencies: 51 instead of 211 MB)


class Pieces:
    """What the library takes the pieces from. ``taken``: bytes so far."""

    def __init__(self, receive: MemoryObjectReceiveStream[bytes]) -> None:
        self.taken = 0
        self._receive = receive

    @property
    def begun(self) -> bool:
        """Whether the server may have some of it."""
        return self.taken > 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self.begun:  # a library may repeat a request by itself if a kept connection was closed; a body must be opened again for that
            raise ConnectionResetError("the server has closed the connection")
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._receive.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        self.taken += len(piece)
        return piece


async def pump(body: Body, lead: bytes, tail: bytes, send: MemoryObjectSendStream[bytes]) -> None:
    """Send ``lead``, the body and ``tail``. Raises IntegrityError if the body gives fewer or more bytes than its size, before the ``tail``."""
    left = body.size
    if lead:
        await send.send(lead)
    async with body.open() as chunks:
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            for at in range(0, len(chunk), PIECE):
                await send.send(chunk[at : at + PIECE])
    if left:
        raise IntegrityError(f"the body is {'longer' if left < 0 else f'{left} bytes shorter'} than its size of {body.size} bytes")
    if tail:
        await send.send(tail)
    send.close()  # only now: a stream that ends looks like a whole body


async def nothing() -> AsyncGenerator[bytes, None]:
    """The chunks of no bytes."""
    return
    yield b""
