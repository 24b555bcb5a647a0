"""Text from outside, made fit for a line that a person reads."""

from __future__ import annotations

import codecs

AS_BYTES = "asyncdup.bytes"  # for ``errors=`` of an output stream: it then takes any text


def printable(text: str) -> str:
    """``text`` on one line and without anything that a terminal obeys: such characters, and bytes that are no UTF-8, are written as escapes.

    Names come from archives that others wrote; an escape sequence in one could otherwise rewrite what the screen says.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """One character that the encoding of a stream does not have: a byte of a name stays that byte (PEP 383), others become escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    return char.encode("ascii", "backslashreplace"), error.start + 1


codecs.register_error(AS_BYTES, _as_bytes)
