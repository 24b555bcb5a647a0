"""The OpenPGP packets that we frame: lengths, and what is understood of gpg's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.codecs.openpgp import COMPRESSED, LITERAL, LITERAL_HEAD, SIGNATURE, Packet, one_pass_head, split
from asyncdup.errors import FormatError


def framed(tag: int, head: bytes, pieces: list[bytes]) -> bytes:
    packet = Packet(tag, head)
    return b"".join(b"".join(packet.feed(piece)) for piece in pieces) + packet.finish()


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.one_of(st.integers(0, 600), st.integers(0, 70_000)), max_size=5), head=st.binary(max_size=8))
def test_a_packet_in_parts_is_read_as_one(sizes: list[int], head: bytes) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]

    message = framed(COMPRESSED, head, pieces)

    assert list(split(message)) == [(COMPRESSED, message, head + b"".join(pieces))]


@pytest.mark.parametrize("size", [0, 191, 192, 511, 512, 1023, 1 << 20])
def test_the_first_part_has_512_bytes_or_more(size: int) -> None:
    """RFC 9580, section 4.2.1.4."""
    message = framed(LITERAL, b"", [bytes(size)])

    assert message[0] == 0xC0 | LITERAL
    assert not 0xE0 <= message[1] < 0xE9
    assert next(split(message))[2] == bytes(size)


OLD = bytes([0x80 | 4 << 2, 3]) + b"one"
NEW = bytes([0xC0 | LITERAL, 2]) + b"ab"
SIG = bytes([0x80 | SIGNATURE << 2 | 1, 0, 4]) + b"\x04sig"


def test_packets_of_both_forms_are_told_apart() -> None:
    long = bytes([0xC0 | 2, 255, 0, 0, 1, 0]) + bytes(256)
    middle = bytes([0xC0 | 2, 192, 8]) + bytes(200)
    rest = bytes([0x80 | 8 << 2 | 3]) + b"to the end"

    tags = [(tag, len(body)) for tag, _, body in split(OLD + NEW + long + middle + rest)]

    assert tags == [(4, 3), (LITERAL, 2), (2, 256), (2, 200), (8, 10)]


def test_the_head_of_a_signed_message_ends_before_its_data() -> None:
    assert one_pass_head(OLD + NEW + SIG) == OLD
    assert one_pass_head(OLD + OLD + NEW + SIG + SIG) == OLD + OLD


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not a packet",
        OLD,
        OLD + NEW,
        OLD + SIG,
        NEW[:-1],
        OLD + NEW + SIG[:-1],
        OLD + NEW + SIG.replace(b"\x04sig", b"\x05sig"),
        b"\xcb",
        b"\xcb\xff\x00",
    ],
)
def test_what_is_no_signed_message_is_refused(message: bytes) -> None:
    with pytest.raises(FormatError):
        one_pass_head(message)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_refused(noise: bytes) -> None:
    try:
        assert b"".join(packet for _, packet, _ in split(noise)) == noise
    except FormatError:
        pass


def test_a_literal_packet_says_that_it_is_binary_and_nothing_else() -> None:
    assert LITERAL_HEAD == b"b" + b"\x00" + b"\x00\x00\x00\x00"
