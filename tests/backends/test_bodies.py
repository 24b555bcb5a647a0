"""Bodies open again, from any offset, and leave nothing open when their reader stops half-way."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from asyncdup.backends.base import Body
from asyncdup.backends.bodies import CHUNK, BytesBody, FileBody, PipedBody
from asyncdup.errors import IntegrityError

DATA = os.urandom(2 * CHUNK + 10)


async def read(body: Body, start: int = 0) -> list[bytes]:
    async with body.open(start) as chunks:
        return [chunk async for chunk in chunks]


def bodies(path: Path) -> dict[str, Body]:
    path.write_bytes(b"head" + DATA + b"tail")
    return {"bytes": BytesBody(DATA), "slice of a file": FileBody(path, len(DATA), offset=4), "piped": PipedBody(BytesBody(DATA), doubled)}


async def doubled(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
            yield half


@pytest.mark.parametrize("kind", ["bytes", "slice of a file", "piped"])
@pytest.mark.parametrize("start", [0, 1, CHUNK, len(DATA) - 1, len(DATA)])
async def test_a_body_opens_again_from_any_offset(kind: str, start: int, tmp_path: Path) -> None:
    body = bodies(tmp_path / "x")[kind]

    for _ in range(2):
        chunks = await read(body, start)
        assert b"".join(chunks) == DATA[start:]
        assert all(len(chunk) <= CHUNK for chunk in chunks)
    assert body.size == len(DATA)


@pytest.mark.parametrize("kind", ["bytes", "slice of a file", "piped"])
async def test_a_reader_may_stop_half_way(kind: str, tmp_path: Path) -> None:
    body = bodies(tmp_path / "x")[kind]

    async with body.open() as chunks:
        await anext(aiter(chunks))

    with pytest.raises(StopAsyncIteration):
        await anext(aiter(chunks))


async def test_a_file_that_has_shrunk_is_an_integrity_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")

    with pytest.raises(IntegrityError, match="3 bytes shorter"):
        await read(FileBody(path, 8))


def test_only_a_whole_file_is_handed_over_as_a_path(tmp_path: Path) -> None:
    assert FileBody(tmp_path, 1).local_path == tmp_path
    assert FileBody(tmp_path, 1, offset=1).local_path is None


def test_a_body_shows_its_size_and_not_its_bytes() -> None:
    """V3: no event holds a body, not even through a repr."""
    assert "secret" not in repr(BytesBody(b"secret"))
    assert PipedBody(BytesBody(b"x", {"sha1": "y"}), doubled).digests == {"sha1": "y"}
