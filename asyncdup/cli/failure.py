"""An error -> what is said of it in one line, with the next step (and, at -v9, where it happened)."""

from __future__ import annotations

import resource
import traceback
from collections.abc import Iterator

from asyncdup.cli.printable import printable
from asyncdup.errors import AsyncdupError, headline, is_root_cause, undertaking
from asyncdup.units import format_size

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
    said = f"{undertaking(error)}: "
    notes = [note.removeprefix(said) for note in getattr(error, "__notes__", ())[:_MOST_NOTES]]
    yield from (f"  {printable(note)}" for note in notes)
    if isinstance(error, AsyncdupError) and error.hint:
        if not any(error.hint in note for note in notes):
            yield f"  {printable(error.hint)}"
    elif _lacks_memory(error):
        yield "  raise the limit (ulimit -v; for threads ulimit -u, too) or lower --concurrency or --volsize, and run the same command again"
    elif not isinstance(error, (AsyncdupError, OSError)) and not is_root_cause(error) and verbosity < _TRACEBACK:
        yield "  this is a defect of asyncdup; -v9 shows where it happened"
    if verbosity >= _TRACEBACK:
        yield from "".join(traceback.format_exception(error)).splitlines()


def _message(error: BaseException) -> str:
    if _lacks_memory(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        what = "there is no memory left" if isinstance(error, MemoryError) else "there is no memory left for another thread, or no thread"
        return what if limit == resource.RLIM_INFINITY else f"{what}: this process is limited to {format_size(limit)} of address space"
    return headline(error)


def _lacks_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == "can't start new thread")
