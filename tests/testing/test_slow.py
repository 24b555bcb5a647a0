"""A slow backend takes the time it was told to take, on the loop's clock."""

from __future__ import annotations

import random

import anyio
import pytest

from asyncdup.backends.base import Capabilities
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import Unsupported
from asyncdup.testing.slow import SlowBackend

MIB = 1 << 20


async def put_and_get(backend: SlowBackend, name: str, size: int) -> None:
    await backend.put(name, BytesBody(bytes(size)))
    async with backend.get(name) as chunks:
        assert sum([len(chunk) async for chunk in chunks]) == size


async def test_each_call_takes_the_latency() -> None:
    backend = SlowBackend(MemoryBackend(), latency=0.5)

    await backend.put("x", BytesBody(b"x"))
    await backend.stat("x")
    await backend.move("x", "y")
    async with backend.list() as infos:
        assert [info.name async for info in infos] == ["y"]
    await backend.delete("y")
    await backend.put_if_absent("z", BytesBody(b""))

    assert anyio.current_time() == pytest.approx(3.0)


async def test_a_stream_has_its_rate_however_many_there_are() -> None:
    backend = SlowBackend(MemoryBackend(), rate=MIB)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(put_and_get, backend, f"x{number}", 3 * MIB)

    assert anyio.current_time() == pytest.approx(6.0)


async def test_all_streams_share_the_total_rate() -> None:
    backend = SlowBackend(MemoryBackend(), rate=4 * MIB, total_rate=2 * MIB)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(put_and_get, backend, f"x{number}", MIB)

    assert anyio.current_time() == pytest.approx(4.0, rel=0.05)


async def test_a_reader_that_pauses_earns_nothing_by_it() -> None:
    backend = SlowBackend(MemoryBackend(), rate=MIB)
    await backend.inner.put("x", BytesBody(bytes(2 * MIB)))
    seen = 0

    async with backend.get("x") as chunks:
        async for chunk in chunks:
            seen += len(chunk)
            if seen == MIB:
                await anyio.sleep(10)

    assert anyio.current_time() == pytest.approx(12.0, abs=0.11)


async def test_jitter_comes_from_the_source_it_is_given() -> None:
    times = []
    for _ in range(2):
        began = anyio.current_time()
        backend = SlowBackend(MemoryBackend(), latency=1, jitter=1, rng=random.Random(5))
        for _ in range(10):
            await backend.delete("x")
        times.append(anyio.current_time() - began)

    assert times[0] == pytest.approx(times[1])
    assert 10 < times[0] < 20


async def test_a_large_object_is_slow_in_small_steps() -> None:
    """So that progress, stall clocks and cancels meet a stream and not one jump."""
    backend = SlowBackend(MemoryBackend(), rate=MIB)
    await backend.inner.put("x", BytesBody(bytes(MIB)))

    async with backend.get("x") as chunks:
        sizes = [len(chunk) async for chunk in chunks]

    assert sizes == [65536] * 16


async def test_it_has_the_capabilities_of_what_it_wraps() -> None:
    """Q5."""

    class Poor:
        description = "poor"

        def capabilities(self) -> Capabilities:
            return Capabilities(max_concurrency=3)

        def supports_concurrency(self) -> bool:
            return False

        async def aclose(self) -> None:
            pass

    slow = SlowBackend(Poor())  # type: ignore[arg-type]

    assert slow.capabilities() == Capabilities(max_concurrency=3)
    assert not slow.supports_concurrency()
    assert slow.description == "poor"
    with pytest.raises(Unsupported):
        await slow.put_if_absent("x", BytesBody(b""))
    with pytest.raises(Unsupported):
        await slow.move("x", "y")
    await slow.wait_idle()
    await slow.aclose()
