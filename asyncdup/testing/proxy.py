"""A TCP proxy that loses answers after the server has acted (M1): for any protocol, also an encrypted one, since it looks at no byte."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream

_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


@asynccontextmanager
async def losing_proxy(port: int, *, lose: Callable[[bytes], bool], host: str = "127.0.0.1") -> AsyncGenerator[int, None]:
    """Listen on a port of 127.0.0.1, which is given, and pass everything on to ``host:port`` and back.

    ``lose`` is asked about each piece that comes from the server, before it is passed on: what the server did for it is done by then. If it says
    yes, the client gets neither the piece nor anything after it: its connection ends.
    """

    async def serve(client: SocketStream) -> None:
        async with client:
            try:
                server = await anyio.connect_tcp(host, port)
            except OSError:
                return
            async with server, anyio.create_task_group() as tasks:
                tasks.start_soon(_pass_on, client, server, None, tasks.cancel_scope)
                tasks.start_soon(_pass_on, server, client, lose, tasks.cancel_scope)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield int(listener.extra(SocketAttribute.local_port))
        tasks.cancel_scope.cancel()


async def _pass_on(source: ByteStream, target: ByteStream, lose: Callable[[bytes], bool] | None, connection: anyio.CancelScope) -> None:
    """Until either end has gone, which ends the other direction, too."""
    try:
        while True:
            piece = await source.receive()
            if lose is not None and lose(piece):
                break
            await target.send(piece)
    except _GONE:
        pass
    connection.cancel()
