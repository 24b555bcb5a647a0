"""What a kill, or a power cut, between any two changes to the disk leaves behind: copies of folders, taken while a run changes them (M3).

One run gives all states; nothing has to be killed for that. A state is taken before every call that changes the disk, and in the middle of
every write, once for each model of what had become durable by then:

* ``kill``: everything that was done; in the middle of a write, its first bytes.
* ``power cut``: only what was flushed, under the names that were flushed.
* ``writes lost``: all names, with what was flushed of their contents.
* ``names lost``: all contents, under the names that were flushed.
* ``names reordered``: likewise, but the newest change of a name is there, and those before it are not.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal, get_args
from unittest import mock

CALLS = ("open", "mkdir", "rename", "link", "unlink", "fsync", "fdatasync")
WRITERS = ("asyncdup.backends.local.FileIO", "asyncdup.archive.checkpoint.FileIO", "asyncdup.codecs.base.FileIO")


@dataclass(frozen=True)
class Kept:
    """The content of a file at one moment."""

    data: bytes
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.data).digest())


Content = dict[str, Kept]  # of the files of one folder
Model = Literal["kill", "power cut", "writes lost", "names lost", "names reordered"]
MODELS: tuple[Model, ...] = get_args(Model)
NOTHING = Kept(b"")
TEARS = 3  # of each write, if they are at random places


@dataclass(frozen=True)
class State:
    """Folders at one moment. ``before``: the call that was not made any more. ``model``: of what is there of the calls before."""

    number: int
    before: str
    model: Model
    folders: tuple[Content, ...]
    spool: Content = field(default_factory=dict)  # by their paths below the temporary folder; never flushed

    def __str__(self) -> str:
        return f"{self.model} {self.number} before {self.before}"

    def lay_out(self, *folders: Path, tempdir: tuple[Path, Path] | None = None) -> None:
        """Make ``folders``, the archive folder last, be as they were then. ``tempdir``: that of the watched run, and the one to have instead."""
        for folder, content in zip(folders, self.folders, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name, kept in content.items():
                data = kept.data
                if tempdir is not None and name.startswith("asyncdup-journal-"):
                    data = b"".join(_moved(line, *tempdir) for line in data.splitlines(keepends=True))
                (folder / name).write_bytes(data)
        for name, kept in self.spool.items() if tempdir is not None else ():
            path = tempdir[1] / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(kept.data)
            (path.parents[1] / "archive-folder").write_bytes(os.fsencode(folders[-1]))


def _moved(line: bytes, old: Path, new: Path) -> bytes:
    """A line of a journal that speaks of another temporary folder; one that was torn stays so."""
    text, _, checksum = line.rpartition(b" ")
    is_whole = checksum == b"%08x\n" % zlib.crc32(text)
    text = (text if is_whole else line).replace(*(f'"{path}/asyncdup-run-'.encode() for path in (old, new)))
    return b"%b %08x\n" % (text, zlib.crc32(text)) if is_whole else text


class Disk:
    """Watches ``folders``. ``states``: what was seen, each once. ``rng`` says where writes are torn; None: in the middle."""

    def __init__(
        self,
        *folders: Path,
        tempdir: Path | None = None,
        models: tuple[Model, ...] = ("kill", "power cut"),
        rng: random.Random | None = None,
    ) -> None:
        self._tempdir = tempdir
        self._models = models
        self._rng = rng
        self.states: list[State] = []
        self._folders = folders
        self._seen: set[str] = set()
        self._lock = threading.RLock()
        self._calls = 0
        # What a power cut leaves: of every file what was flushed last, under the names that its folder had when that was flushed last.
        self._flushed: dict[int, Kept] = {}
        self._named: dict[Path, dict[str, int]] = {}
        self._names: list[dict[Path, dict[str, int]]] = [{}, {}]  # before the last call that was seen, and after it
        self._pins: list[int] = []  # an inode that is still open is not given to another file
        self._read: dict[int, tuple[tuple[int, int], Kept]] = {}  # what need not be read again, by inode: its size and time then

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, every change of the disk by asyncdup is seen."""
        for folder in self._folders:
            self._adopt(folder)
        patches = [mock.patch.object(os, name, self._wrapped(name)) for name in CALLS]
        patches += [mock.patch(name, self._writer()) for name in WRITERS]
        try:
            for patch in patches:
                patch.start()
            yield
        finally:
            for patch in patches:
                patch.stop()
            for pin in self._pins:
                os.close(pin)
        self._take("the end")

    def _adopt(self, folder: Path) -> None:
        for path in folder.iterdir() if folder.exists() else ():
            self._flushed[path.stat().st_ino] = self._content(path)
        self._note_names(folder)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)
            with self._lock:
                self._take(f"{name} {os.path.basename(_shown(args[0]))}")
                if name in ("fsync", "fdatasync"):
                    return self._flush(args[0])
                return real(*args, **options)

        return call

    def _writer(self) -> type[FileIO]:
        disk = self

        class Watched(FileIO):
            def write(self, data: Any, /) -> int:
                if isinstance(self.name, int) and not disk._watches(self.name):
                    return super().write(data)
                with disk._lock:
                    view, written = memoryview(data), 0
                    disk._take("write")
                    for end in disk._tears(len(view)):
                        written += super().write(view[written:end])
                        disk._forget(self)
                        disk._take("the rest of a write")
                    written += super().write(view[written:])
                    disk._forget(self)
                    return written

            def truncate(self, size: int | None = None, /) -> int:
                with disk._lock:
                    disk._take("truncate")
                    disk._forget(self)
                    return super().truncate(size)

        return Watched

    def _watches(self, descriptor: int) -> bool:
        return _path(descriptor).parent in self._folders

    def _flush(self, descriptor: int) -> None:
        """Note what is flushed; the real thing would only take time."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._note_names(_path(descriptor))
        else:
            self._pins.append(os.dup(descriptor))
            self._flushed[status.st_ino] = self._content(Path(f"/proc/self/fd/{descriptor}"))

    def _note_names(self, folder: Path) -> None:
        if folder in self._folders and folder.exists():
            self._named[folder] = _inodes(folder)

    def _tears(self, size: int) -> list[int]:
        """How many of ``size`` bytes are written before a crash."""
        return [size // 2] if self._rng is None else sorted(self._rng.randrange(size + 1) for _ in range(TEARS))

    def _take(self, before: str) -> None:
        self._calls += 1
        now = {folder: _inodes(folder) for folder in self._folders}
        if now != self._names[1]:
            self._names = [self._names[1], now]
        contents = {folder: {name: self._content(folder / name) for name in sorted(names)} for folder, names in now.items()}
        for model in self._models:
            self._keep(before, model, tuple(self._left(model, folder, contents[folder]) for folder in self._folders))

    def _left(self, model: Model, folder: Path, now: Content) -> Content:
        """What is in ``folder`` after a crash, if the files in it are ``now``."""
        if model == "kill":
            return now
        inodes = self._names[1][folder]
        if model == "writes lost":
            return {name: self._flushed.get(inodes[name], NOTHING) for name in now}
        named = dict(self._named.get(folder, {}))
        if model == "power cut":
            return {name: self._flushed.get(inode, NOTHING) for name, inode in sorted(named.items())}
        if model == "names reordered":
            named = _with_last_change(named, self._names[0].get(folder, {}), inodes)
        contents = {inodes[name]: kept for name, kept in now.items()}
        return {name: contents.get(inode) or self._flushed.get(inode, NOTHING) for name, inode in sorted(named.items())}

    def _spool(self) -> Content:
        if self._tempdir is None:
            return {}
        found: Content = {}
        for path in sorted(self._tempdir.glob("asyncdup-run-*/asyncdup-*/*")):
            with suppress(FileNotFoundError):  # the loop removes one while a thread looks
                found[str(path.relative_to(self._tempdir))] = Kept(path.read_bytes())
        return found

    def _content(self, path: Path) -> Kept:
        status = path.stat()
        key = status.st_size, status.st_mtime_ns
        known = self._read.get(status.st_ino)
        if known is None or known[0] != key:
            known = self._read[status.st_ino] = key, Kept(path.read_bytes())
        return known[1]

    def _forget(self, file: FileIO) -> None:
        """It was written: its time need not tell, as it is no finer than some milliseconds."""
        self._read.pop(os.fstat(file.fileno()).st_ino, None)

    def _keep(self, before: str, model: Model, folders: tuple[Content, ...]) -> None:
        digest = hashlib.sha256()
        for content in folders:
            digest.update(b"folder")
            for name, kept in content.items():
                digest.update(_lasting(name).encode() + b"\0" + kept.digest)
        if (seen := digest.hexdigest()) not in self._seen:
            self._seen.add(seen)
            spool = {} if model == "power cut" else self._spool()
            if model == "writes lost":
                spool = dict.fromkeys(spool, NOTHING)
            self.states.append(State(self._calls, _lasting(before), model, folders, spool))


def _inodes(folder: Path) -> dict[str, int]:
    """By name. The lock is the kernel's: its file says nothing."""
    return {entry.name: entry.inode() for entry in os.scandir(folder) if entry.name != "lockfile"} if folder.exists() else {}


def _with_last_change(named: dict[str, int], before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """``named`` with the names that were given or taken away between ``before`` and ``after``."""
    given = {name: inode for name, inode in after.items() if before.get(name) != inode}
    return {name: inode for name, inode in (named | given).items() if name in after or name not in before}


def _path(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def _shown(what: Any) -> str:
    return str(_path(what)) if isinstance(what, int) else os.fsdecode(what)


def _lasting(name: str) -> str:
    """Without what is different in each run."""
    name = re.sub(r"\.asyncdup-[0-9a-f]+\.[0-9a-f]+-[0-9a-f]+", ".asyncdup-", name)
    return re.sub(r"\.asyncdup-[0-9]+-", ".asyncdup-", name)
