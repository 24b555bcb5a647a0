"""What a person reads of an error: no names of classes, no addresses as asyncio writes them."""

from __future__ import annotations

import errno

import pytest

from asyncdup.errors import CodecError, in_words

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
