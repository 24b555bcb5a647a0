"""``file://``: objects are the regular files of one folder. Puts are atomic and durable (P6); every call of the kernel runs in a thread."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext, suppress
from io import FileIO
from itertools import islice
from pathlib import Path

import anyio

from asyncdup.backends.base import Body, Capabilities, ObjectInfo, SupportsTakeOver
from asyncdup.backends.bodies import CHUNK
from asyncdup.backends.names import check_name, temp_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.oserrors import os_errors
from asyncdup.backends.urls import Location
from asyncdup.errors import IntegrityError, NotFound, Precondition, UsageError
from asyncdup.threads import in_thread

_CAPABILITIES = Capabilities(atomic_put=True, put_if_absent=True, ranged_get=True, server_move=True, max_name=255)
_BATCH = 256  # entries that one thread call lists: the hop is paid once for all, and a listing never holds more than these
_CLEANUP = 5.0  # seconds to remove a temporary name; after that cleanup removes it

# Answers of file systems that have no hard links (or not to another one), or cannot flush a folder (FAT, CIFS, some of FUSE).
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_NO_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


def from_url(location: Location, options: BackendOptions) -> LocalBackend:
    """The factory of ``file://``. A relative path is taken from the working folder as it is now."""
    if not location.path:
        raise UsageError("file:// without a path", hint="write file:///absolute/path or file://relative/path")
    return LocalBackend(Path.cwd() / location.path)


class LocalBackend:
    """The files of ``folder``, which may be absent until the first put.

    Sub-folders and other things that are no regular files are not objects. A symbolic link to a file is read through (stock does), never
    written through: put and delete replace and remove the link itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def description(self) -> str:
        """The URL."""
        return f"file://{self._folder}"

    def capabilities(self) -> Capabilities:
        """Atomic and exclusive puts, ranges, renames."""
        return _CAPABILITIES

    def supports_concurrency(self) -> bool:
        """True."""
        return True

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """A location that is not there (yet, or unmounted) lists nothing."""
        action = f"list {self.description}"
        with os_errors(action):
            scan = await in_thread(_scan, self._folder)
        with scan as entries:
            async with aclosing(_listed(entries, prefix, action)) as found:
                yield found

    async def stat(self, name: str) -> ObjectInfo:
        """Size and time as the file system has them."""
        with self._errors("stat", name, absent=True):
            status = await in_thread(os.stat, self._folder / name)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(f"{name!r} in {self.description} is no file")
        return _info(name, status)

    def local_file(self, name: str) -> Path:
        """The file itself."""
        with self._errors("get", name, absent=True):
            _open_regular(self._folder / name, 0).close()
        return self._folder / name

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Chunks of 1 MiB, the last one shorter."""
        with self._errors("get", name, absent=True):
            file = await in_thread(_open_regular, self._folder / name, start)
        try:
            async with aclosing(self._chunks(file, name, length)) as chunks:
                yield chunks
        finally:
            file.close()

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """Whole and durable under its name, or not there: temporary name, fsync, rename, fsync of the folder."""
        return await self._store(name, body, replace=True)

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """Whole under its name, or Precondition. Where hard links are missing, an empty file may be seen for a moment."""
        return await self._store(name, body, replace=False)

    async def move(self, source: str, target: str) -> None:
        """Rename and flush the folder."""
        check_name(target, max_name=_CAPABILITIES.max_name)
        with self._errors("move", source, absent=True):
            await in_thread(_rename, self._folder, source, target)

    async def delete(self, name: str) -> None:
        """Durable when it returns; absent is success."""
        with self._errors("delete", name):
            await in_thread(_unlink, self._folder, name)

    async def aclose(self) -> None:
        """Nothing is held between calls."""

    @contextmanager
    def _errors(self, verb: str, name: str, *, absent: bool = False) -> Iterator[None]:
        check_name(name, max_name=_CAPABILITIES.max_name)
        with os_errors(f"{verb} {name!r} in {self.description}", absent=absent):
            try:
                yield
            except OSError as exc:  # it may name what is not ours: the spool file that is linked, a temporary name below a handle
                exc.filename, exc.filename2 = os.fspath(self._folder / name), None
                raise

    async def _chunks(self, file: FileIO, name: str, length: int | None) -> AsyncGenerator[bytes, None]:
        left = length
        while left is None or left > 0:
            with self._errors("get", name):
                chunk = await in_thread(file.read, CHUNK if left is None else min(CHUNK, left))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk

    async def _store(self, name: str, body: Body, *, replace: bool) -> ObjectInfo:
        check_name(name, max_name=_CAPABILITIES.max_name)
        unfinished = _Unfinished(self._folder)
        try:
            await self._fill(unfinished, name, body)
            with self._errors("put", name):
                return _info(name, await in_thread(unfinished.finish, name, replace))
        finally:
            if unfinished.is_open:
                with anyio.move_on_after(_CLEANUP, shield=True):
                    await in_thread(unfinished.close, abandon_on_cancel=True)

    async def _fill(self, unfinished: _Unfinished, name: str, body: Body) -> None:
        left = body.size
        given = body.take_over() if isinstance(body, SupportsTakeOver) else None
        if given is not None:
            with self._errors("put", name):
                if await in_thread(unfinished.take_over, given, left):
                    return
        async with body.open() as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    break
                with self._errors("put", name):  # not around the loop: an error of the body is not the target's
                    await in_thread(unfinished.write, chunk)
        if left:
            raise IntegrityError(
                f"the body of {name!r} is {'longer' if left < 0 else f'{left} bytes shorter'} than its size of {body.size} bytes"
            )


class _Unfinished:
    """A file in the making under a temporary name, held by handles from the first write on.

    All methods block; a small object takes two calls. ``close`` may follow any of them, and is part of a ``finish`` that succeeds.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self._temp = temp_name()
        self._folder: int | None = None
        self._file: FileIO | None = None

    @property
    def is_open(self) -> bool:
        return self._folder is not None

    def write(self, chunk: bytes) -> None:
        _, file = self._opened()
        left = memoryview(chunk)
        while left:
            left = left[file.write(left) :]

    def take_over(self, path: Path, size: int) -> bool:
        """Another name for the file ``path`` instead of a copy of its bytes; False where that cannot be, as on another file system."""
        try:
            os.link(path, self._temp, dst_dir_fd=self._opened_folder(), follow_symlinks=False)
        except OSError as exc:
            if exc.errno in _NO_LINKS:
                return False
            raise
        self._file = FileIO(self._temp, "rb", opener=self._open)
        if os.fstat(self._file.fileno()).st_size != size:
            raise IntegrityError(f"{path} is not of the {size} bytes that it was made with")
        return True

    def finish(self, name: str, replace: bool) -> os.stat_result:
        folder, file = self._opened()
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
        if replace:
            os.rename(self._temp, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._temp = ""
        else:
            self._take(name, folder)
        _flush_folder(folder)
        self.close()
        return status

    def close(self) -> None:
        """Give the handles back and remove what is unfinished. It never raises: a name that stays is removed by cleanup."""
        file, self._file = self._file, None
        folder, self._folder = self._folder, None
        if file is not None:
            with suppress(OSError):
                file.close()
        if folder is None:
            return
        with suppress(OSError):
            if file is not None and self._temp:
                os.unlink(self._temp, dir_fd=folder)
        os.close(folder)

    def _opened(self) -> tuple[int, FileIO]:
        folder = self._opened_folder()
        if self._file is None:
            self._file = FileIO(self._temp, "xb", opener=self._open)
        return folder, self._file

    def _opened_folder(self) -> int:
        if self._folder is None:
            self._folder = _open_folder(self._path)
        return self._folder

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)

    def _take(self, name: str, folder: int) -> None:
        try:
            os.link(self._temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)  # ``close`` removes the other name
        except FileExistsError as exc:
            raise Precondition(f"{name!r} exists already in {self._path}") from exc
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            self._take_by_creating(name, folder)

    def _take_by_creating(self, name: str, folder: int) -> None:
        try:
            os.close(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError as exc:
            raise Precondition(f"{name!r} exists already in {self._path}") from exc
        os.rename(self._temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        self._temp = ""


async def _listed(entries: Iterator[os.DirEntry[str]], prefix: str, action: str) -> AsyncGenerator[ObjectInfo, None]:
    more = True
    while more:
        with os_errors(action):
            batch, more = await in_thread(_batch, entries, prefix)
        for info in batch:
            yield info


def _scan(folder: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(folder)
    except FileNotFoundError:
        return nullcontext(iter(()))


def _batch(entries: Iterator[os.DirEntry[str]], prefix: str) -> tuple[list[ObjectInfo], bool]:
    """The objects among the next entries, and whether there may be more."""
    looked_at = list(islice(entries, _BATCH))
    found = []
    for entry in looked_at:
        if not entry.name.startswith(prefix):
            continue
        with suppress(FileNotFoundError):  # deleted since, or a link to nothing
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                found.append(_info(entry.name, status))
    return found, len(looked_at) == _BATCH


def _info(name: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(name, status.st_size, status.st_mtime)


def _open_regular(path: Path, start: int) -> FileIO:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO that somebody put there must not block us
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
        os.lseek(handle, start, os.SEEK_SET)
        return FileIO(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _open_folder(path: Path) -> int:
    """A handle on ``path``, which is made durably if it is not there: private (P15), with the folders above it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        if path == path.parent:
            raise
    parent = _open_folder(path.parent)
    try:
        with suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=parent)
        _flush_folder(parent)
        return os.open(path.name, flags, dir_fd=parent)
    finally:
        os.close(parent)


def _flush_folder(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _NO_FLUSH:
            raise


def _rename(folder: Path, source: str, target: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.rename(source, target, src_dir_fd=handle, dst_dir_fd=handle)
        _flush_folder(handle)
    finally:
        os.close(handle)


def _unlink(folder: Path, name: str) -> None:
    with suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.unlink(name, dir_fd=handle)
            _flush_folder(handle)
        finally:
            os.close(handle)
