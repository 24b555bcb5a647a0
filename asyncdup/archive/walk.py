"""The local file tree as entries in archive order: parents first, names in a folder by their bytes.

Lists each folder through its handle and looks at names relative to it. Knows types, owners and what to leave out; reads no content.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from asyncdup.archive.handles import FOLDER, Descent
from asyncdup.archive.owners import Owners
from asyncdup.archive.selection import Decision
from asyncdup.errors import UsageError
from asyncdup.events import Warning
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, MAX_NAME, REG, SYM, Entry

LONGEST_PATH: Final = MAX_NAME - 32  # bytes: a member's name is "multivol_snapshot/", the path and the number of the part
CANNOT_READ: Final = 10  # duplicity's warning code (format specification, section 21)

_KINDS: Final = {
    stat.S_IFREG: REG,
    stat.S_IFLNK: SYM,
    stat.S_IFCHR: CHR,
    stat.S_IFBLK: BLK,
    stat.S_IFDIR: DIR,
    stat.S_IFIFO: FIFO,
}
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # nonblocking: a FIFO put in the place of a file must not stop us
_NO_DEVICE: Final = (0, 0)
MAX_OPEN_BEYOND_LINKS: Final = 512  # levels: the way up from a folder that a link led to is not its "..", so all stay open


class Found(NamedTuple):
    """An entry of the tree and what lstat said of it."""

    entry: Entry
    stat: os.stat_result


# Named tuples made without their Python-level constructor: half a microsecond less for each entry
_entry: Callable[[tuple[object, ...]], Entry] = partial(tuple.__new__, Entry)
_found: Callable[[tuple[object, ...]], Found] = partial(tuple.__new__, Found)


class Selects(Protocol):
    """What the walk needs of a selection."""

    def decide(self, path: bytes, is_dir: bool, mtime: int | None = None) -> Decision: ...


class _Level:
    """A folder that the walk is in. ``held``: its own entry while nothing inside it has been given out (Decision.SCAN)."""

    __slots__ = ("held", "identity", "names", "prefix")

    def __init__(self, prefix: bytes, names: Iterator[bytes], identity: tuple[int, int] = _NO_DEVICE) -> None:
        self.prefix = prefix
        self.names = names
        self.identity = identity  # device and inode, where links are followed
        self.held: Found | None = None


class Walker:
    """Iterates once over the tree below ``root`` in archive order, the root itself first. Synchronous: it runs in a worker thread.

    Sockets are left out and counted. What cannot be looked at, or vanishes meanwhile, is left out, reported and counted (P13). Memory: the
    names of one folder for each level. Open handles: at most ``handles.MAX_OPEN`` and one.

    Args:
        root: a folder, or one regular file, which is then the only entry, with the path ``b""``. If it is a symlink it is followed.
        selection: decides what is in; None takes everything.
        one_filesystem: leave out what is on another device than the root, mount points included.
        exclude_device_files: leave out character and block devices.
        skip_if_present: leave out folders that hold any of these names, but never the root.
        copy_links: give out what symlinks point to. One that points to nothing, or to a folder that it is in, is given out as the link it is.
        numeric: leave user and group names empty.
        start_at, start_after: begin with this path, or with what follows it, without looking at what is before (P2). The path need not
            exist any more. Folders that lead to it count as given out.
        on_warning: told of each entry that should be in and is not.

    Attributes:
        lost: paths that may well be there, but could not be looked at, in archive order. Whoever reads them takes them away.
    """

    def __init__(
        self,
        root: bytes,
        *,
        selection: Selects | None = None,
        one_filesystem: bool = False,
        exclude_device_files: bool = False,
        skip_if_present: Sequence[bytes] = (),
        copy_links: bool = False,
        numeric: bool = False,
        start_at: bytes | None = None,
        start_after: bytes | None = None,
        on_warning: Callable[[Warning], None],
    ) -> None:
        self.sockets = 0
        self.errors = 0
        self.lost: deque[bytes] = deque()
        self._root = root
        self._decide = selection.decide if selection else None
        self._one_filesystem = one_filesystem
        self._left_out = {CHR, BLK} if exclude_device_files else set()
        self._skip_if_present = frozenset(skip_if_present)
        self._names_of = Owners(numeric=numeric).names
        self._on_warning = on_warning
        self._filters = bool(self._decide or one_filesystem or exclude_device_files)
        self._device = 0  # of the root
        self._levels: list[_Level] = []
        self._links = copy_links
        self._no_follow = 0 if copy_links else os.O_NOFOLLOW
        self._descent = Descent(MAX_OPEN_BEYOND_LINKS) if copy_links else Descent()
        self._here = -1  # handle of the folder whose names are looked at: the lowest of the descent
        self._start = start_at if start_at is not None else start_after
        self._gives_start = start_after is None
        self._scans = False  # the entry last looked at is wanted only if something inside it is
        self._found = self._walk()

    def __iter__(self) -> Iterator[Found]:
        return self._found

    def __next__(self) -> Found:
        return next(self._found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open(self, found: Found) -> int:
        """A handle to read the regular file just given out. The caller closes it.

        Raises:
            OSError: it cannot be opened, or something else is there now (ESTALE; P13). Not reported to ``on_warning``.
        """
        path = found.entry.path
        if path:
            handle = os.open(path[path.rfind(b"/") + 1 :], _READ | self._no_follow, dir_fd=self._here)
        else:
            handle = os.open(self._root, _READ)
        before, now = found.stat, os.fstat(handle)
        if now.st_ino != before.st_ino or now.st_dev != before.st_dev or (now.st_mode ^ before.st_mode) & 0o170000:
            os.close(handle)
            raise OSError(errno.ESTALE, "something else was put in its place meanwhile")
        return handle

    def close(self) -> None:
        """Close all folders. Idempotent; the iteration ends."""
        self._found.close()
        self._descent.close()

    # The walk itself: no recursion, since a tree may be deeper than Python's stack.

    def _walk(self) -> Generator[Found, None, None]:
        held: list[Found] = []  # folders to be given out as soon as something inside them is
        levels = self._levels
        try:
            if (root := self._begin()) is not None:
                yield root
            while levels:
                level = levels[-1]
                prefix = level.prefix
                for name in level.names:
                    found = self._look(name, prefix + name)
                    if found is None:
                        continue
                    is_folder = found[0][1] == DIR
                    if is_folder:
                        scans = self._scans
                        if not self._enter(found):
                            continue
                        if scans:
                            held.append(found)
                            levels[-1].held = found
                            break
                    if held:
                        yield from held
                        held.clear()
                    yield found
                    if is_folder:
                        break
                else:
                    self._leave(held)
        finally:
            self._descent.close()

    def _look(self, name: bytes, path: bytes) -> Found | None:
        """The entry ``name`` of the present folder, if it is wanted."""
        link, device = b"", _NO_DEVICE
        try:
            status = self._beyond(name) if self._links else os.stat(name, dir_fd=self._here, follow_symlinks=False)
            mode = status.st_mode
            kind = _KINDS.get(mode & 0o170000)
            if kind == SYM:
                link = os.readlink(name, dir_fd=self._here)
        except OSError as error:
            self._lost(path, error)
            return None
        if kind is None:
            self.sockets += 1
            return None
        if self._filters and not self._wants(path, kind, status):
            return None
        if kind == CHR or kind == BLK:
            device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        return self._made(path, kind, status, link, device)

    def _beyond(self, name: bytes) -> os.stat_result:
        """Of what ``name`` leads to; of the link itself if that is nothing, or a folder that we are in and would never leave."""
        with suppress(OSError):
            status = os.stat(name, dir_fd=self._here)
            if all(level.identity != (status.st_dev, status.st_ino) for level in self._levels):
                return status
        return os.stat(name, dir_fd=self._here, follow_symlinks=False)

    def _made(self, path: bytes, kind: bytes, status: os.stat_result, link: bytes = b"", device: tuple[int, int] = _NO_DEVICE) -> Found:
        uid, gid = status.st_uid, status.st_gid
        uname, gname = self._names_of(uid, gid)
        mtime = int(status.st_mtime)  # of the float, as duplicity does: .9999999 s rounds up (format specification, section 5)
        size = status.st_size if kind == REG else 0
        mode = status.st_mode & 0o7777
        entry = _entry((path, kind, mode, uid, gid, max(0, mtime), size, uname, gname, link, device))
        return _found((entry, status))

    def _wants(self, path: bytes, kind: bytes, status: os.stat_result) -> bool:
        if kind in self._left_out or (self._one_filesystem and status.st_dev != self._device):
            return False
        if self._decide is None:
            return True
        decision = self._decide(path, kind == DIR, int(status.st_mtime) if kind == REG else None)
        self._scans = decision is Decision.SCAN
        return decision is not Decision.EXCLUDE

    # Going down and up.

    def _begin(self) -> Found | None:
        """Open the root and go to where the walk starts; the root's entry if that is the root."""
        try:
            status = os.stat(self._root)
            self._device = status.st_dev
            kind = _KINDS.get(status.st_mode & 0o170000)
            if kind not in (DIR, REG):
                raise UsageError(f"the source {os.fsdecode(self._root)} is neither a folder nor a regular file")
            root = self._made(b"", kind, status)
            if kind == DIR:
                handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._descent.down(handle)
                self._here = handle
                names = self._list(handle, b"")
        except OSError as error:
            raise UsageError(f"the source {os.fsdecode(self._root)} cannot be read: {error.strerror}") from error
        if kind == DIR and names is not None:
            self._levels.append(_Level(b"", names, (status.st_dev, status.st_ino)))
        if not self._start:
            return root if self._start is None or self._gives_start else None
        self._skip_to(self._start.split(b"/"))
        return None

    def _skip_to(self, start: list[bytes]) -> None:
        """Go down towards ``start`` without looking at what comes before it. Its folders count as given out."""
        for depth, name in enumerate(start, 1):
            if not self._levels:
                return
            level = self._levels[-1]
            names = list(level.names)
            gives = depth == len(start) and self._gives_start
            first = bisect_left(names, name)
            met = first < len(names) and names[first] == name
            level.names = iter(names[first + (met and not gives) :])
            if gives or not met:
                return
            folder = self._look(name, level.prefix + name)
            if folder is None or folder.entry.kind != DIR or not self._enter(folder):
                return

    def _enter(self, folder: Found) -> bool:
        """Open and list ``folder``, which is in the present one. False if it is left out with all that is in it."""
        path = folder.entry.path
        try:
            handle = os.open(path[path.rfind(b"/") + 1 :], FOLDER & ~os.O_NOFOLLOW | self._no_follow, dir_fd=self._here)
        except OSError as error:
            self._lost(path, error)
            return False
        try:
            names = self._list(handle, path)
        except OSError as error:
            os.close(handle)
            self._lost(path, error)
            return False
        if names is None:
            os.close(handle)
            return False
        self._descent.down(handle)
        self._here = handle
        self._levels.append(_Level(path + b"/", names, (folder.stat.st_dev, folder.stat.st_ino)))
        return True

    def _list(self, handle: int, path: bytes) -> Iterator[bytes] | None:
        """Names in the folder, sorted; None if one of them excludes it, or if it is the root of another file system."""
        if self._one_filesystem and os.fstat(handle).st_dev != self._device:
            return None
        listed = os.listdir(handle)  # text, as a handle has no path: turned into bytes all at once, since no name holds a slash
        names = os.fsencode("/".join(listed)).split(b"/") if listed else []
        if path and not self._skip_if_present.isdisjoint(names):  # of the root it says nothing (observed: duplicity 3.2.1)
            return None
        names.sort()
        if len(path) > LONGEST_PATH - 256:
            names = [name for name in names if self._fits(path, name)]
        return iter(names)

    def _fits(self, path: bytes, name: bytes) -> bool:
        if len(path) + 1 + len(name) <= LONGEST_PATH:
            return True
        self._warn(path + b"/" + name, "has too long a path and is not in this backup")
        return False

    def _leave(self, held: list[Found]) -> None:
        level = self._levels.pop()
        if held and held[-1] is level.held:
            held.pop()
        try:
            self._here = self._descent.up()
        except OSError:
            self._here = -1
            above = self._levels[-1]
            above.names = iter(())
            self._warn(above.prefix[:-1], "was moved while it was read; what follows in it is not in this backup")

    # What is reported.

    def _lost(self, path: bytes, error: OSError) -> None:
        if self._decide is not None and self._decide(path, True) is Decision.EXCLUDE:
            return
        if isinstance(error, FileNotFoundError):
            self._warn(path, "vanished before it was read and is not in this backup")
        else:
            self.lost.append(path)
            self._warn(path, f"could not be read and is not in this backup: {error.strerror}")

    def _warn(self, path: bytes, what: str) -> None:
        self.errors += 1
        shown = os.fsdecode(path) or "."
        self._on_warning(Warning(message=f"{shown} {what}", code=CANNOT_READ, path=shown))
