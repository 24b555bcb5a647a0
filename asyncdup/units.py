"""Words of people <-> numbers: sizes (bytes), durations (seconds), rates (bytes/s) and times (seconds since the epoch).

Times are duplicity's time strings (format specification, section 26; checked against duplicity 3.2.1). No clock: ``now`` is handed in.
"""

from __future__ import annotations

import calendar
import datetime
import math
import re
import time

from asyncdup.errors import UsageError

LATEST = 253402300799  # 9999-12-31T23:59:59Z: the last second that the form 20231114T221320Z can say

_BINARY = {unit: 1024**power for power, unit in enumerate(("", "K", "M", "G", "T", "P"))}
_DECIMAL = {unit: 1000**power for power, unit in enumerate(("", "K", "M", "G", "T", "P"))}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "D": 86400, "W": 7 * 86400, "M": 30 * 86400, "Y": 365 * 86400}

_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
_SIZE = re.compile(_NUMBER + r"\s*([kKMmGgTtPp]?)(i?[bB])?", re.ASCII)
_BITS = re.compile(_NUMBER + r"\s*([kKMmGgTtPp]?)(?:bit|bits|bps)(?:/s)?", re.ASCII)
_INTERVAL = re.compile(r"([0-9]{1,12})([smhDWMY])", re.ASCII)
_DAY = re.compile(r"(?:([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})|([0-9]{1,2})[-/]([0-9]{1,2})[-/]([0-9]{4}))", re.ASCII)
_STAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})(Z?)", re.ASCII)
_W3 = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII)

_SIZE_FORMS = "a number of bytes, perhaps with K, M, G, T or P (1024 each; KB, MB ... are 1000 each): 50M, 1.5GiB, 65536"
_DURATION_FORMS = "seconds, or numbers with s, m, h, D, W, M (30 days) or Y (365 days): 90, 0.5, 2h, 3D12h"
_RATE_FORMS = f"{_SIZE_FORMS}, each perhaps followed by /s; or bits per second: 10Mbit/s"
_TIME_FORMS = (
    "now, seconds since 1970, an interval back from now (3D12h), a date (2023-11-14 or 11/14/2023), 20231114T221320Z, "
    "or 2023-11-14T22:13:20+02:00 (local time without a zone)"
)


def parse_size(text: str) -> int:
    """Bytes. ``M`` and ``MiB`` count 1024 each step, as duplicity's do; ``MB`` counts 1000.

    Raises:
        UsageError: naming the text and the accepted forms.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise _bad("size", text, _SIZE_FORMS)
    number, unit, suffix = match.groups()
    units = _DECIMAL if unit and suffix in ("b", "B") else _BINARY
    return _scaled(number, units[unit.upper()])


def parse_duration(text: str) -> float:
    """Seconds. Raises UsageError naming the text and the accepted forms."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text, re.ASCII):
        return float(text)
    seconds = _interval(text)
    if seconds is None:
        raise _bad("duration", text, _DURATION_FORMS)
    return float(seconds)


def parse_rate(text: str) -> float:
    """Bytes per second: ``512k``, ``2M/s``, ``10Mbit/s`` (bits count 1000 each step, as networks are sold). Raises UsageError."""
    bare = text.strip()
    match = _BITS.fullmatch(bare)
    if match is not None:
        return _scaled(match[1], _DECIMAL[match[2].upper()]) / 8
    try:
        return float(parse_size(bare.removesuffix("/s")))
    except UsageError:
        raise _bad("rate", text, _RATE_FORMS) from None


def parse_time(text: str, now: int) -> int:
    """Seconds since the epoch that a duplicity time string means; ``now`` is what intervals count back from.

    Dates and datetimes without a zone are local time. Stricter than stock duplicity, which rolls February 30 over into March.

    Raises:
        UsageError: naming the text and the accepted forms; also for a day that no calendar has, or a time before 1970.
    """
    seconds = _instant(text, now)
    if seconds is None or not 0 <= seconds <= LATEST:
        raise _bad("time", text, _TIME_FORMS)
    return seconds


def format_time(t: int) -> str:
    """``20231114T221320Z``, the form of file names. Raises ValueError outside the years 1970 to 9999."""
    if not 0 <= t <= LATEST:
        raise ValueError(f"{t} is not a time that a file name can say")
    year, month, day, hour, minute, second = time.gmtime(t)[:6]
    return f"{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"


def format_local_time(t: int) -> str:
    """``Tue Nov 14 22:13:20 2023``, local, as duplicity reports times. Raises ValueError outside the years 1970 to 9999."""
    if not 0 <= t <= LATEST:
        raise ValueError(f"{t} is not a time that can be shown")
    return time.asctime(time.localtime(t))


def format_size(size: float) -> str:
    """For people: ``512 B``, ``1.5 KiB``, ``200.0 MiB``."""
    if abs(size) < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if abs(size) < 1023.95:  # not "1024.0 KiB"
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} PiB"


def format_duration(seconds: float) -> str:
    """For people: ``0.4s``, ``12.3s``, ``4m05s``, ``3h07m``, ``2d04h``."""
    if seconds < 59.95:
        return f"{max(seconds, 0.0):.1f}s"
    if math.isinf(seconds):
        return "forever"
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{second:02}s"
    hours, minute = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minute:02}m"
    days, hour = divmod(hours, 24)
    return f"{days}d{hour:02}h"


def counted(count: int, thing: str) -> str:
    """``1 volume``, ``2 volumes``, ``1,000 volumes``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _instant(text: str, now: int) -> int | None:
    if text == "now":
        return now
    if text.isascii() and text.isdecimal():
        return int(text[:20])
    back = _interval(text)
    if back is not None:
        return now - back
    if match := _DAY.fullmatch(text):
        year, month, day = match.group(1, 2, 3) if match[1] else match.group(6, 4, 5)
        return _local((int(year), int(month), int(day), 0, 0, 0))
    if match := _STAMP.fullmatch(text):
        return _utc(_fields(match)) if match[7] else _local(_fields(match))
    if match := _W3.fullmatch(text):
        return _w3(_fields(match), match[7])
    return None


def _fields(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(digits) for digits in match.group(1, 2, 3, 4, 5, 6))


def _w3(fields: tuple[int, ...], zone: str | None) -> int | None:
    if zone is None:
        return _local(fields)
    seconds = _utc(fields)
    if seconds is None or zone == "Z":
        return seconds
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        return None
    ahead = hours * 3600 + minutes * 60
    return seconds - ahead if zone[0] == "+" else seconds + ahead


def _utc(fields: tuple[int, ...]) -> int | None:
    return calendar.timegm(fields) if _exists(fields) else None


def _local(fields: tuple[int, ...]) -> int | None:
    if not _exists(fields):
        return None
    try:
        return int(time.mktime((*fields, 0, 0, -1)))  # type: ignore[arg-type]  # weekday and day of the year are not looked at
    except OverflowError:
        return None


def _exists(fields: tuple[int, ...]) -> bool:
    try:
        datetime.datetime(*fields)  # type: ignore[arg-type]  # only asked whether there is such a day and time
    except ValueError:
        return False
    return True


def _interval(text: str) -> int | None:
    """Seconds of ``3D12h``; None if it is no interval."""
    pairs = _INTERVAL.findall(text)
    if not pairs or "".join(number + unit for number, unit in pairs) != text:
        return None
    return sum(int(number) * _SECONDS[unit] for number, unit in pairs)


def _scaled(number: str, factor: int) -> int:
    return int(number) * factor if "." not in number else int(float(number) * factor)


def _bad(what: str, text: str, forms: str) -> UsageError:
    return UsageError(f"{text!r} is not a {what}", hint=f"accepted: {forms}")
