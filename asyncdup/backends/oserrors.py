"""The kernel's errors in our classes (engine semantics, section 3): the one translation for backends that call the file system or sockets."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, RetryableError

_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_WRONG_KIND = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
_MALFORMED = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG})
# Raised by libraries without a number, as FileNotFoundError(name).
_BARE = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}
_UNREACHABLE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


@contextmanager
def os_errors(action: str, *, absent: bool = False, ambiguous: bool = False) -> Iterator[None]:
    """Let an OSError out as a BackendError with itself as the cause; anything else passes.

    Args:
        action: what was being done, for the message: ``get 'x' from file:///backup``.
        absent: ENOENT means that the object is not there (get, stat); else that the location is not.
        ambiguous: the call may have had its effect when it failed.
    """
    try:
        yield
    except OSError as exc:
        raise classify(exc, action, absent=absent, ambiguous=ambiguous) from exc


def classify(exc: OSError, action: str, *, absent: bool = False, ambiguous: bool = False) -> BackendError:
    """The BackendError that says what can be done about ``exc``."""
    message = f"{action}: {exc.strerror or str(exc) or type(exc).__name__}"
    code = exc.errno or _BARE.get(type(exc))
    if isinstance(exc, ssl.SSLCertVerificationError):
        return OperatorError(message, hint="check the server's certificate and the clock")
    if isinstance(exc, socket.gaierror):
        return RetryableError(message, scope="lane")
    if code in _SPACE:
        return OperatorError(message, space=True, hint="make room, raise the quota or make the file system writable")
    if code in _FORBIDDEN:
        return OperatorError(message, hint="check the owner and the permissions")
    if code in _WRONG_KIND:
        return OperatorError(message, hint="the target must be a folder, and what is in it files")
    if code in _MALFORMED:
        return BadRequest(message)
    if code == errno.ENOENT:
        return NotFound(message) if absent else OperatorError(message, hint="make the folder, or mount it")
    return RetryableError(message, scope="lane" if code in _UNREACHABLE else "op", ambiguous=ambiguous)
