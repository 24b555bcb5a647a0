"""The form of ``--json``, the same for every command (docs/json.md): lines of JSON, of which the last is the record of the run. Pure."""

from __future__ import annotations

import json
import time
from binascii import b2a_base64
from typing import Any

from asyncdup.units import LATEST

VERSION = 1
_EARLIEST = -62135596800  # 0001-01-01T00:00:00Z


def item_line(content: dict[str, Any]) -> str:
    """One thing of many, told as soon as it is found. ASCII, and no lone surrogate: many parsers refuse the whole line for one."""
    text = json.dumps(content)
    return json.dumps(_unicode(content)) if "\\udc" in text else text


def record_line(command: str, content: dict[str, Any]) -> str:
    """The last line, or the only one: what tells that the output is whole."""
    return item_line({"v": VERSION, "command": command, **content})


def named(field: str, name: bytes) -> dict[str, str]:
    """A name as text. One that is no UTF-8 comes with its bytes, too: ``path`` with U+FFFD in it, and ``path_base64``."""
    try:
        return {field: name.decode()}
    except UnicodeDecodeError:
        return {field: name.decode(errors="replace"), f"{field}_base64": b2a_base64(name, newline=False).decode()}


def path_named(path: bytes) -> dict[str, str]:
    """A path of an archive; ``.`` for its root."""
    return named("path", path or b".")


def iso_time(t: float) -> str | None:
    """``2023-11-14T22:13:20Z``; None outside the years 1 to 9999, since an archive may hold any number."""
    if not _EARLIEST <= t <= LATEST:
        return None
    year, month, day, hour, minute, second = time.gmtime(int(t))[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"


def _unicode(value: Any) -> Any:
    """The same with U+FFFD for bytes that were no UTF-8 (PEP 383)."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {name: _unicode(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unicode(each) for each in value]
    return value
