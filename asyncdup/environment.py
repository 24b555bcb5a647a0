"""What of our environment a program that we start gets to see, if it needs no secret of ours (P15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SECRET: Final = ("PASS", "SECRET", "TOKEN", "CREDENTIAL", "_KEY", "CONNECTION_STRING")  # in names of variables that hold one


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without what is a secret by its name: better one too many than one too few."""
    return {name: value for name, value in environ.items() if not any(word in name.upper() for word in _SECRET)}
