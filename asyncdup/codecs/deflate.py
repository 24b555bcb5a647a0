"""Deflate in pieces that know nothing of each other, so that threads can make them side by side; joined they are one ordinary stream.

The fast way looks at samples first and stores what does not compress (photos, films, encrypted files): isal would pack it into literals, which
cost more time to make, and on restore ten times more to read, than stored blocks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import groupby
from typing import Any

isal: Any  # the module, which has zlib's interface; None where no wheel is for the machine
try:
    from isal import isal_zlib as isal
except ImportError:
    isal = None

# Half text, half random data, ms CPU per MiB and size against zlib 6 (29 ms): level 1 1.4 and 1.014 with the samples, 1.6 and 1.087 without;
# level 2 is 0.1 % smaller for the same time.
_FAST = 1
_FALLBACK = 6
_REGION = 65536  # bytes that are packed or stored as a whole; the parts of a large file in an archive have as many
_LEAST = 16384  # bytes of a region worth a look
_SAMPLES = 8  # of a region, spread over it: with two, small files of both kinds side by side made a volume 7 % larger
_GLANCE, _LOOK = 128, 512  # bytes of each sample: first a few, with fixed codes (2 us), then more (17 us)
_MAYBE_DENSE, _DENSE = 1.2, 0.985  # packed size against that of the samples; random data give 1.34 and 1.00, text 0.9 and 0.6
_MAX_STORED = 65535  # bytes of a stored block. Source: RFC 1951, section 3.2.4

ERRORS: tuple[type[Exception], ...] = (zlib.error,) if isal is None else (zlib.error, isal.error)
END = b"\x03\x00"  # an empty last block


def deflate(data: bytes, level: int | None = None) -> bytes:
    """``data`` as raw deflate blocks that end on a byte and refer to nothing before them.

    ``level``: 1 (fast) to 9 (small) of zlib; None is isal's fast one, or zlib 6 where isal is missing.
    """
    if level is None and isal is not None:
        return b"".join(_fast(memoryview(data)))
    return _flushed(zlib.compressobj(_FALLBACK if level is None else level, zlib.DEFLATED, -zlib.MAX_WBITS), data)


def gunzipper() -> Any:
    """A ``zlib.decompressobj`` for one gzip member, which checks its CRC and length; it raises one of ``ERRORS``."""
    return (zlib if isal is None else isal).decompressobj(16 + zlib.MAX_WBITS)


def crc32(data: bytes, value: int = 0) -> int:
    """The CRC of what had ``value``, continued by ``data``."""
    crc: int = (zlib if isal is None else isal).crc32(data, value)
    return crc


def _fast(data: memoryview) -> Iterator[bytes | memoryview]:
    regions = range(0, len(data), _REGION)
    for dense, run in groupby(regions, key=lambda at: _is_dense(data[at : at + _REGION])):
        starts = list(run)
        part = data[starts[0] : starts[-1] + _REGION]
        if dense:
            yield from _stored(part)
        else:
            yield _flushed(isal.compressobj(_FAST, zlib.DEFLATED, -zlib.MAX_WBITS), part)


def _is_dense(region: memoryview) -> bool:
    if len(region) < _LEAST:
        return False
    glance = _sample(region, _GLANCE)
    if len(_flushed(isal.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS), glance)) < _MAYBE_DENSE * len(glance):
        return False
    look = _sample(region, _LOOK)
    return len(_flushed(isal.compressobj(_FAST, zlib.DEFLATED, -zlib.MAX_WBITS), look)) > _DENSE * len(look)


def _sample(region: memoryview, size: int) -> bytes:
    step = len(region) // _SAMPLES
    return b"".join([region[at : at + size] for at in range(step // 2, step * _SAMPLES, step)])


def _stored(data: memoryview) -> Iterator[bytes | memoryview]:
    for at in range(0, len(data), _MAX_STORED):
        block = data[at : at + _MAX_STORED]
        yield b"\x00" + len(block).to_bytes(2, "little") + (len(block) ^ 0xFFFF).to_bytes(2, "little")
        yield block


def _flushed(packer: Any, data: bytes | memoryview) -> bytes:
    packed: bytes = packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed
