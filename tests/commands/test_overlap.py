"""Overlap is real: through the commands, on virtual time, with a target that takes s seconds for a call and production that takes p a volume.

The bound for N volumes and n transfers at once is ``max(N*p + s, p + ceil(N/n)*s) + max(p, s)``; then the signature archive and the manifest.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncdup import RetryPolicy
from asyncdup.codecs import Codec, Sealed, Sealer
from asyncdup.codecs.gzip import GzipCodec
from asyncdup.commands.session import Session
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise, lost
from asyncdup.testing.faulty import Call
from tests.commands.conftest import Stage, tree

VOLUMES = 8
PACES = [
    (n, p, s)
    for n in (1, 2, 5)
    for p, s in ((1.0, 1.0), (1.0, 7.0), (7.0, 1.0))  # in balance, a slow network, slow production
]


class SlowSealer:
    """A sealer that takes ``seconds`` longer."""

    def __init__(self, sealer: Sealer, seconds: float) -> None:
        self._sealer = sealer
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sealer, name)

    async def finish(self) -> Sealed:
        await anyio.sleep(self._seconds)
        return await self._sealer.finish()


class SlowCodec(GzipCodec):
    """Takes ``seconds`` for each volume that it makes or reads, and is no faster for being asked by several."""

    seconds = 0.0

    @asynccontextmanager
    async def seal(self, path: Path, **options: Any) -> AsyncIterator[Any]:
        async with super().seal(path, **options) as sealer:
            yield SlowSealer(sealer, self.seconds)

    @asynccontextmanager
    async def open(self, path: Path, **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        await anyio.sleep(self.seconds)
        async with super().open(path, **options) as chunks:
            yield chunks


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> SlowCodec:
    """The codec of volumes; local files have another."""
    slow = SlowCodec()

    def reading(session: Session, name: str) -> Codec:
        return slow

    monkeypatch.setattr(Session, "writing_codec", lambda session: slow)
    monkeypatch.setattr(Session, "reading_codec", reading)
    return slow


def bound(n: int, p: float, s: float) -> float:
    return max(VOLUMES * p + s, p + math.ceil(VOLUMES / n) * s) + max(p, s)


def calls(backend: FaultyBackend, verb: str, part: str) -> list[Call]:
    return [call for call in backend.calls if call.verb == verb and part in call.name]


def ended(calls: list[Call]) -> float:
    return max(call.ended or math.inf for call in calls)


@pytest.mark.parametrize(("n", "p", "s"), PACES)
async def test_a_backup_makes_and_sends_at_once(far: tuple[Stage, FaultyBackend], codec: SlowCodec, n: int, p: float, s: float) -> None:
    stage, backend = far
    stage.fill(VOLUMES)
    backend.inner.latency, codec.seconds = s, p

    result = await stage.backup("full", concurrency=n)

    began = ended(calls(backend, "list", "")[1:2])  # the listing that proves the lock; what is made before it waits for it
    volumes, sigtars, manifests = (calls(backend, "put", part) for part in (".difftar", ".sigtar", ".manifest"))
    assert result.volumes == len(volumes) == VOLUMES
    assert ended(volumes) - began <= bound(n, p, s)
    assert sigtars[0].began >= ended(volumes)
    assert manifests[0].began >= ended(sigtars)
    assert ended(manifests) - ended(volumes) <= (2 if n > 1 else 3) * s  # P5: the listing before the manifest has no slot of its own
    assert backend.most_at_once <= n


@pytest.mark.parametrize(("n", "p", "s"), PACES)
async def test_a_restore_fetches_and_reads_at_once(far: tuple[Stage, FaultyBackend], codec: SlowCodec, n: int, p: float, s: float) -> None:
    stage, backend = far
    stage.fill(VOLUMES)
    backend.inner.latency = 0.0
    await stage.backup("full")
    backend.calls.clear()
    backend.inner.latency, codec.seconds = s, p

    restored = await stage.restore(concurrency=n)

    began = ended(calls(backend, "get", ".manifest"))
    assert len(calls(backend, "get", ".difftar")) == VOLUMES
    assert anyio.current_time() - began <= bound(n, p, s)
    assert tree(restored) == tree(stage.source)


async def test_a_verify_fetches_and_reads_at_once(far: tuple[Stage, FaultyBackend], codec: SlowCodec) -> None:
    stage, backend = far
    stage.fill(VOLUMES)
    backend.inner.latency = 0.0
    await stage.backup("full")
    backend.calls.clear()
    backend.inner.latency, codec.seconds = 3.0, 1.0

    await stage.verify(concurrency=4)

    assert anyio.current_time() - ended(calls(backend, "get", ".manifest")) <= bound(4, 1.0, 3.0)


async def test_without_concurrency_nothing_overlaps(far: tuple[Stage, FaultyBackend], codec: SlowCodec) -> None:
    """S1: 0 runs each op inline."""
    stage, backend = far
    stage.fill(VOLUMES)
    backend.inner.latency, codec.seconds = 2.0, 1.0

    await stage.backup("full", concurrency=0)

    volumes = calls(backend, "put", ".difftar")
    assert ended(volumes) - ended(calls(backend, "list", "")[1:2]) == pytest.approx(VOLUMES * 3.0)
    assert backend.most_at_once == 1


async def test_volumes_of_all_sets_are_read_ahead(far: tuple[Stage, FaultyBackend]) -> None:
    """A chain of five sets: manifests side by side, then all volumes side by side, whatever set they are of."""
    stage, backend = far
    backend.inner.latency = 0.0
    for number in range(5):
        stage.write(f"file{number}", bytes([number]) * 1000)
        await stage.backup()
    backend.calls.clear()
    backend.inner.latency = 1.0
    began = anyio.current_time()

    restored = await stage.restore(concurrency=5)

    assert anyio.current_time() - began == pytest.approx(3.0)  # the listing, five manifests, five volumes
    assert tree(restored) == tree(stage.source)


async def test_old_signatures_are_read_at_once(far: tuple[Stage, FaultyBackend]) -> None:
    """An incremental on a machine without the cache fetches the signatures of the whole chain."""
    stage, backend = far
    backend.inner.latency = 0.0
    for number in range(5):
        stage.write(f"file{number}")
        await stage.backup()
    backend.calls.clear()
    backend.inner.latency = 1.0

    await stage.backup("incremental", archive_dir=stage.folder / "other", concurrency=7)  # one for the lock, one for the manifest

    sigtars = calls(backend, "get", ".sigtar")
    assert len(sigtars) == 5
    assert ended(sigtars) - min(call.began for call in sigtars) == pytest.approx(1.0)


async def test_a_volume_that_fails_does_not_hold_up_the_others(far: tuple[Stage, FaultyBackend], codec: SlowCodec) -> None:
    """S2, S4: neither a slot nor the spool's order is held while one volume backs off."""
    stage, backend = far
    stage.fill(VOLUMES)
    backend.inner.latency, codec.seconds = 2.0, 0.0
    backend.script("put", Raise(lost), Raise(lost), name="*vol1.*")

    await stage.backup("full", concurrency=2, retry=RetryPolicy(delay=4.0))

    first, *rest = sorted(calls(backend, "put", ".difftar"), key=lambda call: call.ended or 0.0, reverse=True)
    assert ".vol1." in first.name
    assert ended(rest) - ended(calls(backend, "list", "")) <= math.ceil(VOLUMES / 2) * 2.0 + 2.0
