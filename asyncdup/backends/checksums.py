"""CRC-32 as fast as this machine has it, of bytes, files and bodies."""

from __future__ import annotations

from pathlib import Path

from asyncdup.backends.base import Body

try:
    from isal.isal_zlib import crc32  # ten times as fast as zlib's
except ImportError:  # no wheel for this machine
    from zlib import crc32

__all__ = ["crc32", "crc32_of", "crc32_of_file"]

_BLOCK = 256 << 10  # bytes: stays in the processor's cache between reading and summing


async def crc32_of(body: Body) -> str:
    """Of all bytes of ``body``, in hex; reads it once."""
    value = 0
    async with body.open() as chunks:
        async for chunk in chunks:
            value = crc32(chunk, value)
    return f"{value:08x}"


def crc32_of_file(path: Path, start: int, length: int) -> str:
    """Of ``length`` bytes from ``start``, or up to the file's end, in hex. Blocks: for a thread."""
    value, left = 0, length
    block = memoryview(bytearray(min(_BLOCK, max(1, length))))
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while left > 0 and (count := file.readinto(block[: min(left, len(block))])):
            value = crc32(block[:count], value)
            left -= count
    return f"{value:08x}"
