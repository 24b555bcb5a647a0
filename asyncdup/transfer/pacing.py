"""The rate limits of an engine over the day: sets the rates, and the pause of a ``pause`` entry, as the timetables say (engine rule S10)."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from asyncdup.errors import UsageError
from asyncdup.events import Event, Notice
from asyncdup.timetable import Entry, Timetable, parse_timetable
from asyncdup.transfer.rate import Rates
from asyncdup.units import format_size

LOOK_EVERY = 1.0  # seconds between two looks at the wall clock: it may be set, or the machine sleep
PAUSE = "timetable"  # the name of its pause in the gates' sets


class Pacing:
    """Owns the engine's limits. ``pause`` and ``unpause`` are told of windows in which nothing is to start.

    Attributes:
        rates: what attempts wait at.
        upload, download: the timetables; ``requests``: a second, None = no limit.
        paused: whether a ``pause`` entry holds now.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        pause: Callable[[str], None],
        unpause: Callable[[str], None],
        emit: Callable[[Event], None],
    ) -> None:
        self.rates = Rates()
        self.upload = self.download = Timetable()
        self.requests: float | None = None
        self.paused = False
        self._now = now
        self._pause = pause
        self._unpause = unpause
        self._emit = emit
        self._told: dict[str, Entry] = {}
        self._changed = anyio.Event()

    def set(self, *, upload: str | None = None, download: str | None = None, requests: float | None = None) -> None:
        """Change limits; None leaves one as it is, "off" or 0 requests takes it away. Takes effect at once.

        Raises:
            UsageError: a text that is no rate and no timetable, or a negative number; nothing is changed then.
        """
        up = self.upload if upload is None else parse_timetable(upload)
        if requests is not None and requests < 0:
            raise UsageError(f"{requests:g} requests a second cannot be kept to")
        down = self.download if download is None else parse_timetable(download)
        self.upload, self.download = up, down
        if requests is not None:
            self.requests = requests or None
        self.apply()
        self._changed.set()
        self._changed = anyio.Event()

    def apply(self) -> None:
        """Let hold what the timetables say for now."""
        wall = self._now()
        self.rates.up.set_rate(self.upload.rate_at(wall))
        self.rates.down.set_rate(self.download.rate_at(wall))
        self.rates.requests.set_rate(self.requests)
        paused = self.upload.at(wall).pause or self.download.at(wall).pause
        self._tell("upload", self.upload, wall)
        self._tell("download", self.download, wall)
        if paused != self.paused:
            self.paused = paused
            (self._pause if paused else self._unpause)(PAUSE)

    async def keep_time(self) -> None:
        """Apply each entry when its time has come, until cancelled."""
        while True:
            wall = self._now()
            wait = min(self.upload.until_change(wall), self.download.until_change(wall))
            with anyio.move_on_after(min(wait, LOOK_EVERY) if wait < float("inf") else None):
                await self._changed.wait()
            self.apply()

    def _tell(self, what: str, table: Timetable, wall: float) -> None:
        entry = table.at(wall)
        before, self._told[what] = self._told.get(what, Entry(0)), entry
        if (before.rate, before.pause) != (entry.rate, entry.pause):
            rate = "no limit" if entry.rate is None else f"at most {format_size(entry.rate)}/s"
            self._emit(Notice(message=f"{what}: {'pause, as the timetable says' if entry.pause else rate}"))
