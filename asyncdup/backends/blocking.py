"""The legacy interface: a class with blocking methods on local paths, run in threads (S8, T5) behind the interface of ``base``.

A thread cannot be stopped. A call that is cancelled is abandoned: it keeps its place until it returns, its result is dropped, and nothing
starts that it could disturb.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TypeVar

import anyio

from asyncdup.backends import legacy_calls
from asyncdup.backends.base import BlockingBackend, Body, Capabilities, ObjectInfo
from asyncdup.backends.bodies import FileBody
from asyncdup.backends.names import check_name, temp_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.oserrors import os_errors
from asyncdup.backends.registry import register_backend
from asyncdup.backends.urls import Location
from asyncdup.errors import AsyncdupError, IntegrityError
from asyncdup.threads import in_thread

T = TypeVar("T")

_CLOSING = 5.0  # seconds that closing waits for an abandoned call and for the class's own ``close``


def register_blocking(scheme: str, make: Callable[[Location], BlockingBackend]) -> None:
    """Let ``scheme://`` URLs be opened by a legacy class.

    Args:
        make: the class, or a function of the location. It must not block: a class connects at its first call. If the class's
            ``supports_concurrency()`` is true there is one instance for each call that runs at once.
    """

    def factory(location: Location, options: BackendOptions) -> BlockingAdapter:
        return BlockingAdapter(
            make(location),
            options.tempdir,
            another=lambda: make(location),
            concurrency=options.concurrency,
            description=location.description,
        )

    register_backend(scheme, factory)


class BlockingAdapter:
    """A Backend around a legacy object.

    The object may have more than the four methods of ``BlockingBackend``; what it has is used:
    ``supports_concurrency() -> bool`` (else False: one call at a time, whatever the verb), ``size(name) -> int`` or
    ``stat(name) -> ObjectInfo`` (None: it cannot tell), ``list_infos() -> list[ObjectInfo]`` instead of ``list``, ``move(source, target)``
    that replaces (puts are then atomic: temporary name, then move), ``close()``, an attribute ``atomic_put``, and ``interrupt()``, which
    makes a call that was abandoned end soon: it is called on the loop, must not block, and the object is then only closed.

    Errors: an OSError by its errno (FileNotFoundError is NotFound), NotImplementedError is Unsupported, ours as they are, bugs
    (TypeError, KeyError, ValueError, ...) as they are; whatever else the class or its library raises is retryable.

    Args:
        legacy: the object; with ``another`` the first of several.
        tempdir: folder for bodies on their way, private folders are made in it; None = the system's.
        another: makes one more object; without it one object is shared by all calls that run at once.
        concurrency: calls that may run at once if the object supports concurrency; None = as many as come.
    """

    def __init__(
        self,
        legacy: BlockingBackend,
        tempdir: Path | None = None,
        *,
        another: Callable[[], BlockingBackend] | None = None,
        concurrency: int | None = None,
        description: str | None = None,
    ) -> None:
        supports = getattr(legacy, "supports_concurrency", None)
        self._concurrent = bool(supports()) if supports else False
        most = concurrency if concurrency is None else max(1, concurrency)  # with 0 the engine makes its calls in line, one at a time
        self._limit = most if self._concurrent else 1
        self._interruptible = another is not None and callable(getattr(legacy, "interrupt", None))
        self._another = another if self._concurrent or self._interruptible else None
        self._moves = callable(getattr(legacy, "move", None))
        self._atomic = self._moves or bool(getattr(legacy, "atomic_put", False))
        self._tempdir = tempdir
        self.description = description or type(legacy).__name__
        self._first = legacy
        # Changed only in ``_start`` and ``_ended``, on the loop, never across an await.
        self._idle: list[BlockingBackend] = [legacy]
        self._spent: list[BlockingBackend] = []  # interrupted, to be closed
        self._running: set[_Call] = set()
        self._changed = anyio.Event()
        # Object name -> what a failed put of it may have left. Written in threads: each access is one step under the interpreter's lock.
        self._left_over: dict[str, str] = {}
        self._closed = False

    def capabilities(self) -> Capabilities:
        """Atomic puts if the object can move, or says so."""
        return Capabilities(max_concurrency=self._limit, atomic_put=self._atomic, server_move=self._moves)

    def supports_concurrency(self) -> bool:
        """What the object says; False if it says nothing."""
        return self._concurrent

    async def wait_idle(self) -> None:
        """Return when no abandoned call is running: a slot that a cancelled call held is free only then (T5)."""
        while any(call.abandoned for call in self._running):
            await self._changed.wait()

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """All at once: the legacy interface has no other way. FileNotFoundError means a location that is not there yet."""
        with self._errors("list", prefix):
            found = await self._run(None, lambda legacy: legacy_calls.list_objects(legacy, prefix))
        async with aclosing(_each(found)) as infos:
            yield infos

    async def stat(self, name: str) -> ObjectInfo:
        """Without ``stat`` and ``size`` the object is fetched and measured."""
        with self._errors("stat", check_name(name), absent=True):
            info = await self._run(name, lambda legacy: legacy_calls.look(legacy, name))
        if info is not None:
            return info
        async with self._fetched(name) as fetched:
            return ObjectInfo(name, fetched.size)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The object is fetched whole first; a range saves memory, not time."""
        async with self._fetched(check_name(name)) as fetched:
            end = fetched.size if length is None else min(fetched.size, start + length)
            async with FileBody(fetched.path, end).open(start) as chunks:
                yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """The size is the object's if it has ``stat`` or ``size``, else ours. A body that is no local file is spooled first."""
        check_name(name)
        async with self._folder() as folder:
            path = await local_file(body, folder.path / "object")
            with self._errors("put", name, ambiguous=True):
                info = await self._run(name, lambda legacy: self._put(legacy, name, path), folder)
        return info or ObjectInfo(name, body.size)

    async def move(self, source: str, target: str) -> None:
        """Unsupported if the object has no ``move``."""
        check_name(target)
        with self._errors("move", check_name(source), absent=True, ambiguous=True):
            await self._run(source, lambda legacy: legacy_calls.move(legacy, source, target))

    async def delete(self, name: str) -> None:
        """FileNotFoundError and NotFound are success."""
        with self._errors("delete", check_name(name), ambiguous=True):
            await self._run(name, lambda legacy: legacy_calls.delete(legacy, name))

    async def aclose(self) -> None:
        """Close the objects, after the calls that run. One whose abandoned call does not return soon is left to its thread."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(_CLOSING):
            while self._running:
                await self._changed.wait()
            for legacy in (*self._idle, *self._spent):
                with self._errors("close", self.description):
                    await in_thread(legacy_calls.close, legacy, abandon_on_cancel=True)

    async def _run(self, name: str | None, job: Callable[[BlockingBackend], T], folder: _Folder | None = None) -> T:
        """``job`` in a thread, when it is its turn. ``folder`` lives at least as long as the thread is at it."""
        call = _Call(name)
        while not self._may_start(name):
            await self._changed.wait()
        self._start(call, folder)
        try:
            return await in_thread(self._work, call, job, asyncio.get_running_loop(), abandon_on_cancel=True)
        finally:
            if call.claim():
                self._leave(call)  # cancelled before a thread took it
                self._ended(call)
            else:
                call.abandoned = call in self._running
                if call.abandoned and self._interruptible and call.legacy is not None:
                    call.legacy.interrupt()  # type: ignore[attr-defined]  # an optional method

    def _may_start(self, name: str | None) -> bool:
        if self._limit is not None and len(self._running) >= self._limit:
            return False
        if self._atomic or name is None:
            return True
        return not any(call.abandoned and call.name == name for call in self._running)

    def _start(self, call: _Call, folder: _Folder | None) -> None:
        self._running.add(call)
        call.folder = folder.join() if folder else None
        if self._another is None:
            call.legacy = self._first
        elif self._idle:
            call.legacy = self._idle.pop()

    def _work(self, call: _Call, job: Callable[[BlockingBackend], T], loop: asyncio.AbstractEventLoop) -> T:
        """In a thread. The loop hears of the end before it hears of the result, so the place is free when the caller goes on."""
        if not call.claim():
            raise AsyncdupError("dropped")  # nobody waits for this either
        try:
            if call.legacy is None:
                assert self._another is not None
                call.legacy = self._another()
                if call.abandoned:
                    raise AsyncdupError("dropped")  # before it could be interrupted
            return job(call.legacy)
        finally:
            self._leave(call)
            if call.abandoned and self._interruptible:
                with suppress(Exception):
                    call.closed = legacy_calls.close(call.legacy)
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(self._ended, call)

    def _ended(self, call: _Call) -> None:
        self._running.remove(call)
        if self._another is not None and call.legacy is not None:
            if not (call.abandoned and self._interruptible):
                self._idle.append(call.legacy)
            elif not call.closed:
                self._spent.append(call.legacy)
        self._changed.set()
        self._changed = anyio.Event()

    def _leave(self, call: _Call) -> None:
        if call.folder is not None:
            call.folder.leave()

    def _put(self, legacy: BlockingBackend, name: str, path: Path) -> ObjectInfo | None:
        """I3: under a temporary name if it can be moved; else what a failed put has left is deleted first."""
        if name in self._left_over:
            legacy_calls.delete(legacy, self._left_over[name])
            del self._left_over[name]
        stored_as = temp_name() if self._moves else name
        try:
            legacy.put(stored_as, path)
            if self._moves:
                legacy_calls.move(legacy, stored_as, name)
        except BaseException:
            self._left_over[name] = stored_as
            raise
        return legacy_calls.look(legacy, name)

    @asynccontextmanager
    async def _fetched(self, name: str) -> AsyncGenerator[FileBody, None]:
        async with self._folder() as folder:
            path = folder.path / "object"
            with self._errors("get", name, absent=True):
                size = await self._run(name, lambda legacy: legacy_calls.get(legacy, name, path), folder)
            yield FileBody(path, size)

    @asynccontextmanager
    async def _folder(self) -> AsyncGenerator[_Folder, None]:
        with os_errors(f"make a folder in {self._tempdir or 'the temporary folder'}"):
            folder = await in_thread(_Folder, self._tempdir)
        try:
            yield folder
        finally:
            with anyio.move_on_after(_CLOSING, shield=True):
                await in_thread(folder.leave, abandon_on_cancel=True)

    @contextmanager
    def _errors(self, verb: str, name: str, *, absent: bool = False, ambiguous: bool = False) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            ours = legacy_calls.translate(exc, f"{verb} {name!r} in {self.description}", absent=absent, ambiguous=ambiguous)
            if ours is exc:
                raise
            raise ours from exc


class _Call:
    """One call and who owns it: ``claim`` is true once, for the thread that begins it or for the loop that drops it before."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.legacy: BlockingBackend | None = None  # None until the thread has made one
        self.folder: _Folder | None = None
        self.abandoned = False  # nobody waits for it any more
        self.closed = False  # it closed its object, which was interrupted
        self._owned = threading.Lock()

    def claim(self) -> bool:
        return self._owned.acquire(blocking=False)


class _Folder:
    """A private temporary folder (0700) with several users, in threads and on the loop; the last one to leave removes it."""

    def __init__(self, parent: Path | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="asyncdup-", dir=parent))
        self._users = 1
        self._lock = threading.Lock()

    def join(self) -> _Folder:
        with self._lock:
            self._users += 1
        return self

    def leave(self) -> None:
        """It blocks for the last user only, who is never the loop."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            shutil.rmtree(self.path, ignore_errors=True)


async def local_file(body: Body, spool: Path) -> Path:
    """The file that holds exactly ``body``: its own, or else ``spool``, written now."""
    own: Path | None = getattr(body, "local_path", None)
    if own is not None:
        with os_errors(f"look at {own}"):
            if (await in_thread(os.stat, own)).st_size == body.size:
                return own
    left = body.size
    with os_errors(f"open {spool}"):
        file = await in_thread(FileIO, spool, "xb")
    try:
        async with body.open() as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                with os_errors(f"spool {body.size} bytes in {spool.parent}"):
                    await in_thread(_write_all, file, chunk)
    finally:
        file.close()
    if left:
        raise IntegrityError(f"a body has {body.size - left} bytes; its size says {body.size}")
    return spool


def _write_all(file: FileIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]


async def _each(infos: list[ObjectInfo]) -> AsyncGenerator[ObjectInfo, None]:
    for info in infos:
        yield info
