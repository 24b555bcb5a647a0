"""Text from outside, made fit for a line that a person reads."""

from __future__ import annotations


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
