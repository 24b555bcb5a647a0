"""M7: one suite for every backend and every wrapper; and the suite itself finds what it is there to find."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncdup.backends.base import Backend, Body, ObjectInfo
from asyncdup.backends.blocking import BlockingAdapter
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.local import LocalBackend
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import RetryableError
from asyncdup.testing.conformance import CHECKS, Check, ConformanceError, check_backend
from asyncdup.testing.faults import Step
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend


class Folder:
    """A legacy class with the four methods it must have."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def list(self) -> list[str]:
        return os.listdir(self.path)

    def get(self, name: str, local: Path) -> None:
        shutil.copyfile(self.path / name, local)

    def put(self, name: str, local: Path) -> None:
        shutil.copyfile(local, self.path / name)

    def delete(self, name: str) -> None:
        os.unlink(self.path / name)


class AbleFolder(Folder):
    """A legacy class with all that it may have."""

    def supports_concurrency(self) -> bool:
        return True

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def move(self, source: str, target: str) -> None:
        os.replace(self.path / source, self.path / target)


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda path: MemoryBackend(),
    "local": lambda path: LocalBackend(path / "made" / "on demand"),
    "blocking, serial": lambda path: BlockingAdapter(Folder(path / "target"), path),
    "blocking, shared": lambda path: BlockingAdapter(AbleFolder(path / "target"), path),
    "blocking, one each": lambda path: BlockingAdapter(
        AbleFolder(path / "target"), path, another=lambda: AbleFolder(path / "target"), concurrency=3
    ),
    "faulty": lambda path: FaultyBackend(MemoryBackend()),
    "faulty around blocking": lambda path: FaultyBackend(BlockingAdapter(Folder(path / "target"), path)),
    "slow": lambda path: SlowBackend(MemoryBackend(), latency=0.05, jitter=0.1, rate=1e6, total_rate=2e6),
    "slow around faulty around local": lambda path: SlowBackend(FaultyBackend(LocalBackend(path / "target")), latency=0.2),
}


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("name", BACKENDS)
async def test_every_backend_keeps_every_promise(name: str, check: Check, tmp_path: Path) -> None:
    backend = BACKENDS[name](tmp_path)

    @asynccontextmanager
    async def make() -> AsyncIterator[Backend]:
        try:
            yield backend
        finally:
            await backend.aclose()

    await check.run(make, many=40, big=(2 << 20) + 7)

    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("asyncdup-")] == []


async def test_the_whole_suite_reports_what_it_has_checked() -> None:
    backend = MemoryBackend()
    backend.store.update((await filled({"precious": b"x"})).store)

    @asynccontextmanager
    async def make() -> AsyncIterator[Backend]:
        yield backend

    report = await check_backend(make, many=5)

    assert len(report.passed) + len(report.skipped) == len(CHECKS) >= 20
    assert report.skipped == ("the longest name is as long as the capabilities say",)
    assert list(backend.store) == ["precious"], "the suite leaves nothing and takes nothing"


async def filled(objects: dict[str, bytes]) -> MemoryBackend:
    backend = MemoryBackend()
    for name, data in objects.items():
        await backend.put(name, BytesBody(data))
    return backend


class Forgetful(MemoryBackend):
    async def delete(self, name: str) -> None:
        await super().stat(name)
        await super().delete(name)


class Careless(MemoryBackend):
    async def put(self, name: str, body: Body) -> ObjectInfo:
        async with body.open() as chunks:
            async for chunk in chunks:
                await super().put(name, BytesBody(chunk))  # visible, and only the last chunk
        return ObjectInfo(name, body.size)


class Sloppy(MemoryBackend):
    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().get(name, start=start) as chunks:
            yield chunks


class Wrapping(MemoryBackend):
    async def put(self, name: str, body: Body) -> ObjectInfo:
        try:
            return await super().put(name, body)
        except OSError as exc:
            raise RetryableError("blames itself for the body") from exc


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful(), "deleting what is absent succeeds"),
        (Careless(), "an object comes back as it was put"),
        (Careless(), "a cancelled put leaves nothing half done"),
        (Careless(), "a body of another size than it says is refused"),
        (Sloppy(), "a range is what was asked for"),
        (Wrapping(), "a body that fails is opened again by the next put"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryBackend) else value,
)
async def test_the_suite_finds_a_broken_promise_and_names_it(broken: Backend, check: str) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[Backend]:
        yield broken

    with pytest.raises(ConformanceError) as caught:
        await next(each for each in CHECKS if each.name == check).run(make, many=5)

    assert caught.value.check == check
    assert str(caught.value).startswith(check)


async def test_a_failing_backend_fails_a_check_with_its_error_as_the_cause() -> None:
    faulty = FaultyBackend(MemoryBackend())

    class Refusing(Step):
        async def begin(self) -> None:
            raise RetryableError("down")

    faulty.script("put", Refusing())

    @asynccontextmanager
    async def make() -> AsyncIterator[Backend]:
        yield faulty

    with pytest.raises(ConformanceError, match="RetryableError: down") as caught:
        await CHECKS[2].run(make)

    assert isinstance(caught.value.__cause__, RetryableError)
