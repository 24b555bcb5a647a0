"""Every exception class of the package, ordered by what the caller can do about it; and how one gets out of a group. Imports nothing of ours.

Exit codes are duplicity's where it has one for the case (format specification, section 21), else our own (engine rule X6).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

Scope = Literal["op", "lane"]

NO_SPACE = 53  # exit code
GAVE_UP = ": gave up after "  # in the note of a root cause (C7), between what was undertaken and how often

_DIALLED = re.compile(r"\[Errno (\d+)\] Connect call failed")  # asyncio's words, for each address that it tried
_SILENT: dict[type[BaseException], str] = {
    TimeoutError: "no answer in time",
    ConnectionResetError: "the connection was lost",
    EOFError: "the connection ended too early",
}


class AsyncdupError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line exits with; ``hint`` says what to do next."""

    exit_code = 30

    def __init__(self, message: str = "", *, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(AsyncdupError):
    """The caller asked for something that cannot be: an option, a URL or a combination of them."""

    exit_code = 23


class FormatError(AsyncdupError):
    """Bytes that are not what the archive format says.

    ``offset`` counts bytes from the start of the stream named by ``where`` (a volume, a manifest, a signature file).
    """

    exit_code = 30

    def __init__(self, message: str, *, offset: int | None = None, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        at = f" (at byte {self.offset})" if self.offset is not None else ""
        return f"{place}{super().__str__()}{at}"


class ChainError(AsyncdupError):
    """The sets at the target do not form what the command needs: a missing volume, no chain, a broken one."""

    exit_code = 1


class RestoreError(AsyncdupError):
    """Something was not restored as archived (promise P3). ``problems``: a line for each entry concerned."""

    exit_code = 30

    def __init__(self, message: str = "", *, problems: tuple[str, ...] = (), hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=exit_code)
        self.problems = problems


class CodecError(AsyncdupError):
    """Compression or encryption failed: gpg ended with an error, a wrong passphrase, a signature that is not there."""

    exit_code = 31


class SignatureMismatch(CodecError):
    """A volume is not signed, or by another key than the one asked for."""

    exit_code = 22


class LockedError(AsyncdupError):
    """Another writer holds the archive folder or the target."""

    exit_code = 23


class InterruptedByOperator(AsyncdupError):
    """The operator said abort, or the time limit of an intervention ran out."""

    exit_code = 61


class Drained(AsyncdupError):
    """The engine finishes what it has and takes nothing new (X3): write the checkpoint and end."""

    exit_code = 60


class BackendError(AsyncdupError):
    """A backend could not do what it was asked."""

    exit_code = 50


class RetryableError(BackendError):
    """The same call may succeed later.

    Args:
        retry_after: seconds that the server asks to wait, if it said so.
        scope: ``"op"`` if only this operation is known to fail, ``"lane"`` if every operation of the backend would.
        ambiguous: the call may have had its effect (the answer was lost after the body began).
        throttle: the server asks for fewer or slower requests.
    """

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        scope: Scope = "op",
        ambiguous: bool = False,
        throttle: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.scope: Scope = scope
        self.ambiguous = ambiguous
        self.throttle = throttle


class OperatorError(RetryableError):
    """Retrying is useless until a person acts: credentials, quota, a full disk, an unknown host key. ``space``: the cause is room for writing."""

    def __init__(self, message: str = "", *, space: bool = False, scope: Scope = "lane", hint: str | None = None) -> None:
        super().__init__(message, scope=scope, hint=hint)
        self.space = space
        if space:
            self.exit_code = NO_SPACE


class PermanentError(BackendError):
    """The same call will fail again, whatever is done about the backend's health."""


class NotFound(PermanentError):
    """No object of that name."""

    exit_code = 52


class Precondition(PermanentError):
    """A condition of the call does not hold, such as "only if absent"."""


class IntegrityError(PermanentError):
    """Bytes came back that are not those that were stored."""

    exit_code = 21


class Unsupported(PermanentError):
    """The backend cannot do this at all."""


class BadRequest(PermanentError):
    """The backend refused the call as malformed."""


class LaneUnavailable(BackendError):
    """The lane gave up before this operation was attempted; the cause is the lane's."""


class DependencyFailed(BackendError):
    """An operation that this one had to follow did not succeed, so it was not sent."""


class OperationCancelled(BackendError):
    """The operation was cancelled before it was done."""


def in_words(error: BaseException) -> str:
    """One line for a person, without the name of a class wherever the error says anything: ``Connection refused``, ``/x: No space left on device``."""
    if isinstance(error, OSError):
        if codes := _dialled(error):
            return ", ".join(dict.fromkeys(map(os.strerror, codes)))
        if error.strerror:
            place = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
            return error.strerror if place is None else f"{place}: {error.strerror}"
    return str(error).strip() or _SILENT.get(type(error), type(error).__name__)


def _dialled(error: OSError) -> list[int]:
    """The numbers behind asyncio's "Connect call failed (ADDRESS)", which has one for each address, or, as aiohttp words it, none."""
    codes = [int(code) for code in _DIALLED.findall(str(error))]
    if not codes and error.errno and "Connect call failed" in str(error):
        codes = [error.errno]
    return codes


def headline(error: BaseException) -> str:
    """One line for a person who knows nothing yet: what could not be done and where, and why. A defect comes with the name of its class."""
    is_foreseen = isinstance(error, (AsyncdupError, OSError)) or is_root_cause(error)
    said = in_words(error) if is_foreseen else f"{type(error).__name__}: {error}"
    return f"cannot {undertaken}: {said}" if (undertaken := undertaking(error)) else said


def undertaking(error: BaseException) -> str:
    """What the engine gave up, and where: ``list on sftp://nas/docs``; empty if that is not known, or ``error`` itself says where."""
    notes: list[str] = getattr(error, "__notes__", [])
    found = next((note.partition(GAVE_UP)[0] for note in notes if GAVE_UP in note), "")
    return "" if found.rpartition(" on ")[2] in in_words(error) else found


def is_root_cause(error: BaseException) -> bool:
    """Whether the engine gave up on ``error``: it says so in a note (C7). Any other exception of a foreign class is a defect of ours."""
    return bool(getattr(error, "__notes__", None))


def exit_code_of(error: BaseException) -> int:
    """The process exit code for ``error`` (X6): the class attribute of ours; a root cause of a foreign class by its errno."""
    if isinstance(error, AsyncdupError):
        return error.exit_code
    if isinstance(error, FileNotFoundError):
        return 52
    if isinstance(error, PermissionError):
        return 51
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return NO_SPACE
    return 50 if isinstance(error, (OSError, EOFError)) or is_root_cause(error) else 30


@contextmanager
def ungrouped() -> Generator[None, None, None]:
    """The first error out of a task group instead of the group; its own chain stays as it is (C3, C6)."""
    first: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        first = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if first is not None:
        raise first
