"""Legacy objects that can be interrupted (T5), that list with sizes, and that cannot tell a size."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.backends.blocking import BlockingAdapter
from asyncdup.backends.bodies import BytesBody

pytestmark = pytest.mark.realtime


class Hanging:
    """Hangs in ``put`` of "hang" until it is interrupted."""

    made: list[Hanging]

    def __init__(self, store: dict[str, bytes], made: list[Hanging]) -> None:
        self.store = store
        self.begun, self.interrupted, self.closed = threading.Event(), threading.Event(), 0
        made.append(self)

    def list(self) -> list[str]:
        raise AssertionError("list_infos is asked instead")

    def list_infos(self) -> list[ObjectInfo]:
        return [ObjectInfo("known", 5), ObjectInfo("unknown", UNKNOWN_SIZE), ObjectInfo("a/b", 1)]

    def get(self, name: str, local: Path) -> None:
        local.write_bytes(self.store[name])

    def put(self, name: str, local: Path) -> None:
        if name == "hang":
            self.begun.set()
            assert self.interrupted.wait(100), "it was left hanging"
            raise OSError("given up")
        self.store[name] = local.read_bytes()

    def delete(self, name: str) -> None:
        self.store.pop(name, None)

    def stat(self, name: str) -> ObjectInfo | None:
        return None

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed += 1


async def test_t5_an_interrupted_object_is_closed_and_another_takes_its_place(tmp_path: Path) -> None:
    store: dict[str, bytes] = {}
    made: list[Hanging] = []
    backend = BlockingAdapter(Hanging(store, made), tmp_path, another=lambda: Hanging(store, made))
    assert not backend.supports_concurrency()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.put, "hang", BytesBody(b"x"))
        while not made[0].begun.is_set():
            await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(60):
        await backend.wait_idle()
        await backend.put("after", BytesBody(b"y"))
        await backend.put("again", BytesBody(b"z"))
    await backend.aclose()

    assert store == {"after": b"y", "again": b"z"}
    assert [each.closed for each in made] == [1, 1], "one new object, and each is closed once"
    assert list(tmp_path.iterdir()) == []


async def test_an_object_that_cannot_tell_a_size_is_listed_without_and_fetched_to_be_measured(tmp_path: Path) -> None:
    backend = BlockingAdapter(Hanging({}, []), tmp_path)
    assert (await backend.put("x", BytesBody(b"abc"))).size == 3
    assert (await backend.stat("x")).size == 3
    async with backend.list() as infos:
        assert [(info.name, info.size) async for info in infos] == [("known", 5), ("unknown", UNKNOWN_SIZE)]
    async with backend.list("unk") as infos:
        assert [info.name async for info in infos] == ["unknown"]
    await backend.aclose()
