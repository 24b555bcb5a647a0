"""The mounted folders as FUSE asks for them, without FUSE. Synchronous: names and attributes come from memory, and for what must be fetched the
thread waits until the event loop has it."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import anyio

from asyncdup.archive.backup_tree import BackupTree
from asyncdup.archive.owners import Owners
from asyncdup.commands.mount_archive import Archive, Opened
from asyncdup.commands.reader import CANNOT_PROCESS
from asyncdup.errors import headline, ungrouped
from asyncdup.events import EventHub, Warning
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, REG, SYM, Entry
from asyncdup.threads import on_loop

T = TypeVar("T")

LATEST: Final = b"latest"
_KINDS: Final = {
    REG: stat.S_IFREG,
    DIR: stat.S_IFDIR,
    SYM: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHR: stat.S_IFCHR,
    BLK: stat.S_IFBLK,
}
_NOBODY: Final = (65534, 65534)  # for an archived owner that cannot be


class Files:
    """The mounted tree as FUSE asks for it. Paths begin with a slash. An OSError is an answer, too: EIO for what the archive failed to give,
    with a warning that says why. To be called in a thread of ``in_thread``, except ``end``."""

    def __init__(self, archive: Archive, hub: EventHub, owners: Owners) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self.ending = False
        self._archive = archive
        self._hub = hub
        self._owners = owners
        self._open: dict[int, Opened] = {}
        self._handles = itertools.count(1)
        self._fetching: anyio.CancelScope | None = None

    def ready(self) -> None:
        """It is mounted."""
        on_loop(self.on_ready)

    def end(self) -> None:
        """Fetch nothing more. On the event loop."""
        self.ending = True
        if self._fetching is not None:
            self._fetching.cancel()

    def attributes(self, path: bytes) -> dict[str, int]:
        """As ``stat``, times in nanoseconds."""
        top, inner = _split(path)
        if not inner:
            return self._top_attributes(top)
        tree = self._tree(top)
        entry = _node(tree, inner)
        size = len(entry.link)
        if entry.kind == REG:
            known = self._archive.known_size(tree, inner)
            size = self._wait(path, self._archive.size, tree, inner) if known is None else known
        try:
            owner = self._owners.ids(entry)
        except ValueError:
            owner = _NOBODY
        return _stat(_KINDS.get(entry.kind, stat.S_IFREG) | entry.mode, entry.mtime, size, owner, os.makedev(*entry.dev))

    def names(self, path: bytes) -> Iterator[tuple[bytes, int]]:
        """What is in a folder: names, and what they are as in ``st_mode``."""
        top, inner = _split(path)
        if not top:
            yield LATEST, stat.S_IFLNK
            yield from ((name, stat.S_IFDIR) for name in self._archive.times)
            return
        tree = self._tree(top)
        for name in tree.children.get(inner, ()):
            yield name, _KINDS.get(tree.nodes[inner + b"/" + name if inner else name].entry.kind, stat.S_IFREG)

    def link(self, path: bytes) -> bytes:
        """What a symlink points to."""
        top, inner = _split(path)
        return _node(self._tree(top), inner).link if inner else list(self._archive.times)[-1]

    def open(self, path: bytes) -> int:
        """A handle for ``read``."""
        top, inner = _split(path)
        tree = self._tree(top)
        _node(tree, inner)
        opened = self._archive.known_content(tree, inner) or self._wait(path, self._archive.content, tree, inner)
        opened.contents.users += 1
        handle = next(self._handles)
        self._open[handle] = opened
        return handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Some bytes; fewer at the end only."""
        contents, start, length = self._open[handle]
        return b"".join(contents.data.read(start + offset, max(0, min(size, length - offset))))

    def release(self, handle: int) -> None:
        """The handle is not used any more."""
        self._open.pop(handle).contents.users -= 1

    def _top_attributes(self, top: bytes) -> dict[str, int]:
        """Of the root and of what is in it, without a look at the backups themselves."""
        owner = (os.getuid(), os.getgid())
        times = self._archive.times
        if top == LATEST:
            return _stat(stat.S_IFLNK | 0o777, max(times.values()), len(max(times)), owner)
        if top and top not in times:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return _stat(stat.S_IFDIR | 0o755, times.get(top, max(times.values())), 0, owner)

    def _tree(self, top: bytes) -> BackupTree:
        time = self._archive.times.get(top)
        if time is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._archive.known_tree(time) or self._wait(b"/" + top, self._archive.tree, time)

    def _wait(self, path: bytes, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What ``work`` returns, on the event loop."""
        try:
            return anyio.from_thread.run(self._within_scope, work, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever failed, FUSE wants a number, and the mount goes on
            if not self.ending:
                shown = os.fsdecode(path[1:])
                on_loop(self._hub.emit, Warning(message=f"{shown}: {headline(error)}", code=CANNOT_PROCESS, path=shown))
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    async def _within_scope(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        with anyio.CancelScope() as self._fetching, ungrouped():
            if not self.ending:
                return await work(*arguments)
        raise InterruptedError(errno.EINTR, "the mount ends")


def _split(path: bytes) -> tuple[bytes, bytes]:
    """``/TIME/a/b`` -> ``TIME``, ``a/b``."""
    top, _, inner = path.strip(b"/").partition(b"/")
    return top, inner


def _node(tree: BackupTree, inner: bytes) -> Entry:
    node = tree.nodes.get(inner)
    if node is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return node.entry


def _stat(mode: int, mtime: int, size: int, owner: tuple[int, int], device: int = 0) -> dict[str, int]:
    times = dict.fromkeys(("st_mtime", "st_ctime", "st_atime"), mtime * 10**9)
    uid, gid = owner
    blocks = (size + 511) // 512
    # One link, also for folders: programs that count on more would look for subfolders by it.
    return {"st_mode": mode, "st_size": size, "st_blocks": blocks, "st_uid": uid, "st_gid": gid, "st_nlink": 1, "st_rdev": device, **times}
