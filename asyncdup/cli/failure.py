"""An error -> what is said of it in one line, with the next step (and, at -v9, where it happened)."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from asyncdup.cli.printable import printable
from asyncdup.errors import AsyncdupError, in_words, is_root_cause

_TRACEBACK = 9  # verbosity
_MOST_NOTES = 3  # of what the engine says: which op, how often tried, what to do


def single(error: BaseException) -> BaseException:
    """``error`` without groups around it; of several errors the first, which made the others end."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def failure_lines(error: BaseException, verbosity: int) -> Iterator[str]:
    """``asyncdup: message`` and, if there is one, the hint below it. The traceback of what nobody foresaw is shown at -v9."""
    yield f"asyncdup: {printable(_message(error))}"
    notes = getattr(error, "__notes__", ())[:_MOST_NOTES]
    yield from (f"  {printable(note)}" for note in notes)
    if isinstance(error, AsyncdupError) and error.hint:
        if not any(error.hint in note for note in notes):
            yield f"  {printable(error.hint)}"
    elif isinstance(error, MemoryError):
        yield "  lower --concurrency or --volsize, or raise the limit (ulimit -v), and run the same command again"
    elif not isinstance(error, (AsyncdupError, OSError)) and not is_root_cause(error) and verbosity < _TRACEBACK:
        yield "  this is a defect of asyncdup; -v9 shows where it happened"
    if verbosity >= _TRACEBACK:
        yield from "".join(traceback.format_exception(error)).splitlines()


def _message(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is no memory left"
    if isinstance(error, AsyncdupError):
        return str(error) or type(error).__name__
    return in_words(error) if isinstance(error, OSError) or is_root_cause(error) else f"{type(error).__name__}: {error}"
