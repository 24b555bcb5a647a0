"""Pieces of one file in two threads: order, bounds, failures, and leaving early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import anyio
import pytest

from asyncdup.codecs.pipeline import AT_ONCE, Pipeline, read_chunks

PATIENCE = 60.0  # seconds until a test that hangs fails


async def test_pieces_are_written_in_order_though_the_later_is_ready_first() -> None:
    second_ready = threading.Event()
    written: list[tuple[str, bytes]] = []

    def transform(name: str) -> bytes:
        if name == "first":
            assert second_ready.wait(PATIENCE)
        else:
            second_ready.set()
        return name.encode() * 2

    pipeline: Pipeline[str] = Pipeline(transform, lambda name, data: written.append((name, data)))
    for name in ("first", "second", "third"):
        await pipeline.feed(name, len(name))
    await pipeline.drain()

    assert written == [("first", b"firstfirst"), ("second", b"secondsecond"), ("third", b"thirdthird")]
    assert (pipeline.written, pipeline.pending) == (32, 0)


@pytest.mark.realtime
async def test_two_pieces_are_accepted_and_the_third_waits() -> None:
    go_on = threading.Event()
    pipeline: Pipeline[bytes] = Pipeline(lambda data: go_on.wait(PATIENCE) and data or b"", lambda item, data: None)
    try:
        for _ in range(AT_ONCE):
            await pipeline.feed(b"piece", 5)
        with anyio.move_on_after(0.05) as scope:
            await pipeline.feed(b"piece", 5)
        assert scope.cancelled_caught
        assert pipeline.pending == 5 * AT_ONCE
    finally:
        go_on.set()
        await pipeline.settle()


@pytest.mark.parametrize("where", ["transform", "write"])
async def test_a_failure_is_raised_by_every_later_call(where: str) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("no room")

    pipeline: Pipeline[bytes] = Pipeline(fail if where == "transform" else bytes, fail if where == "write" else lambda item, data: None)
    await pipeline.feed(b"1", 1)
    calls: list[Callable[[], object]] = [pipeline.drain, pipeline.drain, lambda: pipeline.end(lambda: None)]
    for call in calls:
        with pytest.raises(OSError, match="no room"):
            await call()  # type: ignore[misc]
    await pipeline.settle()


async def test_a_failure_does_not_let_later_pieces_be_written() -> None:
    written: list[bytes] = []

    def transform(data: bytes) -> bytes:
        if data == b"bad":
            raise ValueError(data)
        return data

    pipeline: Pipeline[bytes] = Pipeline(transform, lambda item, data: written.append(data))
    await pipeline.feed(b"bad", 3)
    await pipeline.feed(b"good", 4)
    await pipeline.settle()

    assert written == []


@pytest.mark.realtime
async def test_settle_waits_for_the_threads_also_when_cancelled() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def transform(data: bytes) -> bytes:
        assert go_on.wait(PATIENCE)
        ended.set()
        return data

    pipeline: Pipeline[bytes] = Pipeline(transform, lambda item, data: None)
    with anyio.CancelScope() as scope:
        await pipeline.feed(b"piece", 5)
        scope.cancel()
        threading.Timer(0.05, go_on.set).start()
        await pipeline.settle()
        assert ended.is_set()


@pytest.mark.realtime
async def test_a_reader_left_early_is_stopped_before_it_is_waited_for() -> None:
    stopped, closed = threading.Event(), threading.Event()
    loop, scope = asyncio.get_running_loop(), anyio.CancelScope()

    def chunks():  # type: ignore[no-untyped-def]
        try:
            yield b"first"
            loop.call_soon_threadsafe(scope.cancel)
            assert stopped.wait(PATIENCE)
            yield b"second"
        finally:
            closed.set()

    with scope:
        async with read_chunks(chunks(), stop=stopped.set) as reader:
            assert [chunk async for chunk in reader] == "never reached"

    assert scope.cancelled_caught
    assert stopped.is_set()
    assert closed.is_set()


async def test_an_error_of_a_reader_is_raised_where_it_is_read() -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield b"first"
        raise ValueError("damaged")

    seen = []
    with pytest.raises(ValueError, match="damaged"):
        async with read_chunks(chunks()) as reader:
            async for chunk in reader:
                seen.append(chunk)
    assert seen == [b"first"]
