"""Deflate pieces: right whatever the data, small where it pays, stored where it does not."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.codecs import deflate as room
from asyncdup.codecs.deflate import END, crc32, deflate

LEVELS = [None, 1, 6, 9]
NOISE = random.Random(1).randbytes(1 << 20)
TEXT = b"".join(b"%d green bottles, hanging on the wall; " % number for number in range(30_000))[: 1 << 20]
needs_isal = pytest.mark.skipif(room.isal is None, reason="isal is not installed")


def inflated(packed: bytes) -> bytes:
    reader = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = reader.decompress(packed)
    assert reader.eof
    assert not reader.unused_data
    return plain


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 5000, 16384, 65535, 65536, 65537, 200_000])), max_size=5),
    level=st.sampled_from(LEVELS),
)
def test_joined_pieces_are_one_stream(pieces: list[tuple[bool, int]], level: int | None) -> None:
    plain = [(NOISE if noise else TEXT)[:size] for noise, size in pieces]

    assert inflated(b"".join(deflate(piece, level) for piece in plain) + END) == b"".join(plain)


@settings(max_examples=30, deadline=None)
@given(pattern=st.lists(st.booleans(), min_size=1, max_size=40), grain=st.sampled_from([1000, 16384, 40_000, 65536]))
def test_mixed_data_come_back_wherever_they_change(pattern: list[bool], grain: int) -> None:
    plain = b"".join((NOISE if noise else TEXT)[:grain] for noise in pattern)

    assert inflated(deflate(plain) + END) == plain


@needs_isal
def test_what_does_not_compress_is_stored() -> None:
    packed = deflate(NOISE)

    assert len(packed) <= len(NOISE) + 5 * 17
    assert NOISE[:65535] in packed


@needs_isal
def test_text_between_noise_is_still_packed() -> None:
    plain = NOISE[:65536] + TEXT[:65536] + NOISE[65536:131072]

    assert len(deflate(plain)) < 131072 + 65536 // 2


@needs_isal
def test_small_files_of_both_kinds_side_by_side_are_packed() -> None:
    """Two samples of 64 KiB both met noise in every fourth region of such a volume, and half of each of them was text."""
    kinds = random.Random(8).choices([NOISE, TEXT], k=128)
    plain = b"".join(kind[number * 8192 :][:8192] for number, kind in enumerate(kinds))

    assert len(deflate(plain)) < 8192 * (kinds.count(NOISE) + kinds.count(TEXT) // 5)


@needs_isal
def test_samples_of_text_decide_for_packing_although_fixed_codes_do_not_fit() -> None:
    """Bytes that are few but unusual cost more than eight bits in fixed codes: the second look sees it."""
    few = bytes(random.Random(2).choices(range(200, 216), k=65536))

    assert len(deflate(few)) < 0.6 * len(few)


def test_crc32_continues() -> None:
    assert crc32(TEXT[100:], crc32(TEXT[:100])) == zlib.crc32(TEXT)
