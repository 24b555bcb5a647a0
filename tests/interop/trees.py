"""Trees for the interop tests: made, edited at random, and listed as the archive keeps them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

IS_ROOT = os.geteuid() == 0

Listing = dict[str, dict[str, Any]]  # by relative path as ``os.fsdecode`` gives it, "." is the root; the shape of ``fixtures/*/expected``


def listing(root: Path, *, owners: bool = IS_ROOT) -> Listing:
    """What the archive keeps of ``root`` and of each entry below it. Sockets are not kept.

    Without ``owners`` also without setuid and setgid bits: who may not set the owner does not get them from us (P8), but from stock.
    """
    top = os.fsencode(root)
    found = {".": describe(top, owners=owners)}
    if stat.S_ISDIR(os.lstat(top).st_mode):
        for folder, folders, files in os.walk(top):
            for path in (os.path.join(folder, name) for name in folders + files):
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    found[os.fsdecode(os.path.relpath(path, top))] = describe(path, owners=owners)
    return found


def describe(path: bytes, *, owners: bool) -> dict[str, Any]:
    """Type, owner, mode, whole-second mtime, content: what is there of each type (``fixtures/README.md``)."""
    info = os.lstat(path)
    kind = next(name for name, test in _KINDS if test(info.st_mode))
    entry: dict[str, Any] = {"type": kind}
    if owners:
        entry |= {"uid": info.st_uid, "gid": info.st_gid}
    if kind != "sym":
        entry |= {"mode": stat.S_IMODE(info.st_mode) & _kept_bits(owners), "mtime": max(0, int(info.st_mtime))}
    if kind == "sym":
        entry["target"] = os.fsdecode(os.readlink(path))
    if kind == "reg":
        entry |= {"size": info.st_size, "sha256": hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()}
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


def expected(path: Path, *, owners: bool = IS_ROOT) -> Listing:
    """The listing in a fixture's ``expected/TIME.jsonl``."""
    found = {entry.pop("path"): entry for entry in map(json.loads, path.read_text().splitlines())}
    if not owners:
        for entry in found.values():
            del entry["uid"], entry["gid"]
            if "mode" in entry:
                entry["mode"] &= _kept_bits(owners)
    return found


def _kept_bits(owners: bool) -> int:
    return 0o7777 if owners else 0o1777


def can_make_devices(folder: Path) -> bool:
    """Root in a container often cannot."""
    try:
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError:
        return False
    os.unlink(folder / "device")
    return True


def remove(path: Path) -> None:
    """A tree or a single file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(path: Path, data: bytes, *, mode: int = 0o644, mtime: float = 1_500_000_000) -> None:
    """A file as given, folders above it included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, (mtime, mtime))


def settle(root: Path, mtime: int) -> None:
    """Give every folder of the tree the time ``mtime``, which all that was done in it has changed."""
    for folder, _, _ in os.walk(root, topdown=False):
        os.utime(folder, (mtime, mtime))


def make_plain(root: Path) -> None:
    """A small tree with a file of each kind of size, folders, a link. For ``edit_plain``."""
    for size in (0, 1, 65535, 65536, 65537):
        write(root / f"sized-{size}", random.Random(size).randbytes(size))
    write(root / "big", random.Random(1).randbytes(300_000))
    write(root / "folder/inner/deep", b"deep\n")
    write(root / "folder/run.sh", b"#!/bin/sh\nexit 0\n", mode=0o755)
    write(root / "becomes-folder", b"a file\n")
    write(root / "becomes-file/inner", b"in a folder\n")
    write(root / "becomes-link", b"a file\n")
    write(root / "text", b"the same line again\n" * 4000)
    (root / "link").symlink_to("folder/run.sh")
    (root / "folder/empty").mkdir()
    settle(root, 1_500_000_001)


def edit_plain(root: Path) -> None:
    """Changes inside and at the ends of files, of modes and times only, of types; deletions, something new."""
    big = bytearray((root / "big").read_bytes())
    big[1000:1100] = b"changed in its middle"
    write(root / "big", bytes(big) + random.Random(2).randbytes(80_000), mtime=1_500_001_000)
    write(root / "sized-0", b"no longer empty\n", mtime=1_500_001_000)
    write(root / "sized-1", b"", mtime=1_500_001_000)
    write(root / "sized-65537", random.Random(3).randbytes(140_000), mtime=1_500_001_000)
    os.utime(root / "sized-65536", (1_500_001_000, 1_500_001_000))
    (root / "folder/run.sh").chmod(0o4755)
    for name in ("becomes-folder", "becomes-link", "sized-65535"):
        (root / name).unlink()
    shutil.rmtree(root / "becomes-file")
    shutil.rmtree(root / "folder/inner")
    write(root / "becomes-file", b"now a file\n", mtime=1_500_001_000)
    write(root / "becomes-folder/new", b"now in a folder\n", mtime=1_500_001_000)
    (root / "becomes-link").symlink_to("text")
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")
    write(root / "new/file", b"new\n", mtime=1_500_001_000)
    settle(root, 1_500_001_001)


def edit_again(root: Path) -> None:
    """What was deleted comes back, what was changed changes again."""
    write(root / "folder/inner/deep", b"deep again\n", mtime=1_500_002_000)
    write(root / "big", b"in front of it" + (root / "big").read_bytes(), mtime=1_500_002_000)
    write(root / "sized-1", b"x", mtime=1_500_002_000)
    shutil.rmtree(root / "new")
    settle(root, 1_500_002_001)


ODD_NAMES = [
    b"-dash",
    b" blank first",
    b"blank last ",
    b"new\nline",
    b"tab\tname",
    b"bell\x07",
    b"quote'\"\\",
    b"*?[glob]",
    b"%41",
    b"~tilde",
    b"\xc2\xa0nbsp",
    "ü-é中😀".encode(),
    "é".encode() * 60,
    b"latin-\xe9",
    b"bad-\xff\xfe",
    b"n" * 91,  # with "snapshot/" in front: 100 bytes, the most that a ustar header holds
    b"n" * 92,
    b"n" * 255,
    b"snapshot",
    b"multivol_diff",
    b"1",
    b"duplicity-full.20231114T221320Z.manifest",
]


def make_odd(root: Path) -> None:
    """Names, types, owners, modes and times at the edges of what the format holds. Owners and devices only if they can be made."""
    root.mkdir()
    top = os.fsencode(root)
    for name in ODD_NAMES:
        path = Path(os.fsdecode(os.path.join(top, name)))
        write(path, name)
        write(path.with_name("in") / path.name, name * 3)
    for name in (b"sort", b"sort/a-dir", b"deep/" + b"/".join([b"d" * 80] * 5)):
        os.makedirs(os.path.join(top, name))
    for name in ("B", "a", "a b", "a.b", "a-dir/x"):
        write(root / "sort" / name, b"")
    for number, target in enumerate((b"nowhere", b"../..", b"/etc/passwd", b"t" * 150, b"bad-\xfe", "ü".encode())):
        os.symlink(target, os.path.join(top, b"link-%d" % number))
    os.mkfifo(root / "fifo", 0o640)
    os.utime(root / "fifo", (1_500_000_000, 1_500_000_000))
    with socket.socket(socket.AF_UNIX) as unix:
        folder = os.open(root, os.O_RDONLY)  # the name of a socket must be short, that of the folder may not be
        unix.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    write(root / "hard", b"two names\n")
    os.link(root / "hard", root / "hard-2")
    with open(root / "sparse", "wb") as file:
        file.truncate(300_000)
    os.utime(root / "sparse", (1_500_000_000, 1_500_000_000))
    write(root / "mode-7777", b"", mode=0o7777)
    write(root / "mode-0400", b"", mode=0o400)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    write(root / "zero-time", b"", mtime=0)
    write(root / "before-1970", b"", mtime=-1000)
    write(root / "far", b"", mtime=2**33 + 5)
    write(root / "rounds", b"")
    os.utime(root / "rounds", ns=(0, 1_500_000_000_999_999_999))
    if IS_ROOT:
        for number, (uid, gid) in enumerate([(12345, 54321), (3_000_000, 2_097_152), (1, 1)]):
            write(root / f"owner-{number}", b"")
            os.chown(root / f"owner-{number}", uid, gid)
        os.chown(root / "link-0", 12345, 12345, follow_symlinks=False)
    if IS_ROOT and can_make_devices(root):
        os.mknod(root / "chr", 0o620 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "blk", 0o600 | stat.S_IFBLK, os.makedev(7, 200))
        for name in ("chr", "blk"):
            os.utime(root / name, (1_500_000_000, 1_500_000_000))
    settle(root, 1_500_000_001)


def edit_odd(root: Path) -> None:
    """Change every second of the files with odd names, delete the others."""
    top = os.fsencode(root)
    for number, name in enumerate(ODD_NAMES):
        path = Path(os.fsdecode(os.path.join(top, name)))
        if number % 2:
            write(path, b"changed " + name * 2, mtime=1_500_001_000)
        else:
            path.unlink()
    (root / "link-1").unlink()
    os.mkfifo(root / "link-1", 0o600)
    os.utime(root / "link-1", (1_500_001_000, 1_500_001_000))
    (root / "fifo").chmod(0o600)
    settle(root, 1_500_001_001)


NAMES = [
    b"a",
    b"a.b",
    b"a b",
    b"B",
    b"-dash",
    b"new\nline",
    b"quote'\"\\",
    "ü".encode(),
    b"bad-\xff",
    b"n" * 101,
    "é".encode() * 60,
    b"diff",
    b"vol1",
]
SIZES = [0, 1, 511, 512, 5000, 65535, 65536, 65537, 131072, 200_000]
OWNERS = [(0, 0), (0, 0), (1, 1), (12345, 54321), (3_000_000, 3_000_000)]


class RandomTree:
    """A directory that is filled and edited at random, the same for the same seed.

    Each time that an entry is touched it gets a time of its own, in the past. So what the format cannot tell apart does not occur: a file in
    the place of another with the same mode, owner and whole-second time.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = os.fsencode(root)
        self.rng = random.Random(seed)
        self.clock = 1_500_000_000
        os.makedirs(self.root)

    def fill(self, entries: int = 14) -> None:
        """Make entries of every type."""
        for _ in range(entries):
            self._make(self._new_path())
        self._settle()

    def edit(self, steps: int = 8) -> None:
        """Change, remove, rename, re-type."""
        for _ in range(steps):
            paths = self._paths()
            action = self.rng.choice([self._change, self._change, self._remove, self._rename, self._dress, self._create])
            if paths or action == self._create:
                action(self.rng.choice(paths) if paths else b"")
        self._settle()

    def _new_path(self) -> bytes:
        folders = [self.root] + [path for path in self._paths() if os.path.isdir(path) and not os.path.islink(path)]
        folder = self.rng.choice([path for path in folders if len(path) < len(self.root) + 600])
        path = os.path.join(folder, self.rng.choice(NAMES))
        while os.path.lexists(path):
            path += b"%d" % self.rng.randrange(10)
        return path

    def _paths(self) -> list[bytes]:
        found = []
        for folder, folders, files in os.walk(self.root):
            found += [os.path.join(folder, name) for name in folders + files]
        return sorted(found)

    def _make(self, path: bytes) -> None:
        kind = self.rng.choice(["file"] * 6 + ["folder"] * 3 + ["link", "fifo"])
        if kind == "file":
            Path(os.fsdecode(path)).write_bytes(self._data(self.rng.choice(SIZES)))
        elif kind == "folder":
            os.mkdir(path)
        elif kind == "link":
            os.symlink(self.rng.choice([b"a", b"../nowhere", b"t" * 150, b"bad-\xfe"]), path)
        else:
            os.mkfifo(path)
        self._dress(path)

    def _data(self, size: int) -> bytes:
        if self.rng.random() < 0.7:
            return self.rng.randbytes(size)
        line = b"the same line again %d\n" % self.rng.randrange(100)
        return (line * (size // len(line) + 1))[:size]

    def _create(self, _: bytes) -> None:
        self._make(self._new_path())

    def _change(self, path: bytes) -> None:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        file = Path(os.fsdecode(path))
        data = bytearray(file.read_bytes())
        at = self.rng.randrange(len(data) + 1)
        choice = self.rng.random()
        if choice < 0.4:
            data[at:at] = self.rng.randbytes(self.rng.randrange(1, 3000))
        elif choice < 0.7:
            del data[at : at + self.rng.randrange(1, 5000)]
        else:
            data += self.rng.randbytes(70_000)
        mode = stat.S_IMODE(os.stat(path).st_mode)
        file.chmod(0o600)
        file.write_bytes(data)
        file.chmod(mode)

    def _remove(self, path: bytes) -> None:
        remove(Path(os.fsdecode(path)))
        if self.rng.random() < 0.4:
            self._make(path)

    def _rename(self, path: bytes) -> None:
        target = self._new_path()
        if not target.startswith(path + b"/"):
            os.rename(path, target)

    def _dress(self, path: bytes) -> None:
        """Another owner and mode; the time stays. Not of a symlink: only another target makes it another one (format, section 11)."""
        if os.path.islink(path):
            return
        if IS_ROOT:
            os.chown(path, *self.rng.choice(OWNERS))
        modes = [0o700, 0o755, 0o1777] if os.path.isdir(path) else [0o600, 0o640, 0o444, 0o4755]
        os.chmod(path, self.rng.choice(modes))

    def _settle(self) -> None:
        """Past times for what has been touched since the last call, no two the same."""
        for path in [*self._paths(), self.root]:
            if os.lstat(path).st_mtime > 1_600_000_000:
                self.clock += 1
                os.utime(path, (self.clock, self.clock), follow_symlinks=False)
