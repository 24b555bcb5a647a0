"""What the kernel is told about a TCP connection, and what it tells. Nothing here ever fails a run: an option that is not there is left out."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asyncdup.backends.base import LinkSigns

_SO_MAX_PACING_RATE = 47  # of asm-generic/socket.h; Python has no name for it
_NO_RATE = (1 << 31) - 1  # bytes/s that no connection gets to

# Where struct tcp_info of linux/tcp.h has them: fields keep their places; the last came with Linux 4.6.
_INFO = struct.Struct(
    "=16xI48xI8xI16xI44xI4xI"
)  # segment, round trip, window, segments sent again, least round trip, segments with data sent
_NEVER = 0xFFFFFFFF  # the least round trip of a connection that has measured none
_NAME = 16  # bytes of a congestion control's name, at most (TCP_CA_NAME_MAX of linux/tcp.h)
_SETTINGS = Path("/proc/sys/net/ipv4")

_QUEUE = 0.004  # seconds above the least round trip from which a queue stands, or ...
_QUEUE_PART = 1 / 16  # ... this of the least round trip, if it is more


class Controls(NamedTuple):
    """Congestion controls of this host: those that are loaded, and those that everybody may choose for a connection. Empty: not known."""

    available: tuple[str, ...]
    allowed: tuple[str, ...]


def against_silence(timeout: float) -> Mapping[str, int]:
    """T4: options by which a peer that is gone is noticed after ``timeout`` seconds."""
    return {"TCP_USER_TIMEOUT": round(timeout * 1000), "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def set_options(sock: Any, wanted: Mapping[str, int | bytes]) -> None:
    """Options of TCP by their names in ``socket``. Left out: what this system does not know or allow, or if it is no TCP socket after all."""
    for name, value in wanted.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def set_congestion(sock: Any, control: str | None) -> None:
    """Use ``control``; None = the host's. Unprivileged users may choose among ``net.ipv4.tcp_allowed_congestion_control``."""
    if control:
        set_options(sock, {"TCP_CONGESTION": control.encode()})


def pace(sock: Any) -> None:
    """Let the kernel send a window evenly over the round trip instead of in bursts; its congestion control still says how fast.

    Any rate at all does that, without privileges and without the qdisc fq.
    """
    if sys.platform == "linux":  # which alone gives this number this meaning
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, _NO_RATE)


def read_signs(sock: Any) -> LinkSigns | None:
    """None: there is no TCP socket of ours, it is not connected, or the kernel does not tell."""
    if sock is None or sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        control = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME)
    except OSError:
        return None
    if len(info) < _INFO.size:
        return None
    segment, rtt, window, sent_again, least_rtt, sent = _INFO.unpack(info)
    if least_rtt == _NEVER:
        return None
    return LinkSigns(
        window=segment * window,
        rtt=rtt / 1e6,
        least_rtt=least_rtt / 1e6,
        sent=sent,
        sent_again=sent_again,
        congestion=control.rstrip(b"\0").decode("ascii", "replace"),
    )


def has_queue(signs: Sequence[LinkSigns]) -> bool:
    """Whether a queue stands before a slower piece of the way. ``signs`` are of connections to one place, at least one."""
    return queue_delay(signs) > max(_QUEUE, _QUEUE_PART * min(sign.least_rtt for sign in signs))


def queue_delay(signs: Sequence[LinkSigns]) -> float:
    """Seconds that packets wait now, as most connections see it: a queue delays all, while one may be late to notice that it has gone."""
    delays = sorted(sign.rtt - sign.least_rtt for sign in signs)
    return delays[(len(delays) - 1) // 2]  # ``statistics`` takes 5 ms to import, of each start


def read_controls() -> Controls:
    """Of this host. Blocks for two small reads."""
    return Controls(_words("tcp_available_congestion_control"), _words("tcp_allowed_congestion_control"))


def _words(name: str) -> tuple[str, ...]:
    try:
        return tuple((_SETTINGS / name).read_text(encoding="ascii").split())
    except (OSError, UnicodeError):
        return ()
