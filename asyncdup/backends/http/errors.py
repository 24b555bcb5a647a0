"""HTTP's failures in our classes (engine semantics, section 3): one table of status codes and one translation of aiohttp's exceptions."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import aiohttp

from asyncdup.backends.oserrors import classify
from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, Precondition, RetryableError, in_words

_RETRY = frozenset({408, 423, 425})  # 423: somebody holds a lock, which ends
_THROTTLE = frozenset({420, 429})


def status_error(status: int, reason: str, action: str, headers: Mapping[str, str], *, login_hint: str) -> BackendError:
    """What can be done about an answer that is no success.

    Args:
        reason: the server's words, for the message.
        action: what was being done: ``get 'x' from webdav://host/backup``.
        login_hint: what to do about a refused login.
    """
    message = f"{action}: {status} {reason}".rstrip()
    if status in (401, 407):
        return OperatorError(message, hint=login_hint)
    if status == 403:
        return OperatorError(message, hint="the user may not do this there: check the permissions on the server")
    if status in (404, 410):
        return NotFound(message)
    if status == 409:
        return OperatorError(message, hint="the folder is not there and could not be made")
    if status == 412:
        return Precondition(message)
    if status in (402, 507):
        return OperatorError(message, space=True, hint="make room on the server, or raise the quota")
    if status in _THROTTLE or status == 503:
        wait = retry_after(headers)
        return RetryableError(message, retry_after=wait, scope="lane", throttle=status in _THROTTLE or wait is not None)
    if status in _RETRY or status >= 500:
        return RetryableError(message, retry_after=retry_after(headers))
    if status == 413:
        return BadRequest(message, hint="the server takes no objects of this size: use a smaller --volsize")
    return BadRequest(message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; of a date, counted from the server's own ``Date``. None: not said, or not to be read (B2)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (TypeError, ValueError):
        return None
    return seconds if seconds >= 0 else None


@contextmanager
def http_errors(action: str, *, ambiguous: bool = False) -> Iterator[None]:
    """Let what aiohttp raises out as a BackendError with itself as the cause; anything else passes. ``ambiguous``: as of RetryableError."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as exc:  # its timeouts are OSErrors
        raise _classified(exc, action, ambiguous) from exc


def _classified(exc: Exception, action: str, ambiguous: bool) -> BackendError:
    message = f"{action}: {in_words(exc)}"
    if isinstance(exc, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return OperatorError(message, hint="check the server's certificate and the clock, or name its authority by --ssl-cacert-file")
    if isinstance(exc, aiohttp.ClientConnectorError):  # before a byte was sent
        return RetryableError(f"{action}: {exc.host}, port {exc.port}: {in_words(exc)}", scope="lane")
    if isinstance(exc, aiohttp.InvalidURL):
        return BadRequest(message)
    if isinstance(exc, OSError) and not isinstance(exc, (aiohttp.ClientError, TimeoutError)):
        return classify(exc, action, ambiguous=ambiguous)
    return RetryableError(message, ambiguous=ambiguous)
