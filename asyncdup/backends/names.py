"""What may be the name of an object, the same for every backend, and how unfinished objects are called. Knows no duplicity names."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Collection

from asyncdup.errors import BadRequest

# Begins no name that stock duplicity 3.2.1 recognises: it matches at the start (format specification, section 2.1), and takes
# "NAME.tmp" for NAME, so a suffix would be read as a volume.
TEMP_PREFIX = ".asyncdup-"

_PROCESS = secrets.token_hex(6)
_counter = itertools.count()


def check_name(name: str, *, max_name: int | None = None) -> str:
    """``name``, if it can name an object: one path component, whatever the backend makes of it (P16).

    Args:
        max_name: longest name in bytes; None = no limit.

    Raises:
        BadRequest: empty, ``.``, ``..``, with ``/`` or NUL, too long, or text that no bytes stand for.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise BadRequest(f"{name!r} cannot be the name of an object")
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError as exc:
        raise BadRequest(f"{name!r} cannot be the name of an object: it stands for no bytes") from exc
    if max_name is not None and size > max_name:
        raise BadRequest(f"{name!r} is {size} bytes long; the longest name here is {max_name}")
    return name


def writer() -> str:
    """This process, unlike any other on any machine."""
    return f"{os.getpid():x}.{_PROCESS}"


def temp_name() -> str:
    """A name for an object in the making that no other process, call or earlier attempt uses."""
    return f"{TEMP_PREFIX}{writer()}-{next(_counter):x}"


def is_temp_name_of(name: str, writers: Collection[str]) -> bool:
    """Whether ``temp_name`` made it in one of ``writers``. If these are dead it is of no use to anybody; that of another may be a live one's."""
    made_by, dash, _ = name.removeprefix(TEMP_PREFIX).partition("-")
    return name.startswith(TEMP_PREFIX) and bool(dash) and made_by in writers
