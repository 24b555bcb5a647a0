"""The few OpenPGP packets that we frame ourselves, so that gpg need not compress (source: RFC 9580, sections 4.2, 5.6, 5.9). No cryptography."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asyncdup.errors import FormatError

SIGNATURE, COMPRESSED, LITERAL = 2, 8, 11  # packet tags

DEFLATE_HEAD = b"\x01"  # begins a compressed packet: raw deflate follows ("ZIP")
LITERAL_HEAD = b"b\x00\x00\x00\x00\x00"  # begins a literal packet: binary, no name, no date

_LEAST = 512  # bytes of the first part of a packet of unknown length; ours all have them
_MOST = 30  # the greatest part is 2^30 bytes

Parts = list[bytes | memoryview]


class Packet:
    """A packet of unknown length, written in parts of a power of two bytes as its body comes."""

    def __init__(self, tag: int, head: bytes) -> None:
        self._tag = bytes((0xC0 | tag,))  # stands before the first length
        self._rest = head  # less than _LEAST bytes of the body that wait for more

    def feed(self, data: bytes) -> Parts:
        """The next bytes of the body, framed: to be joined by who writes them, so that nothing is copied here."""
        view = memoryview(data)
        parts: Parts = []
        if self._rest:
            missing = _LEAST - len(self._rest)
            if len(view) < missing:
                self._rest += data
                return parts
            parts += (self._length(_LEAST.bit_length() - 1), self._rest, view[:missing])
            view = view[missing:]
        while len(view) >= _LEAST:
            power = min(len(view).bit_length() - 1, _MOST)
            parts += (self._length(power), view[: 1 << power])
            view = view[1 << power :]
        self._rest = bytes(view)
        return parts

    def finish(self) -> bytes:
        """The last part, of known length."""
        tag, self._tag = self._tag, b""
        size = len(self._rest)
        length = bytes((size,)) if size < 192 else bytes((192 + (size - 192 >> 8), size - 192 & 0xFF))
        return tag + length + self._rest

    def _length(self, power: int) -> bytes:
        tag, self._tag = self._tag, b""
        return tag + bytes((0xE0 | power,))


def split(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The packets of a short message: tag, the whole packet, its body. Raises FormatError if it is none, or cut."""
    at = 0
    while at < len(data):
        begin = at
        if not data[at] & 0x80:
            raise FormatError("not an OpenPGP packet", offset=at)
        new = data[at] & 0x40
        tag = data[at] & 0x3F if new else data[at] >> 2 & 0x0F
        body, at = (_new_body if new else _old_body)(data, at)
        yield tag, data[begin:at], body


def _old_body(data: bytes, at: int) -> tuple[bytes, int]:
    code = data[at] & 3
    if code == 3:  # to the end of the message
        return data[at + 1 :], len(data)
    width = 1 << code
    size = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    return _taken(data, at + 1 + width, size)


def _new_body(data: bytes, at: int) -> tuple[bytes, int]:
    body = b""
    at += 1
    while True:
        first = data[at] if at < len(data) else 0
        if first < 192:
            size, at = first, at + 1
        elif first < 224:
            size, at = (first - 192 << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192, at + 2
        elif first == 255:
            size, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
        else:
            size, at = 1 << (first & 0x1F), at + 1
        part, at = _taken(data, at, size)
        body += part
        if not 224 <= first < 255:
            return body, at


def _taken(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise FormatError("an OpenPGP packet is cut short", offset=len(data))
    return data[at : at + size], at + size


def one_pass_head(signed: bytes) -> bytes:
    """What stands before the literal packet of a signed message: the one-pass packets that announce its signatures.

    Raises FormatError unless all signatures are of version 4: those of version 5 cover the literal packet's head, too, and not the data alone.
    """
    head = b""
    packets: Sequence[tuple[int, bytes, bytes]] = tuple(split(signed))
    signatures = [body for tag, _, body in packets if tag == SIGNATURE]
    if not signatures or any(body[:1] != b"\x04" for body in signatures):
        raise FormatError("the key makes signatures of another version than 4")
    for tag, packet, _ in packets:
        if tag == LITERAL:
            return head
        head += packet
    raise FormatError("a signed message without data")
