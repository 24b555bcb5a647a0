"""Legacy classes in threads: one call at a time (S8), abandoned calls (T5), errors (section 3), puts without atomicity (I3)."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncdup.backends.base import ObjectInfo, SupportsWaitIdle
from asyncdup.backends.blocking import BlockingAdapter, register_blocking
from asyncdup.backends.bodies import BytesBody, FileBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.urls import Location
from asyncdup.errors import (
    BackendError,
    BadRequest,
    IntegrityError,
    NotFound,
    OperatorError,
    PermanentError,
    RetryableError,
    Unsupported,
)

BODY = BytesBody(b"body")
LONG = 20.0  # real seconds after which a test's thread gives up waiting, so that a failing test ends


class Legacy:
    """Objects in a dict. ``on_call`` runs inside each call; ``log`` and ``most_at_once`` tell what ran when."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = {} if objects is None else objects
        self.on_call: Callable[[str, str], None] = lambda verb, name: None
        self.log: list[tuple[str, str]] = []
        self.paths: list[Path] = []
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def _enter(self, verb: str, name: str) -> None:
        with self._lock:
            self.log.append((verb, name))
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            self.on_call(verb, name)
        finally:
            with self._lock:
                self._running -= 1

    def list(self) -> list[str]:
        self._enter("list", "")
        return list(self.objects)

    def get(self, name: str, local: Path) -> None:
        self._enter("get", name)
        if name not in self.objects:
            raise FileNotFoundError(2, "no such object", name)
        local.write_bytes(self.objects[name])

    def put(self, name: str, local: Path) -> None:
        self.paths.append(local)
        self._enter("put", name)
        self.objects[name] = local.read_bytes()

    def delete(self, name: str) -> None:
        self._enter("delete", name)
        if self.objects.pop(name, None) is None:
            raise FileNotFoundError(2, "no such object", name)


class Concurrent(Legacy):
    def supports_concurrency(self) -> bool:
        return True


class Moving(Concurrent):
    def move(self, source: str, target: str) -> None:
        self._enter("move", source)
        self.objects[target] = self.objects.pop(source)


def gate_on(legacy: Legacy, verb: str, name: str = "x") -> tuple[threading.Event, threading.Event]:
    """Let calls of ``verb`` on ``name`` wait: (one has begun, let them go on)."""
    begun, go_on = threading.Event(), threading.Event()

    def on_call(called: str, on: str) -> None:
        if (called, on) == (verb, name):
            begun.set()
            assert go_on.wait(LONG)

    legacy.on_call = on_call
    return begun, go_on


async def until(event: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(event.wait, LONG)


async def abandon_put(backend: BlockingAdapter, begun: threading.Event, name: str = "x", body: bytes = b"late") -> None:
    """Cancel a put as soon as the legacy class is in it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.put, name, BytesBody(body))
        await until(begun)
        tasks.cancel_scope.cancel()


async def listed(backend: BlockingAdapter) -> dict[str, int]:
    async with backend.list() as infos:
        return {info.name: info.size async for info in infos}


async def use_everything(backend: BlockingAdapter, name: str) -> None:
    await backend.put(name, BODY)
    await backend.stat(name)
    async with backend.get(name) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"body"
    await listed(backend)
    await backend.delete(name)


async def test_a_class_that_says_nothing_is_called_one_at_a_time_for_every_verb(tmp_path: Path) -> None:
    """S8."""
    legacy = Legacy()
    backend = BlockingAdapter(legacy, tmp_path)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(use_everything, backend, f"x{number}")

    assert legacy.most_at_once == 1
    assert not backend.supports_concurrency()
    assert backend.capabilities().max_concurrency == 1


async def test_one_object_that_supports_concurrency_is_shared_up_to_the_limit(tmp_path: Path) -> None:
    legacy = Concurrent()
    together = threading.Barrier(3)
    legacy.on_call = lambda verb, name: together.wait(LONG) and None if verb == "put" else None
    backend = BlockingAdapter(legacy, tmp_path, concurrency=3)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(backend.put, f"x{number}", BODY)

    assert legacy.most_at_once == 3
    assert backend.supports_concurrency()


async def test_with_a_factory_each_call_that_runs_has_an_object_of_its_own(tmp_path: Path) -> None:
    objects: dict[str, bytes] = {}
    made: list[Concurrent] = []
    together = threading.Barrier(3)

    def another() -> Concurrent:
        made.append(legacy := Concurrent(objects))
        legacy.on_call = lambda verb, name: together.wait(LONG) and None if verb == "put" else None
        return legacy

    backend = BlockingAdapter(another(), tmp_path, another=another, concurrency=3)
    async with anyio.create_task_group() as tasks:
        for number in range(9):
            tasks.start_soon(backend.put, f"x{number}", BODY)

    assert len(made) == 3
    assert [legacy.most_at_once for legacy in made] == [1, 1, 1]
    assert len(objects) == 9


async def test_an_abandoned_call_holds_a_serial_backend_until_it_returns(tmp_path: Path) -> None:
    """T5, S8."""
    legacy = Legacy()
    begun, go_on = gate_on(legacy, "put")
    backend = BlockingAdapter(legacy, tmp_path)
    idle_before_return = True

    await abandon_put(backend, begun)
    with anyio.move_on_after(100) as waited:
        await backend.wait_idle()
    with anyio.move_on_after(100) as called:
        await listed(backend)
    go_on.set()
    await backend.wait_idle()
    idle_before_return = not waited.cancelled_caught

    assert not idle_before_return and called.cancelled_caught
    assert legacy.log == [("put", "x")], "nothing may start while the abandoned call lives"
    assert await listed(backend) == {"x": -1}, "the call did run to its end"
    assert legacy.most_at_once == 1
    assert isinstance(backend, SupportsWaitIdle)


async def test_the_result_of_an_abandoned_call_is_dropped(tmp_path: Path) -> None:
    """T5: also if it is an error."""
    legacy = Legacy()
    begun, go_on = gate_on(legacy, "get")
    backend = BlockingAdapter(legacy, tmp_path)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: cancel_when(begun, scope))
            async with backend.get("x"):
                pass
    go_on.set()
    await backend.wait_idle()

    assert scope.cancelled_caught
    await backend.put("x", BODY)
    assert legacy.objects == {"x": b"body"}


async def cancel_when(begun: threading.Event, scope: anyio.CancelScope) -> None:
    await until(begun)
    scope.cancel()


async def test_the_spooled_body_of_an_abandoned_put_stays_until_its_thread_has_ended(tmp_path: Path) -> None:
    legacy = Legacy()
    begun, go_on = gate_on(legacy, "put")
    backend = BlockingAdapter(legacy, tmp_path)

    await abandon_put(backend, begun, body=b"late")
    assert legacy.paths[0].read_bytes() == b"late"
    go_on.set()
    await backend.wait_idle()

    assert legacy.objects == {"x": b"late"}
    assert os.listdir(tmp_path) == []


async def test_a_concurrent_backend_starts_nothing_on_the_name_of_an_abandoned_call(tmp_path: Path) -> None:
    """T5: unless puts are atomic."""
    legacy = Concurrent()
    begun, go_on = gate_on(legacy, "put")
    backend = BlockingAdapter(legacy, tmp_path)

    await abandon_put(backend, begun)
    await backend.put("other", BODY)
    with anyio.move_on_after(100) as same_name:
        await backend.put("x", BODY)
    go_on.set()
    await backend.put("x", BODY)

    assert same_name.cancelled_caught
    assert [name for verb, name in legacy.log] == ["x", "other", "x"]
    assert legacy.objects["x"] == b"body"


async def test_an_atomic_backend_may_put_a_name_again_while_an_abandoned_call_lives(tmp_path: Path) -> None:
    """T5."""
    legacy = Moving()
    first_begun, go_on = threading.Event(), threading.Event()

    def on_call(verb: str, name: str) -> None:
        if verb == "put" and not first_begun.is_set():
            first_begun.set()
            assert go_on.wait(LONG)

    legacy.on_call = on_call
    backend = BlockingAdapter(legacy, tmp_path)

    await abandon_put(backend, first_begun)
    await backend.put("x", BODY)
    assert legacy.objects == {"x": b"body"}
    go_on.set()
    await backend.wait_idle()

    assert set(legacy.objects) == {"x"}
    assert backend.capabilities().atomic_put and backend.capabilities().server_move


async def test_a_call_that_is_cancelled_before_its_turn_leaves_nothing(tmp_path: Path) -> None:
    legacy = Legacy()
    begun, go_on = gate_on(legacy, "put")
    backend = BlockingAdapter(legacy, tmp_path)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.put, "x", BODY)
        await until(begun)
        async with anyio.create_task_group() as others:
            others.start_soon(backend.put, "never", BODY)
            while sum(path.stat().st_size for path in tmp_path.glob("*/object")) < 2 * BODY.size:
                await anyio.lowlevel.checkpoint()  # until the second body is spooled and waits for its turn
            others.cancel_scope.cancel()
        go_on.set()
    await backend.wait_idle()
    await backend.put("after", BODY)

    assert sorted(legacy.objects) == ["after", "x"]
    assert os.listdir(tmp_path) == []


async def test_a_call_cancelled_before_a_thread_takes_it_never_runs(tmp_path: Path) -> None:
    legacy = Legacy()
    backend = BlockingAdapter(legacy, tmp_path)

    with anyio.CancelScope() as scope:
        scope.cancel()
        await listed(backend)
    await backend.wait_idle()

    assert await listed(backend) == {}
    assert legacy.log == [("list", "")]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (FileNotFoundError(2, "gone"), NotFound),
        (NotFound("gone"), NotFound),
        (PermissionError(13, "no"), OperatorError),
        (OSError(28, "full"), OperatorError),
        (ConnectionResetError(104, "reset"), RetryableError),
        (TimeoutError(), RetryableError),
        (EOFError(), RetryableError),
        (OperatorError("quota"), OperatorError),
        (NotImplementedError(), Unsupported),
        (IntegrityError("bad"), IntegrityError),
        (type("LibraryError", (Exception,), {})("odd"), RetryableError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
async def test_errors_of_a_legacy_class_are_classed(raised: Exception, expected: type[BackendError], tmp_path: Path) -> None:
    """Engine semantics, section 3; the original is the cause, so that giving up raises it (C3)."""
    legacy = Legacy()
    backend = BlockingAdapter(legacy, tmp_path)

    def fail(*_: Any) -> None:
        raise raised

    legacy.on_call = fail

    with pytest.raises(BackendError) as caught:
        async with backend.get("x"):
            pass

    assert type(caught.value) is expected
    assert caught.value is raised or isinstance(raised, NotImplementedError) or caught.value.__cause__ is raised


@pytest.mark.parametrize("bug", [TypeError(), AttributeError(), AssertionError(), KeyError(), json.JSONDecodeError("x", "", 0)])
async def test_bugs_of_a_legacy_class_come_out_as_they_are(bug: Exception, tmp_path: Path) -> None:
    """C4."""
    legacy = Legacy()

    def fail(*_: Any) -> None:
        raise bug

    legacy.on_call = fail

    with pytest.raises(type(bug)) as caught:
        await BlockingAdapter(legacy, tmp_path).put("x", BODY)

    assert caught.value is bug


async def test_a_failed_write_is_ambiguous_and_a_failed_read_is_not(tmp_path: Path) -> None:
    legacy = Legacy({"x": b""})
    backend = BlockingAdapter(legacy, tmp_path)

    def fail(*_: Any) -> None:
        raise ConnectionResetError(104, "reset")

    legacy.on_call = fail

    for call, ambiguous in ((backend.put("x", BODY), True), (backend.delete("x"), True), (backend.stat("x"), False)):
        with pytest.raises(RetryableError) as caught:
            await call
        assert caught.value.ambiguous is ambiguous


async def test_a_failed_put_is_followed_by_delete_then_put(tmp_path: Path) -> None:
    """I3, for a class that cannot rename."""
    legacy = Legacy()
    backend = BlockingAdapter(legacy, tmp_path)
    failures = iter([True, False])

    def fail_once(verb: str, name: str) -> None:
        if verb == "put" and next(failures):
            legacy.objects[name] = b"bo"
            raise ConnectionResetError(104, "reset")

    legacy.on_call = fail_once

    with pytest.raises(RetryableError):
        await backend.put("x", BODY)
    await backend.put("x", BODY)

    assert [verb for verb, _ in legacy.log] == ["put", "delete", "put"]
    assert legacy.objects == {"x": b"body"}


async def test_a_class_that_can_move_puts_under_a_temporary_name(tmp_path: Path) -> None:
    """I3; what a failed put has left is removed by the next."""
    legacy = Moving()
    backend = BlockingAdapter(legacy, tmp_path)
    failures = iter([True, False])

    def fail_once(verb: str, name: str) -> None:
        if verb == "put" and next(failures):
            legacy.objects[name] = b"bo"
            raise ConnectionResetError(104, "reset")

    legacy.on_call = fail_once

    with pytest.raises(RetryableError):
        await backend.put("x", BODY)
    assert [name[:10] for name in legacy.objects] == [".asyncdup-"]
    await backend.put("x", BODY)

    assert legacy.objects == {"x": b"body"}


async def test_a_whole_file_is_handed_over_and_a_slice_is_copied(tmp_path: Path) -> None:
    legacy = Legacy()
    backend = BlockingAdapter(legacy, tmp_path)
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")

    await backend.put("whole", FileBody(file, 10))
    await backend.put("slice", FileBody(file, 3, offset=2))
    await backend.put("head", FileBody(file, 4))
    with pytest.raises(IntegrityError):
        await backend.put("shrunk", FileBody(file, 11))

    assert legacy.paths[0] == file
    assert legacy.objects == {"whole": b"0123456789", "slice": b"234", "head": b"0123"}
    assert os.listdir(tmp_path) == ["file"]


async def test_sizes_come_from_the_class_if_it_can_tell(tmp_path: Path) -> None:
    class Sized(Legacy):
        def size(self, name: str) -> int:
            return len(self.objects[name]) if name in self.objects else int(self.get(name, Path()) or 0)

    class Stating(Legacy):
        def stat(self, name: str) -> ObjectInfo:
            return ObjectInfo(name, 7, mtime=1.0)

    sized, mute = BlockingAdapter(Sized({"x": b"123"}), tmp_path), BlockingAdapter(Legacy({"x": b"123"}), tmp_path)

    assert await listed(sized) == {"x": 3}
    assert (await sized.put("y", BODY)).size == 4
    assert await listed(mute) == {"x": -1}
    assert (await mute.stat("x")).size == 3, "fetched and measured"
    assert await BlockingAdapter(Stating(), tmp_path).put("x", BODY) == ObjectInfo("x", 7, mtime=1.0)
    for backend in (sized, mute):
        with pytest.raises(NotFound):
            await backend.stat("absent")


async def test_hostile_names_in_a_listing_are_no_objects(tmp_path: Path) -> None:
    """P16."""
    legacy = Legacy({"../../etc/passwd": b"", "a/b": b"", "": b"", "ok": b""})

    assert list(await listed(BlockingAdapter(legacy, tmp_path))) == ["ok"]


async def test_a_location_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    legacy = Legacy()

    def absent(*_: Any) -> None:
        raise FileNotFoundError(2, "no such folder")

    legacy.on_call = absent

    assert await listed(BlockingAdapter(legacy, tmp_path)) == {}


async def test_a_get_that_writes_nothing_is_tried_again(tmp_path: Path) -> None:
    class Lazy(Legacy):
        def get(self, name: str, local: Path) -> None:
            pass

    with pytest.raises(RetryableError, match="Lazy.get returned without writing"):
        async with BlockingAdapter(Lazy(), tmp_path).get("x"):
            pass


async def test_move_needs_a_class_that_can(tmp_path: Path) -> None:
    backend = BlockingAdapter(Legacy({"x": b""}), tmp_path)

    with pytest.raises(Unsupported):
        await backend.move("x", "y")
    with pytest.raises(BadRequest):
        await backend.move("x", "../y")
    assert issubclass(Unsupported, PermanentError) and not backend.capabilities().server_move


async def test_closing_waits_for_calls_but_not_for_ever(tmp_path: Path) -> None:
    """S8: close has its turn like any call; an abandoned call that hangs does not hold the program's end."""

    class Closing(Legacy):
        def close(self) -> None:
            self._enter("close", "")

    legacy, stuck = Closing(), Closing()
    begun, go_on = gate_on(stuck, "put")
    backend, hanging = BlockingAdapter(legacy, tmp_path), BlockingAdapter(stuck, tmp_path)
    await backend.put("x", BODY)
    await abandon_put(hanging, begun)

    for _ in range(2):
        await backend.aclose()
    before = anyio.current_time()
    await hanging.aclose()
    took = anyio.current_time() - before
    go_on.set()
    await hanging.wait_idle()

    assert [verb for verb, _ in legacy.log] == ["put", "close"]
    assert took == 5
    assert [verb for verb, _ in stuck.log] == ["put"]


async def test_a_registered_class_is_opened_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdup.backends.registry._FACTORIES", {})

    class Folder:
        def __init__(self, location: Location) -> None:
            self.path = Path(location.path)

        def list(self) -> list[str]:
            return os.listdir(self.path)

        def get(self, name: str, local: Path) -> None:
            shutil.copyfile(self.path / name, local)

        def put(self, name: str, local: Path) -> None:
            shutil.copyfile(local, self.path / name)

        def delete(self, name: str) -> None:
            os.unlink(self.path / name)

        def supports_concurrency(self) -> bool:
            return True

    register_blocking("folder", Folder)
    (tmp_path / "target").mkdir()

    backend = open_backend(f"folder://u:secret@host/{tmp_path}/target", BackendOptions(tempdir=tmp_path, concurrency=2))
    await backend.put("x", BODY)

    assert (tmp_path / "target" / "x").read_bytes() == b"body"
    assert backend.capabilities().max_concurrency == 2
    assert "secret" not in backend.description
