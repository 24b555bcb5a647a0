"""What the kernel is told about a connection's socket. Nothing here ever fails a run: an option that is not there is left out."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

_NOTSENT_LOWAT = 128 << 10  # bytes (performance, section 10.4): what waits in the kernel cannot go over another connection any more


def tune(sock: Any, timeout: float, *, congestion: str | None = None) -> None:
    """T4: a peer that is gone is noticed after ``timeout`` seconds. Through a proxy or a jump host there is no socket of ours to tune.

    Args:
        sock: what asyncssh hands out; None: there is none.
        congestion: the control to use; unprivileged users may choose among ``net.ipv4.tcp_allowed_congestion_control``.
    """
    if sock is None:
        return
    wanted = {
        "TCP_USER_TIMEOUT": round(timeout * 1000),
        "TCP_KEEPIDLE": 15,
        "TCP_KEEPINTVL": 15,
        "TCP_KEEPCNT": 4,
        "TCP_NOTSENT_LOWAT": _NOTSENT_LOWAT,
        "TCP_CONGESTION": congestion.encode() if congestion else None,
    }
    for name, value in wanted.items():
        if value is not None and hasattr(socket, name):
            with contextlib.suppress(OSError):  # not a TCP socket after all, or a kernel that does not know it or allow it
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
