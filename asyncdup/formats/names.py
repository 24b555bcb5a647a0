"""duplicity's file names <-> records: which set a file belongs to, what it holds, how it is stored. Names only, no content.

Source: format specification, sections 2 and 2.1; what is recognised was compared with duplicity 3.2.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from asyncdup.errors import UsageError
from asyncdup.units import LATEST, format_time, parse_time

__all__ = [
    "NO_PREFIXES",
    "Kind",
    "ParsedName",
    "Prefixes",
    "SetId",
    "cache_name",
    "format_time",
    "jsonstat_name",
    "manifest_name",
    "parse_name",
    "parse_names",
    "signatures_name",
    "volume_name",
]

Kind = Literal["volume", "manifest", "signatures", "jsonstat"]
SetType = Literal["full", "inc"]

MAX_VOLUME = 10_000_000  # a number beyond it is no volume of anybody's
MAX_NAME = 1024  # characters; longer names are nobody's either, and are not worth a regular expression's time

_COMPRESSED = (".z", ".gz")
_ENCRYPTED = (".g", ".gpg", ".p7m")
_CANONICAL = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_BASE36 = re.compile(r"[0-9a-z]{1,8}")  # the year 9999 has 7 digits


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The ``--file-prefix`` options: ``file_prefix`` comes first, then that of the kind."""

    file_prefix: str = ""
    archive: str = ""
    manifest: str = ""
    signature: str = ""
    jsonstat: str = ""

    def of(self, kind: Kind) -> str:
        """What stands before a name of that kind."""
        own = {"volume": self.archive, "manifest": self.manifest, "signatures": self.signature, "jsonstat": self.jsonstat}
        return self.file_prefix + own[kind]


NO_PREFIXES = Prefixes()


@dataclass(frozen=True, slots=True)
class SetId:
    """Which backup set: ``start`` (the end of the set before it; None for a full) and ``end`` in seconds since the epoch."""

    type: SetType
    start: int | None
    end: int

    @property
    def is_full(self) -> bool:
        """Whether the set stands alone."""
        return self.type == "full"

    def __str__(self) -> str:
        """The part of its names that tells it from other sets: ``full.T`` or ``inc.T0.to.T1``."""
        return f"{self.type}.{self._times()}"

    def _times(self) -> str:
        if self.start is None:
            return format_time(self.end)
        return f"{format_time(self.start)}.to.{format_time(self.end)}"


@dataclass(frozen=True, slots=True)
class ParsedName:
    """What a name says.

    Attributes:
        number: of a volume, from 1; None for other kinds.
        suffix: what follows the known part: ``""``, ``".gz"``, ``".gpg"``, or something foreign such as ``".gz.tmp"``.
        partial: a file in the making (``.part``, in short names ``.p``).
        compressed, encrypted: by the end of the name, as stock duplicity looks at it.
        short: one of the old short names.
    """

    name: str
    kind: Kind
    set: SetId
    number: int | None
    suffix: str
    partial: bool
    compressed: bool
    encrypted: bool
    short: bool

    @property
    def is_proper(self) -> bool:
        """Whether a writer could have given this name to a finished file. Stock duplicity takes ``….difftar.gz.tmp`` for a volume, we do not."""
        return not self.partial and self.suffix in ("", *_COMPRESSED, *_ENCRYPTED)


def parse_name(name: str, prefixes: Prefixes, now: int) -> ParsedName | None:
    """What ``name`` (of a file at the target or in the archive folder) means; None if it is not duplicity's.

    ``now``, in seconds since the epoch, is what the rare relative times in names count back from.
    """
    if len(name) > MAX_NAME or name.startswith(".asyncdup-"):
        return None
    for kind, prefix, long, short in _forms(prefixes):
        if not name.startswith(prefix):
            continue
        if match := long.fullmatch(name, len(prefix)):
            return _parsed(name, kind, match, now, short=False)
        if match := short.fullmatch(name, len(prefix)):
            return _parsed(name, kind, match, now, short=True)
    return None


def parse_names(names: Iterable[str], prefixes: Prefixes, now: int) -> list[ParsedName]:
    """Those of ``names`` that are duplicity's, in their order."""
    return [parsed for name in names if (parsed := parse_name(name, prefixes, now)) is not None]


def volume_name(set_id: SetId, number: int, suffix: str = "", prefixes: Prefixes = NO_PREFIXES) -> str:
    """Name of a volume at the target. ``suffix``: ``""``, ``".gz"`` or ``".gpg"``. Raises ValueError for a number below 1."""
    if number < 1:
        raise ValueError(f"volumes are numbered from 1, not {number}")
    return f"{prefixes.of('volume')}duplicity-{set_id}.vol{number}.difftar{suffix}"


def manifest_name(set_id: SetId, suffix: str = "", prefixes: Prefixes = NO_PREFIXES) -> str:
    """Name of a manifest at the target (``suffix``: ``""`` or ``".gpg"``, never ``".gz"``); without suffix, also that in the archive folder."""
    return f"{prefixes.of('manifest')}duplicity-{set_id}.manifest{suffix}"


def signatures_name(set_id: SetId, suffix: str = "", prefixes: Prefixes = NO_PREFIXES) -> str:
    """Name of a signature archive at the target; with ``".gz"``, also that in the archive folder, where it always has gzip."""
    kind = "full-signatures" if set_id.is_full else "new-signatures"
    return f"{prefixes.of('signatures')}duplicity-{kind}.{set_id._times()}.sigtar{suffix}"


def jsonstat_name(set_id: SetId, suffix: str = "", prefixes: Prefixes = NO_PREFIXES) -> str:
    """Name of a statistics file at the target; with ``".gz"``, also that in the archive folder."""
    return f"{prefixes.of('jsonstat')}duplicity-{set_id}.jsonstat{suffix}"


def cache_name(parsed: ParsedName) -> str:
    """How the archive folder calls a local copy of a manifest (plain), a signature archive or a statistics file (gzip).

    Times keep the form of the target's name, short or long: stock duplicity compares the names of both sides without their suffixes.
    """
    bare = parsed.name.removesuffix(parsed.suffix) if parsed.suffix else parsed.name
    return bare if parsed.kind == "manifest" else bare + ".gz"


# What is recognised. A time field never holds a dot, so no expression has two ways to match. "(\..*)?" at the end: stock takes anything
# after a dot, also "….difftar.gz.tmp"; ParsedName.is_proper tells such names apart.

_FULL, _INC = r"(?P<time>[^.]+)", r"(?P<start>[^.]+)\.to\.(?P<end>[^.]+)"
_BOTH = rf"(?:full\.{_FULL}|inc\.{_INC})"
_LONG_END, _SHORT_END = r"(?P<part>\.part)?(?P<suffix>\..*)?", r"(?P<part>\.p)?(?P<suffix>\..*)?"
_SHORT_FULL, _SHORT_INC = r"(?P<time>[0-9a-z]+)", r"(?P<start>[0-9a-z]+)\.(?P<end>[0-9a-z]+)"
_SHORT_BOTH = rf"(?:df\.{_SHORT_FULL}|di\.{_SHORT_INC})"
_NOTHING = r"(?!)"

_LONG: dict[Kind, str] = {
    "volume": rf"duplicity-{_BOTH}\.vol(?P<number>[0-9]+)\.difftar{_LONG_END}",
    "manifest": rf"duplicity-{_BOTH}\.manifest{_LONG_END}",
    "signatures": rf"duplicity-(?:full-signatures\.{_FULL}|new-signatures\.{_INC})\.sigtar{_LONG_END}",
    "jsonstat": rf"duplicity-{_BOTH}\.jsonstat{_LONG_END}",
}
_SHORT: dict[Kind, str] = {
    "volume": rf"{_SHORT_BOTH}\.(?P<number>[0-9a-z]+)\.dt{_SHORT_END}",
    "manifest": rf"{_SHORT_BOTH}\.m{_SHORT_END}",
    "signatures": rf"(?:dfs\.{_SHORT_FULL}|dns\.{_SHORT_INC})\.st{_SHORT_END}",
    "jsonstat": _NOTHING,
}

_Form = tuple[Kind, str, re.Pattern[str], re.Pattern[str]]


@lru_cache(maxsize=64)
def _forms(prefixes: Prefixes) -> tuple[_Form, ...]:
    return tuple((kind, prefixes.of(kind), re.compile(_LONG[kind], re.DOTALL), re.compile(_SHORT[kind], re.DOTALL)) for kind in _LONG)


def _parsed(name: str, kind: Kind, match: re.Match[str], now: int, *, short: bool) -> ParsedName | None:
    fields = match.groupdict()
    set_id = _set_id(fields, now, short)
    number = _number(fields.get("number"), short) if kind == "volume" else None
    if set_id is None or (kind == "volume" and number is None):
        return None
    return ParsedName(
        name=name,
        kind=kind,
        set=set_id,
        number=number,
        suffix=fields["suffix"] or "",
        partial=fields["part"] is not None,
        compressed=name.endswith(_COMPRESSED),
        encrypted=name.endswith(_ENCRYPTED),
        short=short,
    )


def _set_id(fields: dict[str, str | None], now: int, short: bool) -> SetId | None:
    if (only := fields["time"]) is not None:
        end = _time(only, now, short)
        return SetId("full", None, end) if end else None
    start, end = _time(fields["start"] or "", now, short), _time(fields["end"] or "", now, short)
    return SetId("inc", start, end) if start and end else None


def _time(text: str, now: int, short: bool) -> int | None:
    """Seconds since the epoch; None or 0 if it is no time of a set."""
    if short:
        seconds = int(text, 36) if _BASE36.fullmatch(text) else 0
        return seconds if seconds <= LATEST else None
    if _CANONICAL.fullmatch(text):
        return _long_time(text, 0)  # the same whatever the time is now: one place in the cache
    return _long_time(text.upper(), now)


@lru_cache(maxsize=4096)
def _long_time(text: str, now: int) -> int | None:
    if text == "NOW":
        return None
    try:
        return parse_time(text, now)
    except UsageError:
        return None


def _number(text: str | None, short: bool) -> int | None:
    if text is None or len(text) > 20:
        return None
    number = int(text, 36 if short else 10)
    return number if 1 <= number <= MAX_VOLUME else None
