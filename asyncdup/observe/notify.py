"""``STATUS=`` lines for a service manager (engine rule N4): what ``systemctl status`` shows of a run that waits."""

from __future__ import annotations

import socket
from contextlib import suppress

from asyncdup.events import EpisodeClosed, EpisodeContinues, EpisodeOpened, Event, JobFinished, JobStarted

MOST = 512  # characters of a line


class Notify:
    """A subscriber for ``EventHub.on_event``. ``address``: the value of NOTIFY_SOCKET, a path or ``@name``. Never blocks, never raises."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._waiting: dict[str, str] = {}  # by lane

    def __call__(self, event: Event) -> None:
        """Tell of what a person who looks at the service should know."""
        match event:
            case JobStarted():
                self._send(event.action)
            case JobFinished():
                self._send(f"{event.action}: {event.error or 'done'}")
            case EpisodeOpened() | EpisodeContinues():
                hint = f" ({event.hint})" if event.hint else ""
                way = f"; to go on: {event.resume[0]}" if event.resume else ""
                self._waiting[event.lane] = f"waiting for the operator: {event.error}{hint}{way}"
                self._send(self._waiting[event.lane])
            case EpisodeClosed():
                self._waiting.pop(event.lane, None)
                self._send(next(iter(self._waiting.values()), "running"))

    def _send(self, status: str) -> None:
        line = "STATUS=" + " ".join(status.split())[:MOST]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as to:
            to.sendto(line.encode("utf-8", "backslashreplace"), self._address)
