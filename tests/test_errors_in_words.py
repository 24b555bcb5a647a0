"""What a person reads of an error: no names of classes, no addresses as asyncio writes them."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from asyncdup.backends.http.errors import http_errors
from asyncdup.backends.s3.errors import translate
from asyncdup.cli.failure import failure_lines
from asyncdup.errors import GAVE_UP, CodecError, OperatorError, RetryableError, headline, in_words

REFUSED = "[Errno 111] Connect call failed"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 22)"), "Connection refused"),
        (OSError(f"Multiple exceptions: {REFUSED} ('::1', 22, 0, 0), {REFUSED} ('127.0.0.1', 22)"), "Connection refused"),
        (OSError(errno.ECONNREFUSED, "Cannot connect to nas:80 [Connect call failed ('127.0.0.1', 80)]"), "Connection refused"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "/tmp/x: No space left on device"),
        (OSError(errno.EACCES, "Permission denied", b"/tmp/\xff"), "/tmp/\udcff: Permission denied"),
        (OSError("odd"), "odd"),
        (CodecError("the passphrase is wrong"), "the passphrase is wrong"),
        (TimeoutError(), "no answer in time"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_is_told_in_words(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_a_server_that_refuses_is_named_by_host_and_port() -> None:
    key: Any = SimpleNamespace(host="nas", port=8080, ssl=True, is_ssl=True)
    refused = aiohttp.ClientConnectorError(key, OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 8080)"))

    with pytest.raises(RetryableError) as caught, http_errors("list webdav://nas:8080/x"):
        raise refused

    assert str(caught.value) == "list webdav://nas:8080/x: nas, port 8080: Connection refused"
    assert str(translate(refused, "list s3://bucket/x", begun=False)) == "list s3://bucket/x: nas, port 8080: Connection refused"


def given_up(error: Exception, undertaken: str = "list on sftp://nas/docs") -> Exception:
    """As the engine raises a root cause (C7)."""
    error.add_note(f"{undertaken}{GAVE_UP}2 attempts in 1.0 s")
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (given_up(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")), "cannot list on sftp://nas/docs: Connection refused"),
        (given_up(TimeoutError(), "put vol1 on s3://x"), "cannot put vol1 on s3://x: no answer in time"),
        (given_up(OperatorError("cannot log in to sftp://nas/docs: no such key")), "cannot log in to sftp://nas/docs: no such key"),
        (given_up(ValueError("what a library says"), "get vol1"), "cannot get vol1: what a library says"),
        (CodecError("the passphrase is wrong"), "the passphrase is wrong"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_the_first_line_says_what_could_not_be_done_and_where(error: Exception, line: str) -> None:
    """C3, C7: the root cause stays what it is; only its words have the place."""
    assert headline(error) == line


def test_what_the_first_line_says_is_not_said_again() -> None:
    assert list(failure_lines(given_up(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")), 3)) == [
        "asyncdup: cannot list on sftp://nas/docs: Connection refused",
        "  gave up after 2 attempts in 1.0 s",
    ]
    assert list(failure_lines(given_up(OperatorError("cannot log in to sftp://nas/docs")), 3))[1:] == [
        "  list on sftp://nas/docs: gave up after 2 attempts in 1.0 s"
    ]
