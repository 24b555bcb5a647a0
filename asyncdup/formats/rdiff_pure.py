"""librsync's signatures and deltas in plain Python: the layout, the sums and the search, without any library.

Serves where no librsync can be loaded (a few MiB/s), and as the oracle of the tests of the one that can. Sources: format specification,
section 8; MD4 is RFC 1320; the RabinKarp constants were checked against signatures made by librsync 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import accumulate

ROLLSUM_MD4 = 0x72730136  # what duplicity writes
ROLLSUM_BLAKE2 = 0x72730137
RABINKARP_MD4 = 0x72730146
RABINKARP_BLAKE2 = 0x72730147
STRONG_SIZE = {ROLLSUM_MD4: 16, ROLLSUM_BLAKE2: 32, RABINKARP_MD4: 16, RABINKARP_BLAKE2: 32}  # of a strong sum that is not cut
STRONG_LENGTH = 8  # bytes of each strong sum that duplicity keeps
HEADER = struct.Struct(">III")  # magic, block length, strong length

DELTA_MAGIC = b"\x72\x73\x02\x36"
END = b"\x00"
_LITERAL_HELD = 65536  # bytes of unmatched data after which a literal is written
_CHAR_OFFSET = 31  # rollsum adds it to each byte, so that runs of zeros have different sums
_WIDTHS = ((0x100, 1), (0x10000, 2), (0x100000000, 4), (1 << 64, 8))  # number below, bytes of it


def header(block_len: int) -> bytes:
    """The twelve bytes that begin a signature; those of an empty file are nothing else."""
    return HEADER.pack(ROLLSUM_MD4, block_len, STRONG_LENGTH)


def sign(data: bytes, block_len: int) -> bytes:
    """The whole signature of ``data``."""
    return header(block_len) + _block_sums(data, block_len)


class Signer:
    """The signature of a stream, piece by piece."""

    def __init__(self, block_len: int) -> None:
        self._block_len = block_len
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Sums of the blocks that are complete."""
        data = self._rest + data
        whole = len(data) - len(data) % self._block_len
        self._rest = data[whole:]
        return self._begin() + _block_sums(data[:whole], self._block_len)

    def finish(self) -> bytes:
        """The sums of the last, short block."""
        return self._begin() + _block_sums(self._rest, self._block_len)

    def close(self) -> None:
        """Nothing to give back."""

    def _begin(self) -> bytes:
        begun, self._begun = self._begun, True
        return b"" if begun else header(self._block_len)


class DeltaWriter:
    """The delta of a stream against a well-formed signature: the classic search by a rolling sum, then the strong one."""

    def __init__(self, signature: bytes) -> None:
        magic, self._block_len, self._strong_len = HEADER.unpack_from(signature)
        self._window: _Rollsum | _RabinKarp = _Rollsum() if magic in (ROLLSUM_MD4, ROLLSUM_BLAKE2) else _RabinKarp()
        self._strong: Callable[[bytes], bytes] = md4 if magic in (ROLLSUM_MD4, RABINKARP_MD4) else _blake2
        self._blocks: dict[int, dict[bytes, int]] = {}  # weak sum -> strong sum -> number of the first such block
        for number, (weak, strong) in enumerate(_entries(signature, self._strong_len)):
            self._blocks.setdefault(weak, {}).setdefault(strong, number)
        self._data = bytearray()  # unmatched bytes, then the window, then what is still to be looked at
        self._at = 0  # where the window begins; it is empty after a match
        self._copy = (0, 0)  # offset and length of a copy that may still grow
        self._out = [DELTA_MAGIC]

    def feed(self, data: bytes) -> bytes:
        """The commands that are certain by now."""
        self._data += data
        block = self._block_len
        while len(self._data) - self._at > block:
            self._fill(block)
            if not self._match():
                self._window.roll(self._data[self._at], self._data[self._at + block])
                self._at += 1
                if self._at >= _LITERAL_HELD:
                    self._literal()
        return self._taken()

    def finish(self) -> bytes:
        """What is left, and the end command."""
        while self._at < len(self._data):
            self._fill(min(self._block_len, len(self._data) - self._at))
            if not self._match():
                self._window.drop(self._data[self._at])
                self._at += 1
        self._literal()
        self._end_copy()
        return self._taken() + END

    def close(self) -> None:
        """Nothing to give back."""

    def _fill(self, size: int) -> None:
        if not self._window.size:
            self._window.begin(self._data[self._at : self._at + size])

    def _match(self) -> bool:
        candidates = self._blocks.get(self._window.value())
        if candidates is None:
            return False
        size = self._window.size
        number = candidates.get(self._strong(bytes(self._data[self._at : self._at + size]))[: self._strong_len])
        if number is None:
            return False
        self._literal()
        del self._data[:size]
        self._add_copy(number * self._block_len, size)
        self._window.size = 0
        return True

    def _add_copy(self, offset: int, length: int) -> None:
        begin, size = self._copy
        if size and begin + size == offset:
            self._copy = (begin, size + length)
        else:
            self._end_copy()
            self._copy = (offset, length)

    def _end_copy(self) -> None:
        offset, length = self._copy
        if length:
            self._out.append(copy_command(offset, length))
        self._copy = (0, 0)

    def _literal(self) -> None:
        """Write the bytes before the window; it then begins the buffer."""
        if self._at:
            self._end_copy()
            self._out.append(literal_command(self._at) + bytes(self._data[: self._at]))
            del self._data[: self._at]
            self._at = 0

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out


def literal_command(length: int) -> bytes:
    """What stands before ``length`` bytes of literal data; 1 <= length < 2^64."""
    if length <= 64:
        return bytes((length,))
    code, width = _width(length)
    return bytes((0x41 + code,)) + length.to_bytes(width, "big")


def copy_command(offset: int, length: int) -> bytes:
    """``length`` bytes of the old file from ``offset`` on."""
    offset_code, offset_width = _width(offset)
    length_code, length_width = _width(length)
    return bytes((0x45 + 4 * offset_code + length_code,)) + offset.to_bytes(offset_width, "big") + length.to_bytes(length_width, "big")


def weak_sum(block: bytes) -> int:
    """The rollsum of a block."""
    size = len(block)
    low = sum(block) + _CHAR_OFFSET * size
    high = sum(accumulate(block)) + _CHAR_OFFSET * size * (size + 1) // 2
    return (high & 0xFFFF) << 16 | (low & 0xFFFF)


def md4(data: bytes) -> bytes:
    """The MD4 digest of ``data`` (RFC 1320); OpenSSL 3 no longer has it by default."""
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + struct.pack("<Q", 8 * len(data))
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for words in struct.iter_unpack("<16I", padded):
        state = _md4_block(state, words)
    return struct.pack("<4I", *state)


_Words = tuple[int, int, int, int]
_ROUNDS: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...] = (  # constant, shifts, order of the words
    (0, (3, 7, 11, 19), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
    (0x5A827999, (3, 5, 9, 13), (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)),
    (0x6ED9EBA1, (3, 9, 11, 15), (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)),
)


def _md4_block(state: _Words, words: tuple[int, ...]) -> _Words:
    a, b, c, d = state
    for stage, (constant, shifts, order) in enumerate(_ROUNDS):
        for step, index in enumerate(order):
            if stage == 0:
                mixed = b & c | ~b & d
            elif stage == 1:
                mixed = b & c | b & d | c & d
            else:
                mixed = b ^ c ^ d
            total = (a + mixed + words[index] + constant) & 0xFFFFFFFF
            shift = shifts[step & 3]
            a, b, c, d = d, (total << shift | total >> (32 - shift)) & 0xFFFFFFFF, b, c
    return (state[0] + a) & 0xFFFFFFFF, (state[1] + b) & 0xFFFFFFFF, (state[2] + c) & 0xFFFFFFFF, (state[3] + d) & 0xFFFFFFFF


def _blake2(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def _block_sums(data: bytes, block_len: int) -> bytes:
    blocks = (data[at : at + block_len] for at in range(0, len(data), block_len))
    return b"".join(weak_sum(block).to_bytes(4, "big") + md4(block)[:STRONG_LENGTH] for block in blocks)


def _entries(signature: bytes, strong_len: int) -> Iterator[tuple[int, bytes]]:
    for at in range(HEADER.size, len(signature), 4 + strong_len):
        yield int.from_bytes(signature[at : at + 4], "big"), signature[at + 4 : at + 4 + strong_len]


def _width(number: int) -> tuple[int, int]:
    return next((code, width) for code, (limit, width) in enumerate(_WIDTHS) if number < limit)


class _Rollsum:
    """Two running sums over bytes that move along a stream. ``size``: bytes in the window."""

    def __init__(self) -> None:
        self.size = 0
        self._low = self._high = 0

    def begin(self, data: bytes | bytearray) -> None:
        value = weak_sum(bytes(data))
        self._low, self._high, self.size = value & 0xFFFF, value >> 16, len(data)

    def roll(self, out: int, new: int) -> None:
        """One byte leaves at the front, one enters at the end."""
        self._low += new - out
        self._high += self._low - self.size * (out + _CHAR_OFFSET)

    def drop(self, out: int) -> None:
        """One byte leaves at the front."""
        self._high -= self.size * (out + _CHAR_OFFSET)
        self._low -= out + _CHAR_OFFSET
        self.size -= 1

    def value(self) -> int:
        return (self._high & 0xFFFF) << 16 | (self._low & 0xFFFF)


_SEED, _MULTIPLIER = 1, 0x08104225
_ADJUSTMENT = 0x08104224  # the seed moves along with the window: what a byte that leaves takes with it beyond its own value
_MASK = 0xFFFFFFFF


class _RabinKarp:
    """A polynomial over bytes, modulo 2^32, that moves along a stream. ``size``: bytes in the window."""

    def __init__(self) -> None:
        self.size = 0
        self._sum = 0
        self._power = 1  # the multiplier to the power of size

    def begin(self, data: bytes | bytearray) -> None:
        total = _SEED
        for byte in data:
            total = (total * _MULTIPLIER + byte) & _MASK
        self._sum, self.size, self._power = total, len(data), pow(_MULTIPLIER, len(data), 1 << 32)

    def roll(self, out: int, new: int) -> None:
        """One byte leaves at the front, one enters at the end."""
        self._sum = (self._sum * _MULTIPLIER + new - self._power * (out + _ADJUSTMENT)) & _MASK

    def drop(self, out: int) -> None:
        """One byte leaves at the front."""
        self.size -= 1
        self._power = pow(_MULTIPLIER, self.size, 1 << 32)
        self._sum = (self._sum - self._power * (out + _ADJUSTMENT)) & _MASK

    def value(self) -> int:
        return self._sum
