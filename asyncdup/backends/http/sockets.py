"""Sockets of connections that carry HTTP: how they are made for aiohttp, and what the kernel is told before a body goes out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.tcp import against_silence, pace, read_signs, set_congestion, set_options

_BURST = 1 << 20  # bytes: a smaller body goes in a burst that a queue takes, and would only be half a round trip longer on its way


class SocketFactory:
    """Makes sockets for aiohttp, and knows those that are open.

    Args:
        timeout: seconds after which a peer that is gone is noticed (T4).
        paced: as ``tune`` does for large bodies.
    """

    def __init__(self, timeout: float, *, paced: bool = False) -> None:
        self._options = against_silence(timeout)
        self._paced = paced
        self._made: WeakSet[socket.socket] = WeakSet()

    def __call__(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket for what ``getaddrinfo`` has found."""
        made = socket.socket(*address[:3])
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        set_options(made, self._options)
        if self._paced:
            pace(made)
        self._made.add(made)
        return made

    def signs(self) -> Sequence[LinkSigns]:
        """What is known of the way to the server, by each connection that is open and can tell."""
        return [signs for sock in self._made if (signs := read_signs(sock)) is not None]


def tune(transport: asyncio.BaseTransport | None, size: int, *, congestion: str | None = None) -> None:
    """Prepare a connection for a body of ``size`` bytes.

    Large bodies are paced. Measured (16 × 8 MiB on 8 connections, 200 Mbit/s, 100 ms, a queue of 1 MB, cubic): 6.7 to 7.0 s instead of 8.6 to 10.
    The queue overflows no less; presumably no connection falls behind the others any more, as one does that loses a burst. Small objects
    (500 × 64 KiB, 32 at once) took 3.4 s instead of 3.2. 512 MiB over loopback: as fast, for 1.00 s of processor time instead of 0.91 (medians of
    three).

    Args:
        congestion: the control to use; None = the host's. It is set here and not in the factory, as connecting takes the control that the route
            has (``ip route … congctl``).
    """
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return
    set_congestion(sock, congestion)
    if size >= _BURST:
        pace(sock)
