"""What may go wrong with a call in ``world``: one or more of every class of errors (engine semantics, section 3)."""

from __future__ import annotations

import errno
from collections.abc import Callable

from asyncdup.errors import BadRequest, OperatorError, Precondition, RetryableError
from asyncdup.testing.faults import Cut, Delay, Flip, Hang, LostAck, Raise, Stall, Step, Truncate, Twice, auth_lost, disk_full, lost
from asyncdup.testing.faults import refused as no_connection
from asyncdup.testing.faulty import Verb


class Bug(Exception):
    """As a KeyError in an adapter: never retried."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def retry_after(seconds: float) -> Exception:
    return caused(RetryableError("slow down", scope="lane", throttle=True, retry_after=seconds), OSError("429"))


def denied() -> Exception:
    return caused(OperatorError("permission denied", hint="chmod", scope="op"), PermissionError(errno.EACCES, "permission denied"))


FAULTS: tuple[Callable[[], Step], ...] = (
    lambda: Raise(no_connection),
    lambda: Raise(lost),
    lambda: LostAck(),
    lambda: LostAck(lambda: caused(RetryableError("twice wrapped", ambiguous=True), no_connection())),
    lambda: Cut(1000),
    lambda: Hang(),
    lambda: Stall(500),
    lambda: Raise(lambda: retry_after(70)),
    lambda: Raise(lambda: retry_after(7000)),
    lambda: Raise(lambda: RetryableError("too many", scope="lane", throttle=True)),
    lambda: Raise(auth_lost),
    lambda: Raise(denied),
    lambda: Raise(disk_full),
    lambda: Raise(lambda: BadRequest("malformed")),
    lambda: Raise(lambda: Precondition("changed")),
    lambda: Raise(lambda: Bug("a programmer's error")),
    lambda: Raise(lambda: ExceptionGroup("both", [no_connection(), lost()])),
    lambda: Flip(3),
    lambda: Truncate(100),
    lambda: Twice(),
    lambda: Delay(50),
)
VERBS: tuple[Verb, ...] = ("put", "put_if_absent", "get", "stat", "list", "delete", "begin_parts", "put_part", "complete_parts")
