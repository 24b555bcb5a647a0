"""What a local folder that cannot be written means to the person: which one it is, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncdup.errors import AsyncdupError, exit_code_of

_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def writing_in(folder: Path, option: str) -> Iterator[None]:
    """Let an OSError out as one that names ``folder`` and the ``option`` that chooses another; the kernel tells no name of an open file.

    An error that names a file elsewhere passes as it is.

    Raises:
        AsyncdupError: with the exit code of the kernel's error.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(folder):
            raise
        advice = "make room there" if error.errno in _SPACE else "make it writable"
        raise AsyncdupError(
            f"cannot write in {folder}: {error.strerror or error}",
            hint=f"{advice}, or choose another folder with {option}; the same command then goes on from here",
            exit_code=exit_code_of(error),
        ) from error
