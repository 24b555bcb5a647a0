"""TCP connections that are begun before ssh is loaded. Nothing here knows ssh.

Importing asyncssh takes as long as the handshake of TCP and the server's first line take far away: so these come first, and at the same time.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections import deque
from contextlib import suppress

import anyio

from asyncdup.threads import in_thread

_KEPT = 5.0  # seconds until what nobody has asked for is closed: a server bounds how many may wait that have not logged in (MaxStartups)
_PATIENCE = 3.0  # seconds that one who asks waits for a connection that is not up yet: two SYNs may get lost


class EarlyDial:
    """``count`` connections to the first address of ``host``, begun now.

    Whatever goes wrong is not told: who gets no connection dials, and learns it.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        self._shelf = _Shelf()
        threading.Thread(target=_dial, args=(host, port, count, self._shelf), name="asyncdup-early", daemon=True).start()
        weakref.finalize(self, self._shelf.close)  # also at the end of the program, which may have asked for nothing

    async def take(self) -> socket.socket | None:
        """A connection that is up, now the caller's to close. None: there is none any more, or not in time; then all are given up."""
        with anyio.move_on_after(_PATIENCE):
            if not self._shelf.filled.is_set():
                await in_thread(self._shelf.filled.wait, abandon_on_cancel=True)
            if (sock := self._shelf.take()) is not None and await _is_up(sock):
                return sock
        self.close()
        return None

    def close(self) -> None:
        """Close those that nobody has taken, and begin no more. Idempotent."""
        self._shelf.close()


async def _is_up(sock: socket.socket) -> bool:
    try:
        await anyio.wait_writable(sock)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
    except BaseException:
        sock.close()
        raise
    sock.close()
    return False


class _Shelf:
    """Sockets that nobody uses yet, of two threads. Once closed it keeps none any more.

    Attributes:
        filled: there will come no more. closed: it is.
    """

    def __init__(self) -> None:
        self.filled = threading.Event()
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._sockets: deque[socket.socket] = deque()

    def put(self, sock: socket.socket) -> None:
        with self._lock:
            if not self.closed.is_set():
                self._sockets.append(sock)
                return
        sock.close()

    def take(self) -> socket.socket | None:
        with self._lock:
            return self._sockets.popleft() if self._sockets else None

    def close(self) -> None:
        with self._lock:
            self.closed.set()
            sockets, self._sockets = self._sockets, deque()
        self.filled.set()
        for sock in sockets:
            sock.close()


def _dial(host: str, port: int, count: int, shelf: _Shelf) -> None:
    """In a thread of its own, because looking up a name blocks; it lives as long as what nobody has asked for."""
    with suppress(OSError, UnicodeError):
        name = host.encode() if host.isascii() else host  # for text Python imports its tables of all letters, 20 ms
        family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        while not shelf.closed.is_set() and count:
            count -= 1
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            sock.connect_ex(address)  # what comes of it is seen by who takes it
            shelf.put(sock)
    shelf.filled.set()
    shelf.closed.wait(_KEPT)
    shelf.close()
