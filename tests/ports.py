"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack, suppress

# Below those that the kernel gives to connections: until the server listens, one of somebody else's could get the port, and one that asks
# whether it does already could meet itself. Each worker of a run has ports of its own.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = range(10_000 + _WORKER % 32, 32_000, 32)


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < number:
            sock, port = stack.enter_context(socket.socket()), random.SystemRandom().choice(_PORTS)
            with suppress(OSError):
                sock.bind(("127.0.0.1", port))
                found.append(port)
    return found


def free_port() -> int:
    (port,) = free_ports(1)
    return port
