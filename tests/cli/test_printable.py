"""Text from outside on a person's screen and in a pipe."""

from __future__ import annotations

import io

import pytest

from asyncdup.cli.printable import AS_BYTES, printable


@pytest.mark.parametrize(
    ("text", "written"),
    [("plain ü", "plain ü"), ("a\x1b[2Jb\n", "a\\x1b[2Jb\\n"), ("n\udcff", "n\\xff")],
)
def test_a_terminal_is_given_nothing_that_it_obeys(text: str, written: str) -> None:
    assert printable(text) == written


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", b"\\xdf\\u20ac n\xff"), ("latin-1", b"\xdf\\u20ac n\xff"), ("utf-8", "ß€ n".encode() + b"\xff")],
)
def test_a_stream_of_any_encoding_takes_any_name(encoding: str, written: bytes) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=AS_BYTES)

    stream.write("ß€ n\udcff")
    stream.flush()

    assert raw.getvalue() == written


def test_what_cannot_be_read_is_no_business_of_this_error_handler() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", AS_BYTES)
