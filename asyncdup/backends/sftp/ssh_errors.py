"""From asyncssh's errors to ours (engine-semantics, section 3)."""

from __future__ import annotations

import errno

import asyncssh

from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, RetryableError, Scope, Unsupported, in_words

TRANSPORT = (asyncssh.Error, OSError, EOFError)  # TimeoutError is an OSError
LOST = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    OSError,
    EOFError,
)
_NO_ROOM = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded, asyncssh.SFTPWriteProtect)
_NO_ROOM_TEXTS = ("no space", "quota", "disk full", "read-only file system")
_MALFORMED = (asyncssh.SFTPInvalidFilename, asyncssh.SFTPInvalidParameter, asyncssh.SFTPNotADirectory, asyncssh.SFTPFileIsADirectory)
_LOGIN = (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied, asyncssh.IllegalUserName, asyncssh.KeyExchangeFailed)


def translate(error: Exception, doing: str, *, scope: Scope = "op", hint: str | None = None) -> BackendError:
    """The one table from asyncssh's errors to ours (engine-semantics, section 3). ``doing``: what failed, where, without secrets."""
    text = f"{doing}: {_reason(error)}"
    if isinstance(error, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)):
        return NotFound(text)
    if isinstance(error, _NO_ROOM) or (isinstance(error, asyncssh.SFTPError) and any(t in str(error).lower() for t in _NO_ROOM_TEXTS)):
        return OperatorError(text, space=True, hint="make room on the server, or raise the quota")
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return OperatorError(text, hint="the user that logs in may not do this: check owner and mode of the folder on the server")
    if isinstance(error, _LOGIN) or "too many authentication failures" in str(error).lower():
        return OperatorError(text, hint=hint)
    if isinstance(error, _MALFORMED):
        return BadRequest(text)
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return Unsupported(text)
    if isinstance(error, asyncssh.SFTPBadMessage) and scope == "lane":
        return OperatorError(text, hint="the login shell of the user on the server must print nothing (look into .bashrc)")
    if isinstance(error, asyncssh.ChannelOpenError) and hint is not None:
        return OperatorError(text, hint=hint)
    if isinstance(error, asyncssh.DisconnectError) and error.code == asyncssh.DISC_TOO_MANY_CONNECTIONS:
        return RetryableError(text, scope="lane", throttle=True)
    return RetryableError(text, scope=scope, hint=hint)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return in_words(error)
