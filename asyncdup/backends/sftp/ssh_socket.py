"""What the kernel is told about the socket of an SSH connection."""

from __future__ import annotations

from typing import Any

from asyncdup.backends.tcp import against_silence, pace, set_congestion, set_options

_NOTSENT_LOWAT = 128 << 10  # bytes (performance, section 10.4): what waits in the kernel cannot go over another connection any more


def tune(sock: Any, timeout: float, *, congestion: str | None = None) -> None:
    """T4: a peer that is gone is noticed after ``timeout`` seconds. Through a proxy or a jump host there is no socket of ours to tune.

    Args:
        sock: what asyncssh hands out; None: there is none.
        congestion: the control to use; None = the host's.
    """
    if sock is None:
        return
    pace(
        sock
    )  # else the packets of a round trip leave in bursts, which the queue of a far link drops (16 x 8 MiB, 200 ms: 10.8 s, not 10.2)
    set_options(sock, against_silence(timeout))
    set_options(sock, {"TCP_NOTSENT_LOWAT": _NOTSENT_LOWAT})
    set_congestion(sock, congestion)


def acknowledge_at_once(sock: Any) -> None:
    """Until the next is sent: sshd holds a small packet back until the last one is acknowledged, for which the kernel takes 40 ms.

    Args:
        sock: as of ``tune``.
    """
    if sock is not None:
        set_options(sock, {"TCP_QUICKACK": 1})
