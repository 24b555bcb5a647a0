"""SFTP as bytes: what is cut, read and refused, whatever a server sends (P16)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncdup.backends.sftp import packets as wire


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8), st.data())
def test_packets_come_out_the_same_wherever_the_stream_is_cut(packets: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(packet(kind, body) for kind, body in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    splitter = wire.Splitter()
    got = [each for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True) for each in splitter.feed(stream[start:end])]

    assert got == packets


@pytest.mark.parametrize("start", [b"Welcome to this machine\r\n", bytes(4), struct.pack(">I", wire.LARGEST_PACKET + 1)])
def test_what_cannot_be_a_packet_is_refused_before_it_is_held(start: bytes) -> None:
    with pytest.raises(wire.Malformed):
        list(wire.Splitter().feed(start))


@given(st.binary(max_size=200))
def test_fields_of_any_bytes_are_read_or_malformed(data: bytes) -> None:
    for read in (wire.Fields.attributes, wire.Fields.text, wire.Fields.limits, lambda fields: list(fields.names())):
        try:
            read(wire.Fields(data))
        except wire.Malformed:
            continue


def test_attributes_tell_what_the_server_told_and_pass_over_the_rest() -> None:
    everything = (
        struct.pack(">IQIIIII", 0x8000000F, 7 << 32, 1, 2, 0o100644, 3, 4) + struct.pack(">I", 1) + wire.text(b"a") + wire.text(b"b")
    )

    full = wire.Fields(everything).attributes()
    empty = wire.Fields(bytes(4)).attributes()

    assert (full.size, full.mtime, full.may_be_file, full.is_folder) == (7 << 32, 4, True, False)
    assert (empty.size, empty.mtime, empty.may_be_file, empty.is_link) == (None, None, True, False)


def test_a_write_is_laid_out_as_the_draft_says() -> None:
    sent = wire.request(wire.WRITE, 7, wire.part_of(b"h", 1 << 33, 3), b"abc")

    assert sent == struct.pack(">IBII", len(sent) - 4, 6, 7, 1) + b"h" + struct.pack(">QI", 1 << 33, 3) + b"abc"


@pytest.mark.parametrize(
    ("blocks", "inodes", "free_inodes", "expected"), [(1000, 10, 1, True), (0, 10, 1, False), (1000, 10, 0, False), (1000, 0, 0, True)]
)
def test_room_is_blocks_and_inodes(blocks: int, inodes: int, free_inodes: int, expected: bool) -> None:
    """``statvfs@openssh.com``; a file system without inodes tells 0 of 0."""
    answer = struct.pack(">11Q", 4096, 1024, 10_000, 5_000, blocks, inodes, 0, free_inodes, 0, 0, 255)

    assert wire.Fields(answer).has_room(100_000) is expected
