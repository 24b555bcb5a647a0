"""``asyncdup run PROFILE ...`` and ``asyncdup init PROFILE ...`` -> what is asked. Pure, and small: every start of the program imports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from asyncdup.cli.parser import is_url
from asyncdup.errors import UsageError


@dataclass(frozen=True, slots=True)
class Invocation:
    """``words``: what follows the profile's name."""

    verb: Literal["run", "init"]
    profile: str
    words: tuple[str, ...] = field(repr=False)  # may hold a URL with a password (P15)


def parse_invocation(words: Sequence[str]) -> Invocation | None:
    """None if the command line is about something else (a folder called ``run``). Raises UsageError if no profile is named."""
    if not words or words[0] not in ("run", "init") or (len(words) > 1 and is_url(words[1])) or {"-h", "--help"} & set(words):
        return None
    verb: Literal["run", "init"] = "run" if words[0] == "run" else "init"
    if len(words) < 2 or not words[1] or words[1].startswith("-"):
        raise UsageError(f"{verb} wants PROFILE", hint=f"asyncdup {verb} PROFILE; asyncdup help {verb}")
    return Invocation(verb, words[1], tuple(words[2:]))
