"""Text of an option's value -> the value. Each raises ValueError with what it wants ("a whole number"), or UsageError. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Literal

from asyncdup import units
from asyncdup.timetable import parse_timetable


def whole(least: int, unit: str = "", *, most: int | None = None) -> Callable[[str], int]:
    wanted = f"a whole number{f' of {unit}' if unit else ''}, {least}{f' to {most}' if most is not None else ' or more'}"

    def convert(text: str) -> int:
        if not text.strip().isascii() or not text.strip().removeprefix("-").isdigit():
            raise ValueError(wanted)
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError(wanted)
        return number

    return convert


def transfers(text: str) -> int | Literal["auto"]:
    if text.strip() == "auto":
        return "auto"
    try:
        return whole(0)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def mebibytes(text: str) -> int:
    return whole(1, "MiB")(text) << 20


def blocksize(text: str) -> int:
    return -(-whole(0, "bytes")(text) // 512) * 512  # observed: duplicity 3.2.1 rounds up to 512 bytes; 0 means no limit


def size_above_zero(text: str) -> int:
    size = units.parse_size(text)
    if not size:
        raise ValueError("a size above zero")
    return size


def point_in_time(text: str) -> str:
    """Only looked at: what an interval means depends on the time of the run."""
    units.parse_time(text, units.LATEST // 2)
    return text


def positive(text: str) -> float:
    seconds = units.parse_duration(text)
    if not seconds:
        raise ValueError("a duration above zero")
    return seconds


def words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("options quoted as in a shell") from error


def command_words(text: str) -> tuple[str, ...]:
    command = words(text)
    if not command:
        raise ValueError("a command")
    return command


def timetable(text: str) -> str:
    """Only looked at: what a timetable means depends on the time of the day."""
    parse_timetable(text)
    return text


def per_second(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise ValueError("a number above zero")
    return number


def percent(text: str) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number <= 100:
        raise ValueError("a percentage above 0, to 100: 5%")
    return number


def digits(text: str) -> str:
    """Only looked at: settings of backends are handed on as text."""
    whole(1)(text)
    return text


def not_empty(text: str) -> str:
    if not text:
        raise ValueError("something that is not empty")
    return text


def colon(text: str) -> str:
    """Old versions could be told another separator for the times in names; archives with such names are not read."""
    if text != ":":
        raise ValueError("':', the only separator that asyncdup reads in times")
    return text


class one_of:
    """One of a few words. A class for the sake of ``choices``, which completion in shells offers; named like the functions beside it."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(f"one of {', '.join(self.choices)}")
        return text


# Observed: duplicity 3.2.1 takes a digit, the first letter or the word, in any case.
_LEVELS = {"error": 0, "warning": 2, "notice": 3, "info": 5, "debug": 9}


def verbosity(text: str) -> int:
    if len(text) == 1 and text in "0123456789":
        return int(text)
    for word, level in _LEVELS.items():
        if text.lower() in (word, word[0]):
            return level
    raise ValueError(f"0 to 9 or one of {', '.join(_LEVELS)}")
