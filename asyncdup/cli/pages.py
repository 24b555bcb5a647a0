"""``asyncdup completion SHELL`` and ``asyncdup manual`` -> what they print. Pure; imported only where one of them is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from asyncdup.cli.completion import completion
from asyncdup.cli.manual import manual
from asyncdup.errors import UsageError


def page(words: Sequence[str]) -> str:
    """Raises UsageError for anything but ``completion SHELL`` and ``manual``."""
    if words[0] == "completion":
        if len(words) != 2:
            raise UsageError("completion wants SHELL", hint="asyncdup completion bash, zsh or fish")
        return completion(words[1])
    if len(words) != 1:
        raise UsageError("manual takes no argument", hint="asyncdup manual | man -l -")
    return manual()
