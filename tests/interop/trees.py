"""Trees for the interop tests: made, edited at random, and listed for comparison as stock duplicity restores them."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path
from typing import Any


def listing(root: Path, *, owners: bool = True) -> dict[bytes, dict[str, Any]]:
    """What the archive keeps of each entry below ``root`` (and of the root), by relative path; the shape of ``fixtures/*/expected``."""
    top = os.fsencode(root)
    found = {b".": describe(top, owners=owners)}
    if not stat.S_ISDIR(os.lstat(top).st_mode):
        return found
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = describe(path, owners=owners)
    return found


def describe(path: bytes, *, owners: bool = True) -> dict[str, Any]:
    """Type, owner, mode, whole-second mtime, content."""
    info = os.lstat(path)
    kind = next(name for name, test in _KINDS if test(info.st_mode))
    entry: dict[str, Any] = {"type": kind}
    if owners:
        entry |= {"uid": info.st_uid, "gid": info.st_gid}
    if kind != "sym":
        entry |= {"mode": stat.S_IMODE(info.st_mode), "mtime": max(0, int(info.st_mtime))}
    if kind == "sym":
        entry["target"] = os.fsdecode(os.readlink(path))
    if kind == "reg":
        entry["size"] = info.st_size
        entry["sha256"] = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
    if kind in ("chr", "blk"):
        entry["dev"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    return entry


_KINDS = [
    ("reg", stat.S_ISREG),
    ("dir", stat.S_ISDIR),
    ("sym", stat.S_ISLNK),
    ("fifo", stat.S_ISFIFO),
    ("chr", stat.S_ISCHR),
    ("blk", stat.S_ISBLK),
]

NAMES = [b"a", b"a.b", b"a b", b"B", b"-dash", b"new\nline", b"quote'\"\\", "ü".encode(), b"bad-\xff", b"n" * 101, "é".encode() * 60, b"diff", b"vol1"]
SIZES = [0, 1, 511, 512, 5000, 65535, 65536, 65537, 131072, 200_000]


class RandomTree:
    """A directory that is filled and edited at random, the same for the same seed. All mtimes lie in the past, as a quiet source's do."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = os.fsencode(root)
        self.rng = random.Random(seed)
        self.clock = 1_500_000_000
        os.makedirs(self.root)

    def fill(self, entries: int = 12) -> None:
        """Make entries of every type."""
        for _ in range(entries):
            self._make(self._new_path())
        self._settle()

    def edit(self, steps: int = 6) -> None:
        """Change, remove, rename, re-type."""
        for _ in range(steps):
            paths = self._paths()
            action = self.rng.choice([self._change, self._change, self._remove, self._rename, self._chmod, self._create])
            if paths or action == self._create:
                action(self.rng.choice(paths) if paths else b"")
        self._settle()

    def _new_path(self) -> bytes:
        folders = [self.root] + [path for path in self._paths() if os.path.isdir(path) and not os.path.islink(path)]
        while True:
            path = os.path.join(self.rng.choice(folders), self.rng.choice(NAMES))
            if len(path) > 900:
                folders = [self.root]
            if not os.path.lexists(path) and len(path) < 1500:
                return path
            path += b"%d" % self.rng.randrange(1000)
            if not os.path.lexists(path) and len(os.path.basename(path)) < 250:
                return path

    def _paths(self) -> list[bytes]:
        found = []
        for folder, folders, files in os.walk(self.root):
            found += [os.path.join(folder, name) for name in folders + files]
        return sorted(found)

    def _make(self, path: bytes) -> None:
        kind = self.rng.choice(["file"] * 6 + ["dir"] * 3 + ["link", "fifo"])
        if kind == "file":
            self._write(path, self._data(self.rng.choice(SIZES)))
        elif kind == "dir":
            os.mkdir(path, 0o755)
        elif kind == "link":
            os.symlink(self.rng.choice([b"a", b"../nowhere", b"t" * 150, b"bad-\xfe"]), path)
        else:
            os.mkfifo(path, 0o644)

    def _data(self, size: int) -> bytes:
        unit = self.rng.randbytes(64) if self.rng.random() < 0.5 else b"the same line again\n"
        return (unit * (size // len(unit) + 1))[:size] if self.rng.random() < 0.3 else self.rng.randbytes(size)

    def _write(self, path: bytes, data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, self.rng.choice([0o644, 0o600, 0o755, 0o444]))

    def _create(self, _: bytes) -> None:
        self._make(self._new_path())

    def _change(self, path: bytes) -> None:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        data = bytearray(Path(os.fsdecode(path)).read_bytes())
        os.chmod(path, 0o644)
        at = self.rng.randrange(len(data) + 1)
        choice = self.rng.random()
        if choice < 0.4:
            data[at:at] = self.rng.randbytes(self.rng.randrange(1, 3000))
        elif choice < 0.7:
            del data[at : at + self.rng.randrange(1, 5000)]
        else:
            data += self.rng.randbytes(70_000)
        self._write(path, bytes(data))

    def _remove(self, path: bytes) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            for folder, folders, files in os.walk(path, topdown=False):
                for name in files:
                    os.unlink(os.path.join(folder, name))
                for name in folders:
                    full = os.path.join(folder, name)
                    os.unlink(full) if os.path.islink(full) else os.rmdir(full)
            os.rmdir(path)
        else:
            os.unlink(path)
        if self.rng.random() < 0.4:
            self._make(path)

    def _rename(self, path: bytes) -> None:
        target = self._new_path()
        if not target.startswith(path + b"/"):
            os.rename(path, target)

    def _chmod(self, path: bytes) -> None:
        if not os.path.islink(path):
            os.chmod(path, self.rng.choice([0o700, 0o755]) if os.path.isdir(path) else self.rng.choice([0o600, 0o640, 0o666]))

    def _settle(self) -> None:
        """Whole-second times, later at each call for what has been touched since the last one."""
        self.clock += 1000
        for path in [*self._paths(), self.root]:
            info = os.lstat(path)
            if info.st_mtime > 1_600_000_000:
                os.utime(path, (self.clock, self.clock), follow_symlinks=False)
