"""Which Python has duplicity: ours, or that of the program on the path. Nothing is run here, and nothing of duplicity is imported."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from asyncdup.errors import UsageError

INSTALL = "pip install duplicity (or your distribution's package); --duplicity-python names the Python of one that is elsewhere"


def find_python(environ: Mapping[str, str], given: str | None = None) -> str:
    """The interpreter to run duplicity's classes with.

    Args:
        environ: whose ``PATH`` is searched for the program.
        given: the user's choice.

    Raises:
        UsageError: none was found.
    """
    if given:
        return given
    if _is_ours():
        return sys.executable
    program = shutil.which("duplicity", path=environ.get("PATH", ""))
    python = interpreter_of(Path(program), environ) if program else None
    if python is None:
        found = f"{program} does not say which Python it runs on" if program else "duplicity is not installed"
        raise UsageError(f"{found}; its backend classes are needed for this URL", hint=INSTALL)
    return python


def is_installed(environ: Mapping[str, str], given: str | None = None) -> bool:
    """Whether ``find_python`` finds one."""
    try:
        find_python(environ, given)
    except UsageError:
        return False
    return True


def interpreter_of(program: Path, environ: Mapping[str, str]) -> str | None:
    """The Python that a script names in its first lines: ``#!/usr/bin/python3``, ``#!/usr/bin/env python3``, or pip's form for long paths."""
    with program.open("rb") as file:
        lines = file.read(2048).decode("utf-8", "replace").splitlines()[:2]
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    if words and Path(words[0]).name == "env":
        words = [shutil.which(words[-1], path=environ.get("PATH", "")) or ""]
    elif words and Path(words[0]).name == "sh" and len(lines) > 1 and "exec" in lines[1]:
        words = [word for word in shlex.split(lines[1].replace("'''", "", 1).replace("exec'", "exec", 1)) if "/" in word][:1]
    python = words[0] if words else ""
    return python if "python" in Path(python).name and os.access(python, os.X_OK) else None


def _is_ours() -> bool:
    spec = importlib.util.find_spec("duplicity")
    return spec is not None and spec.origin is not None  # a folder of that name beside the user is no package
