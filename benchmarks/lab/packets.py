"""Packets as a TUN device with IFF_VNET_HDR hands them out: 10 bytes of virtio header, then IPv4. Pure: bytes in, bytes out.

The kernel hands TCP over in super-packets of tens of KiB that stand for many segments on a wire. The emulator counts, queues and drops by segment,
so a super-packet that loses one is cut in two. Source: virtio 1.2, section 5.1.6; RFC 791 and 9293.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = 10  # bytes of struct virtio_net_hdr
_TCP = 6
_GSO_TCPV4 = 1
_FIN, _SYN, _PSH, _ACK, _CWR = 0x01, 0x02, 0x08, 0x10, 0x80


@dataclass(frozen=True, slots=True)
class Shape:
    """What a packet is on the wire: ``segments`` of at most the MTU, ``size`` bytes in all; ``headers``: bytes of IP and TCP of each."""

    segments: int
    size: int
    headers: int


def shape_of(packet: bytes) -> Shape:
    """Look at the headers only."""
    size = len(packet) - HEADER
    if packet[1] != _GSO_TCPV4:
        return Shape(1, size, 0)
    ip = _ip_header(packet)
    headers = ip + (packet[HEADER + ip + 12] >> 4) * 4
    segments = -(-(size - headers) // _segment_size(packet))
    return Shape(segments, size + (segments - 1) * headers, headers)


def opens_connection(packet: bytes) -> bool:
    """Whether it is a TCP SYN without ACK."""
    if packet[1] == _GSO_TCPV4 or packet[HEADER + 9] != _TCP:
        return False
    flags = packet[HEADER + _ip_header(packet) + 13]
    return flags & (_SYN | _ACK) == _SYN


def cut(packet: bytes, first: int, end: int, shape: Shape) -> bytes:
    """Segments ``first`` to ``end - 1`` as a packet of their own, with sequence number, lengths and checksums put right."""
    if first == 0 and end == shape.segments:
        return packet
    segment, tcp = _segment_size(packet), HEADER + _ip_header(packet)
    start = HEADER + shape.headers
    head = bytearray(packet[:start])
    body = packet[start + first * segment : start + end * segment]
    if end - first == 1:
        head[1] = 0  # no longer a super-packet
        head[4:6] = b"\0\0"
    (number,) = struct.unpack_from("!I", head, tcp + 4)
    struct.pack_into("!I", head, tcp + 4, (number + first * segment) & 0xFFFFFFFF)
    if end < shape.segments:
        head[tcp + 13] &= ~(_FIN | _PSH) & 0xFF  # they stay with the last segment
    if first:
        head[tcp + 13] &= ~_CWR & 0xFF  # stays with the first one
    (ident,) = struct.unpack_from("!H", head, HEADER + 4)
    struct.pack_into("!HH", head, HEADER + 2, shape.headers + len(body), (ident + first) & 0xFFFF)
    head[HEADER + 10 : HEADER + 12] = b"\0\0"
    struct.pack_into("!H", head, HEADER + 10, ones_sum(bytes(head[HEADER:tcp])) ^ 0xFFFF)
    pseudo = bytes(head[HEADER + 12 : HEADER + 20]) + struct.pack("!HH", _TCP, shape.headers - (tcp - HEADER) + len(body))
    struct.pack_into("!H", head, tcp + 16, ones_sum(pseudo))  # the rest of the sum is the receiving kernel's (NEEDS_CSUM)
    return bytes(head) + body


def ones_sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), not inverted."""
    if len(data) & 1:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _ip_header(packet: bytes) -> int:
    return (packet[HEADER] & 15) * 4


def _segment_size(packet: bytes) -> int:
    return packet[4] | packet[5] << 8
