"""``asyncdup job ORDER ...`` -> what is asked of a running job. Pure, and apart from the other commands: none of their options apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncdup.cli.parser import is_url
from asyncdup.errors import UsageError
from asyncdup.timetable import parse_timetable

ORDERS = ("status", "events", "pause", "resume", "drain", "abort", "set-concurrency", "set-rate")
OPTIONS = ("job", "json", "now")
_RATES = {"up": "upload", "down": "download", "requests": "requests"}
_USAGE = f"asyncdup job ORDER [--job ID] [--json], where ORDER is one of {', '.join(ORDERS)}; asyncdup help job"


@dataclass(frozen=True, slots=True)
class Order:
    """``content``: of the line that is sent, besides its version; ``job``: the id, "" for the only one; ``json``: the answer as it came."""

    content: dict[str, Any]
    job: str = ""
    json: bool = False


def parse_order(words: Sequence[str]) -> Order | None:
    """The order that a command line gives; None if it is about something else (a folder called ``job``).

    Raises:
        UsageError: no such order.
    """
    if not words or words[0] not in ("job", "resume") or any(map(is_url, words)) or {"-h", "--help"} & set(words):
        return None
    rest, job, as_json = _options(words[1:] if words[0] == "job" else words)
    if not rest or rest[0] not in ORDERS:
        raise UsageError(f"{rest[0]!r} is no order to a job" if rest else "what of the job?", hint=_USAGE)
    return Order({"cmd": rest[0], **_arguments(rest[0], rest[1:])}, job, as_json)


def _options(words: Sequence[str]) -> tuple[list[str], str, bool]:
    rest: list[str] = []
    job, as_json = "", False
    waiting = iter(words)
    for word in waiting:
        if word == "--json":
            as_json = True
        elif word == "--job" or word.startswith("--job="):
            job = word[6:] if "=" in word else next(waiting, "")
            if not job:
                raise UsageError("--job wants a value: ID", hint=_USAGE)
        elif word.startswith("-") and (word != "--now" or rest != ["pause"]):
            raise UsageError(f"unknown option {word}", hint=_USAGE)
        else:
            rest.append(word)
    return rest, job, as_json


def _arguments(order: str, words: list[str]) -> dict[str, Any]:
    if order == "set-concurrency":
        if words == ["auto"]:
            return {"concurrency": "auto"}
        if len(words) != 1 or not words[0].isascii() or not words[0].isdecimal() or int(words[0]) < 1:
            raise UsageError("set-concurrency wants a whole number, 1 or more, or auto")
        return {"concurrency": int(words[0])}
    if order == "set-rate":
        return _rates(words)
    if words == ["--now"]:
        return {"now": True}
    if words:
        raise UsageError(f"{order} takes no argument", hint=_USAGE)
    return {}


def _rates(words: list[str]) -> dict[str, Any]:
    """``RATE`` for both ways, or ``up=RATE``, ``down=RATE``, ``requests=N``; a timetable may be one word or several."""
    texts: dict[str, str] = {}
    current = "both"
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            if name not in _RATES:
                raise UsageError(f"{name!r} has no limit", hint="up=RATE, down=RATE, requests=N")
            current, word = name, value
        texts[current] = f"{texts[current]} {word}" if current in texts else word
    if not texts:
        raise UsageError("set-rate wants a RATE", hint="512k, up=1M down=off, requests=10, or a timetable: 08:00,512k 19:00,off")
    if both := texts.pop("both", ""):
        texts = {"up": both, "down": both} | texts
    return {_RATES[name]: _requests(text) if name == "requests" else parse_timetable(text).text for name, text in texts.items()}


def _requests(text: str) -> float:
    try:
        number = 0.0 if text == "off" else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise UsageError(f"{text!r} is no number of requests a second")
    return number
