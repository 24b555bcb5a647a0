"""A rate limit by the time of the day (engine rule S10). Pure: the clock is handed in."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

from asyncdup.errors import UsageError
from asyncdup.units import parse_rate

DAY = 86400

_ENTRY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9]),(\S+)", re.ASCII)
_FORMS = "a rate (512k, 10Mbit/s), off, or times of the day with a rate, off or pause each: 08:00,512k 12:00,pause 19:00,off"


@dataclass(frozen=True, slots=True)
class Entry:
    """From ``second`` of the day on: ``rate`` in bytes/s (None: no limit), or a pause."""

    second: int
    rate: float | None = None
    pause: bool = False


@dataclass(frozen=True, slots=True)
class Timetable:
    """What holds at which time of the day, local time. ``entries`` are in order of time; the last one holds until the first one's time."""

    entries: tuple[Entry, ...] = (Entry(0),)
    text: str = "off"

    @property
    def is_constant(self) -> bool:
        """Whether the same holds at all times."""
        return len(self.entries) == 1

    def at(self, wall: float) -> Entry:
        """What holds at ``wall`` (seconds since the epoch)."""
        second = _second_of_day(wall)
        return next((entry for entry in reversed(self.entries) if entry.second <= second), self.entries[-1])

    def rate_at(self, wall: float) -> float | None:
        """Bytes/s. In a pause, what was before it: nothing starts then, and what still runs should not run wild."""
        entry = self.at(wall)
        index = self.entries.index(entry)
        back = (self.entries[index - step] for step in range(len(self.entries)))
        return next((entry.rate for entry in back if not entry.pause), None)

    def until_change(self, wall: float) -> float:
        """Seconds to the next entry; infinite if there is only one."""
        if self.is_constant:
            return math.inf
        second = _second_of_day(wall)
        return min((entry.second - second) % DAY or DAY for entry in self.entries)


def parse_timetable(text: str) -> Timetable:
    """``512k``, ``off``, or ``08:00,512k 12:00,pause 19:00,off``: times of the day in any order, each with what holds from then on.

    Raises:
        UsageError: naming the text and the accepted forms.
    """
    words = text.split()
    if len(words) == 1 and "," not in words[0]:
        if words[0] == "pause":
            raise _bad(text)
        return Timetable((_entry(0, words[0], text),), text)
    entries = []
    for word in words:
        match = _ENTRY.fullmatch(word)
        if match is None:
            raise _bad(text)
        entries.append(_entry(int(match[1]) * 3600 + int(match[2]) * 60, match[3], text))
    if not entries or len({entry.second for entry in entries}) < len(entries):
        raise _bad(text)
    return Timetable(tuple(sorted(entries, key=lambda entry: entry.second)), " ".join(words))


def _entry(second: int, word: str, text: str) -> Entry:
    if word == "pause":
        return Entry(second, pause=True)
    if word == "off":
        return Entry(second)
    try:
        rate = parse_rate(word)
    except UsageError:
        raise _bad(text) from None
    if not rate:
        raise _bad(text)
    return Entry(second, rate)


def _second_of_day(wall: float) -> float:
    local = time.localtime(wall)
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + wall % 1


def _bad(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a rate limit", hint=f"accepted: {_FORMS}")
