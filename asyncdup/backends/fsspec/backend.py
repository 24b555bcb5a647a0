"""Any filesystem that fsspec has a class for: asynchronous ones are awaited, the others run in threads behind the blocking interface."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from asyncdup.backends import legacy_calls
from asyncdup.backends.base import Backend, Body, Capabilities, ObjectInfo
from asyncdup.backends.blocking import BlockingAdapter, local_file
from asyncdup.backends.bodies import CHUNK
from asyncdup.backends.fsspec.place import Place, place_of, refusal
from asyncdup.backends.names import check_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location
from asyncdup.errors import BackendError, BadRequest, IntegrityError
from asyncdup.threads import in_thread

PIECE = 8 << 20  # bytes asked for at once, at most: what a get holds in memory
_QUICK = 5.0  # seconds for a piece, after which the next is not larger: the engine sees progress between pieces only (T1)
_SMALL = 1 << 20  # bytes of a body that is put from memory
_CLOSING = 5.0  # seconds


def from_url(location: Location, options: BackendOptions) -> Backend:
    """An asynchronous filesystem natively, any other in threads: one call at a time, or ``--backend-concurrency N`` instances.

    Raises:
        UsageError: as ``place_of``.
    """
    place = place_of(location, options)
    if place.is_native:
        return FsspecBackend(place, tempdir=options.tempdir)
    number = options.backend_concurrency or 1

    def make() -> FsspecClass:
        return FsspecClass(place, concurrent=number > 1)

    return BlockingAdapter(make(), options.tempdir, another=make, concurrency=number, description=place.description)


class FsspecBackend:
    """An asynchronous filesystem. It is made and connected by the first call, on the loop of that call."""

    def __init__(self, place: Place, *, tempdir: Path | None = None) -> None:
        self._place = place
        self._tempdir = tempdir
        self._fs: Any = None
        self._session: Any = None
        self._opening = anyio.Lock()
        self.description = place.description

    def capabilities(self) -> Capabilities:
        """As far as fsspec's interface goes: it has no conditional put, and no digests that would be the same everywhere."""
        return Capabilities(atomic_put=self._place.holds_objects, ranged_get=True)

    def supports_concurrency(self) -> bool:
        """Always."""
        return True

    async def wait_idle(self) -> None:
        """At once: what is cancelled ends. It is here because bytes move out of the engine's sight, so that it allows for them (T3)."""

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """All at once, past fsspec's cache of listings."""
        with self._errors("list", prefix):
            fs = await self._opened()
            fs.invalidate_cache()
            try:
                entries = await fs._ls(self._place.root, detail=True)
            except FileNotFoundError:
                entries = []
        async with aclosing(_each([info for info in self._place.infos(entries) if info.name.startswith(prefix)])) as found:
            yield found

    async def stat(self, name: str) -> ObjectInfo:
        """Raises NotFound."""
        path = self._path(name)
        with self._errors("stat", name, absent=True):
            fs = await self._opened()
            fs.invalidate_cache()
            return self._place.stat(name, await fs._info(path))

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """In pieces of 1 to 8 MiB, each a request of its own. The size is asked for first, so that no piece begins at the end."""
        size = (await self.stat(name)).size
        end = size if length is None else min(size, start + length)
        async with aclosing(self._pieces(name, start, end)) as chunks:
            yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """From memory up to 1 MiB, else from a file: the body's own, or a spooled copy."""
        path = self._path(name)
        with self._errors("connect", name):
            fs = await self._opened()
        if body.size <= _SMALL:
            data = await _whole(body)
            with self._errors("put", name, ambiguous=True):
                await fs._pipe_file(path, data)
        else:
            with tempfile.TemporaryDirectory(prefix="asyncdup-", dir=self._tempdir) as folder:
                local = await local_file(body, Path(folder) / "object")
                with self._errors("put", name, ambiguous=True):
                    await fs._put_file(str(local), path)
        return await self.stat(name)

    async def delete(self, name: str) -> None:
        """An absent name is success."""
        path = self._path(name)
        with self._errors("delete", name, ambiguous=True):
            fs = await self._opened()
            with suppress(FileNotFoundError):
                await fs._rm_file(path)

    async def aclose(self) -> None:
        """Close the session of a class that has one."""
        session, self._session, self._fs = self._session, None, None
        if session is None:
            return
        with anyio.move_on_after(_CLOSING), self._errors("close", self.description):
            ended = session.close()
            if inspect.isawaitable(ended):
                await ended

    async def _pieces(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        path, piece = self._place.path(name), CHUNK
        while start < end:
            upto, began = min(end, start + piece), anyio.current_time()
            with self._errors("get", name, absent=True):
                fs = await self._opened()
                data = memoryview(await fs._cat_file(path, start=start, end=upto))
            if len(data) != upto - start:
                raise IntegrityError(
                    f"get {name!r} from {self.description}: {len(data)} bytes came of the {upto - start} that were asked for"
                )
            grown = min(PIECE, piece * 2) if anyio.current_time() - began < _QUICK else max(CHUNK, piece // 2)
            for at in range(0, len(data), CHUNK):
                yield bytes(data[at : at + CHUNK])
            start, piece = upto, grown

    async def _opened(self) -> Any:
        async with self._opening:
            if self._fs is None:
                fs = await in_thread(_make_asynchronous, self._place)
                if hasattr(fs, "set_session"):
                    self._session = await fs.set_session()
                self._fs = fs
            return self._fs

    def _path(self, name: str) -> str:
        return self._place.path(check_name(name))

    @contextmanager
    def _errors(self, verb: str, name: str, *, absent: bool = False, ambiguous: bool = False) -> Iterator[None]:
        action = f"{verb} {name!r} in {self.description}"
        try:
            yield
        except BackendError:
            raise
        except Exception as exc:
            ours = refusal(exc, action) or _translate(exc, action, absent=absent, ambiguous=ambiguous)
            if ours is exc:
                raise
            raise ours from exc


class FsspecClass:
    """A blocking filesystem as a legacy class; made, and so connected, by its first call. ``list`` stands last: below it the name means no type."""

    def __init__(self, place: Place, *, concurrent: bool) -> None:
        self._place = place
        self._concurrent = concurrent
        self._made: Any = None
        self._has_folder = place.holds_objects or not place.root
        if place.renames:
            self.move = self._move  # puts go by a temporary name where this is there

    def supports_concurrency(self) -> bool:
        """As the user says: few of these classes promise anything."""
        return self._concurrent

    def list_infos(self) -> list[ObjectInfo]:
        with self._errors("list"):
            entries = self._fs.ls(self._place.root, detail=True)
        return self._place.infos(entries)

    def stat(self, name: str) -> ObjectInfo:
        with self._errors("stat"):
            return self._place.stat(name, self._fs.info(self._place.path(name)))

    def get(self, name: str, local: Path) -> None:
        path = self._place.path(name)
        self.stat(name)  # some classes take a local folder or file in the place of an absent object
        with self._errors("get"):
            self._fs.get_file(path, str(local))

    def put(self, name: str, local: Path) -> None:
        path = self._place.path(name)
        with self._errors("put"):
            if not self._has_folder:
                self._fs.makedirs(self._place.root, exist_ok=True)
                self._has_folder = True
            self._fs.put_file(str(local), path)

    def delete(self, name: str) -> None:
        with self._errors("delete"):
            self._fs.rm_file(self._place.path(name))

    def close(self) -> None:
        made, self._made = self._made, None
        if made is None or made.async_impl:
            return  # an asynchronous one works on a loop of fsspec's, and closes itself there when it is dropped
        for connection in ("ftp", "client", "_session"):
            shut = getattr(getattr(made, connection, None), "close", None)
            if shut is not None:
                shut()
                return

    def _move(self, source: str, target: str) -> None:
        with self._errors("move"):
            self._fs.mv(self._place.path(source), self._place.path(target))

    @property
    def _fs(self) -> Any:
        """Past its cache of listings."""
        if self._made is None:
            self._made = self._place.open()
        self._made.invalidate_cache()
        return self._made

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Only what the adapter cannot know: it translates the rest."""
        try:
            yield
        except (BackendError, OSError):
            raise
        except Exception as exc:
            refused = refusal(exc, f"{verb} in {self._place.description}")
            if refused is None:
                raise
            raise refused from exc

    def list(self) -> list[str]:
        return [info.name for info in self.list_infos()]


def _make_asynchronous(place: Place) -> Any:
    return place.open(asynchronous=True)


def _translate(exc: Exception, action: str, *, absent: bool, ambiguous: bool) -> Exception:
    if isinstance(exc, UnicodeError):
        return BadRequest(f"{action}: {exc}")
    return legacy_calls.translate(exc, action, absent=absent, ambiguous=ambiguous)


async def _whole(body: Body) -> bytes:
    data = bytearray()
    async with body.open() as chunks:
        async for chunk in chunks:
            data += chunk
    if len(data) != body.size:
        raise IntegrityError(f"a body has {len(data)} bytes; its size says {body.size}")
    return bytes(data)


async def _each(infos: list[ObjectInfo]) -> AsyncGenerator[ObjectInfo, None]:
    for info in infos:
        yield info
