"""Pouring: chunk after chunk into a function in one thread call, with the same bytes and errors as the iterator has."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from asyncdup.codecs import Codec
from asyncdup.codecs.gzip import GzipCodec
from asyncdup.codecs.plain import PlainCodec
from asyncdup.errors import FormatError
from asyncdup.threads import on_loop

PLAIN = b"".join(b"%d," % number for number in range(200_000))
CHUNK = 65536


@pytest.fixture(params=[GzipCodec(), PlainCodec()], ids=["gzip", "plain"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return request.param


@pytest.fixture
async def path(codec: Codec, tmp_path: Path) -> Path:
    async with codec.seal(tmp_path / "stored") as sealer:
        await sealer.feed(PLAIN)
        await sealer.finish()
    return tmp_path / "stored"


async def test_all_bytes_come_in_order_and_false_says_the_end(codec: Codec, path: Path) -> None:
    got: list[bytes] = []
    async with codec.open(path, chunk=CHUNK) as chunks:
        while await chunks.pour(lambda chunk: got.append(chunk) is None, 3 * CHUNK):
            assert got

    assert b"".join(got) == PLAIN


async def test_a_pour_ends_at_its_size(codec: Codec, path: Path) -> None:
    got: list[bytes] = []
    async with codec.open(path, chunk=CHUNK) as chunks:
        more = await chunks.pour(lambda chunk: got.append(chunk) is None, CHUNK + 1)

    assert more
    assert CHUNK < sum(map(len, got)) <= 2 * CHUNK


async def test_who_takes_says_when_it_is_enough(codec: Codec, path: Path) -> None:
    got: list[bytes] = []
    async with codec.open(path, chunk=CHUNK) as chunks:
        more = await chunks.pour(lambda chunk: got.append(chunk) is not None, 1 << 30)
        rest = [chunk async for chunk in chunks]

    assert more
    assert len(got) == 1
    assert b"".join([*got, *rest]) == PLAIN


async def test_what_the_taker_raises_comes_out(codec: Codec, path: Path) -> None:
    def refuse(chunk: bytes) -> bool:
        raise KeyError(len(chunk))

    async with codec.open(path) as chunks:
        with pytest.raises(KeyError):
            await chunks.pour(refuse, 1)


async def test_damage_comes_out(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"\x1f\x8b\x08 no gzip")
    async with GzipCodec().open(tmp_path / "x.gz") as chunks:
        with pytest.raises(FormatError):
            await chunks.pour(lambda chunk: True, 1)


async def test_the_taker_runs_in_a_thread_and_may_call_back_into_the_loop(codec: Codec, path: Path) -> None:
    """As the merger does when it reports a problem."""
    seen: list[tuple[threading.Thread, asyncio.AbstractEventLoop]] = []

    def take(chunk: bytes) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(on_loop(lambda: (threading.current_thread(), asyncio.get_running_loop())))
        return True

    async with codec.open(path) as chunks:
        await chunks.pour(take, 1)

    assert seen == [(threading.main_thread(), asyncio.get_running_loop())]
