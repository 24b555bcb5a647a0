"""What a person reads of an error: no names of classes, no addresses as asyncio writes them."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from asyncdup.backends.http.errors import http_errors
from asyncdup.backends.s3.errors import translate
from asyncdup.errors import CodecError, RetryableError, in_words

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
