"""Whole archives made to do harm (P3, P4, P7, P8, P9): what is refused is said, nothing outside of the target is touched; and controls.

Each case is the members of one or two sets. It is restored into a new folder and over one with links that lead outside.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import pytest
from fuzz.archives import mended_tar
from fuzz.mutate import LONGEST, Mutator
from torture.world import START, URL, World, registered, tree

import asyncdup
from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.memory import StoredObject
from asyncdup.formats import difftar, manifest, names, tar
from asyncdup.formats.manifest import VolumeRecord
from asyncdup.formats.names import SetId
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, REG, SYM, Entry
from asyncdup.testing.simulation import simulate

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
MUTATED = int(os.environ.get("ASYNCDUP_HOSTILE", "200"))
WORDS = (b"snapshot/", b"multivol_snapshot/", b"diff/", b"deleted/", b"../", b"/", b"outside/victim", b"d/", b"0", b"1", b"2", b"5", b"6")
Sets = Sequence[bytes]  # the plain bytes of one volume each
ME = os.geteuid(), os.getegid()


def entry(
    path: str | bytes, kind: bytes = REG, mode: int = 0o755, link: bytes = b"", dev: tuple[int, int] = (0, 0), owner: tuple[int, int] = ME
) -> Entry:
    return Entry(os.fsencode(path), kind, mode, *owner, 1_500_000_000, 0, b"", b"", link, dev)


def file(path: str | bytes, data: bytes = b"evil", **about: object) -> bytes:
    return difftar.snapshot(entry(path, **about), data)  # type: ignore[arg-type]


def thing(path: str | bytes, kind: bytes, **about: object) -> bytes:
    return difftar.snapshot(entry(path, kind, **about))  # type: ignore[arg-type]


def raw(name: bytes, kind: bytes = REG, data: bytes = b"", link: bytes = b"") -> bytes:
    """A member by its name in the archive."""
    return tar.member(name, entry("x", kind, link=link), data)


def pax(**words: bytes) -> bytes:
    """An extension header."""
    body = b""
    for word, value in words.items():
        record = b" " + word.encode() + b"=" + value + b"\n"
        size = len(record) + 1
        while len(str(size)) + len(record) != size:
            size = len(str(size)) + len(record)
        body += str(size).encode() + record
    return resummed(tar.member(b"pax", entry("x"), body), b"x")


def resummed(member: bytes, kind: bytes, **fields: tuple[int, bytes]) -> bytes:
    """The header with another type or other bytes, and the right checksum."""
    block = bytearray(member[:512])
    block[156:157] = kind
    for at, value in fields.values():
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + member[512:]


def volume(*members: bytes) -> bytes:
    data = b"".join(members)
    return data + difftar.end(len(data))


ROOT = thing(b"", DIR)
OUT = thing("d", SYM, link=b"../outside")
DELTA = b"rs\x026"
COPY_FAR = DELTA + b"\x55" + b"\xff" * 4 + b"\x01" + b"\0"  # from far behind the end of the base
BOMB = DELTA + b"".join(b"\x45\x00\x04" for _ in range(1)) * 60_000 + b"\0"


def one(*members: bytes) -> Sets:
    return (volume(ROOT, *members),)


CASES: dict[str, Sets] = {
    "control: a file": one(file("a", b"good")),
    "control: all kinds": one(thing("d", DIR), file("d/a", b"good"), thing("f", FIFO), thing("l", SYM, link=b"d")),
    "control: a link that leads outside and is not followed": one(OUT),
    "control: changes of kind over two sets": (
        volume(ROOT, file("a"), thing("b", DIR)),
        volume(ROOT, thing("a", DIR), file("a/x"), file("b")),
    ),
    "control: a name of 255 bytes": one(file("n" * 255)),
    "control: a name that is no text": one(file(b"\xff\xfe")),
    "absolute": one(raw(b"snapshot//tmp/asyncdup-escape", data=b"evil")),
    "absolute without the word": one(raw(b"/tmp/asyncdup-escape", data=b"evil")),
    "dot dot": one(raw(b"snapshot/../outside/new", data=b"evil")),
    "dot dot in the middle": one(raw(b"snapshot/a/../../outside/new", data=b"evil")),
    "dot dot at the end": one(raw(b"snapshot/a/..", DIR)),
    "dot": one(raw(b"snapshot/./a", data=b"evil")),
    "double slash": one(raw(b"snapshot/a//b", data=b"evil")),
    "no word": one(raw(b"a", data=b"evil")),
    "unknown word": one(raw(b"restore/a", data=b"evil")),
    "empty name": one(raw(b"", data=b"evil")),
    "dot dot in a pax path": one(pax(path=b"snapshot/../outside/new"), raw(b"snapshot/a", data=b"evil")),
    "NUL in a pax path": one(pax(path=b"snapshot/a\0b"), raw(b"snapshot/a", data=b"evil")),
    "newline that ends a pax record": one(pax(path=b"snapshot/a\n11 path=/b"), raw(b"snapshot/a", data=b"evil")),
    "a pax path of 5,000 bytes": one(pax(path=b"snapshot/" + b"x/" * 2500 + b"x"), raw(b"snapshot/a", data=b"evil")),
    "a pax header without its member": one(pax(path=b"snapshot/a")),
    "a pax size that is not a number": one(pax(size=b"many"), raw(b"snapshot/a", data=b"evil")),
    "a pax size beyond all": one(pax(size=b"9" * 19), raw(b"snapshot/a", data=b"evil")),
    "a negative pax size": one(pax(size=b"-512"), raw(b"snapshot/a", data=b"evil")),
    "a pax header of 2 MiB": one(pax(comment=bytes(2 << 20)), raw(b"snapshot/a", data=b"evil")),
    "a GNU long name outside": one(
        resummed(tar.member(b"L", entry("x"), b"snapshot/../outside/new\0"), b"L"), raw(b"snapshot/a", data=b"evil")
    ),
    "a GNU sparse file": one(pax(**{"GNU.sparse.major": b"1"}), raw(b"snapshot/a", data=b"evil")),
    "a size in base 256": one(resummed(raw(b"snapshot/a"), REG, size=(124, b"\x80" + b"\x7f" * 11))),
    "a negative size": one(resummed(raw(b"snapshot/a"), REG, size=(124, b"\xff" * 12))),
    "a size that is no number": one(resummed(raw(b"snapshot/a"), REG, size=(124, b"0000000000x\0"))),
    "a wrong checksum": one(raw(b"snapshot/a")[:148] + b"000000\0 " + raw(b"snapshot/a")[156:]),
    "a hard link": one(resummed(raw(b"snapshot/a", link=b"../outside/victim"), b"1", link=(157, b"../outside/victim"))),
    "an unknown type": one(resummed(raw(b"snapshot/a"), b"Z")),
    "a folder with data": one(resummed(raw(b"snapshot/a", data=b"x" * 512), DIR)),
    "no end": (volume(ROOT, file("a"))[:1024],),
    "cut in a member": (volume(ROOT, file("a", b"x" * 2000))[:1536],),
    "garbage": (b"\xa5" * 10240,),
    "nothing": (b"",),
    "file below a link": one(OUT, file("d/victim")),
    "new file below a link": one(OUT, file("d/new")),
    "folder below a link": one(OUT, thing("d/new", DIR)),
    "folder in the place of a link": one(OUT, thing("d", DIR), file("d/victim")),
    "link below a link": one(OUT, thing("d/new", SYM, link=b"/")),
    "fifo below a link": one(OUT, thing("d/new", FIFO)),
    "deep below a link": one(OUT, file("d/e/f/g")),
    "link to the parent": one(thing("d", SYM, link=b".."), file("d/outside/victim")),
    "absolute link": one(thing("d", SYM, link=b"/"), file("d/tmp/asyncdup-escape")),
    "link to itself": one(thing("d", SYM, link=b"d"), file("d/x")),
    "link without a target": one(thing("d", SYM)),
    "link of 6,000 bytes": one(pax(linkpath=b"x/" * 3000), thing("d", SYM, link=b"x")),
    "a link in the first set, a file below in the second": (volume(ROOT, OUT), volume(ROOT, file("d/victim"))),
    "a folder in the first set, a link in the second, content below kept": (
        volume(ROOT, thing("d", DIR), file("d/victim")),
        volume(ROOT, OUT),
    ),
    "a delta upon a link": (volume(ROOT, OUT), volume(ROOT, difftar.diff(entry("d"), DELTA + b"\x01x\0"))),
    "a delta upon a folder": (volume(ROOT, thing("d", DIR)), volume(ROOT, difftar.diff(entry("d"), DELTA + b"\x01x\0"))),
    "a delta upon a device": (volume(ROOT, thing("d", CHR, dev=(1, 3))), volume(ROOT, difftar.diff(entry("d"), DELTA + b"\x01x\0"))),
    "a delta upon nothing": one(difftar.diff(entry("d"), DELTA + b"\x01x\0")),
    "a delta without magic": (volume(ROOT, file("d")), volume(ROOT, difftar.diff(entry("d"), b"\x01x\0"))),
    "a delta without its end": (volume(ROOT, file("d")), volume(ROOT, difftar.diff(entry("d"), DELTA + b"\x01x"))),
    "an empty delta": (volume(ROOT, file("d")), volume(ROOT, difftar.diff(entry("d"), b""))),
    "a delta that copies from far behind the end": (volume(ROOT, file("d")), volume(ROOT, difftar.diff(entry("d"), COPY_FAR))),
    "a delta with reserved commands": (volume(ROOT, file("d")), volume(ROOT, difftar.diff(entry("d"), DELTA + b"\xf0\0"))),
    "a delta that copies a byte 20,000 times from nowhere": (
        volume(ROOT, file("d", b"")),
        volume(ROOT, difftar.diff(entry("d"), BOMB[:60_000])),
    ),
    "the same file twice": one(file("a", b"first"), file("a", b"second")),
    "out of order": one(file("b"), file("a")),
    "a file and then a child": one(file("a"), file("a/b")),
    "a fifo and then a child": one(thing("a", FIFO), file("a/b")),
    "a child of what was deleted": (volume(ROOT, thing("a", DIR)), volume(ROOT, difftar.deleted(b"a"), file("a/b"))),
    "part 0": one(raw(b"multivol_snapshot/a/0", data=b"x")),
    "part 2 without part 1": one(difftar.multivol("snapshot", entry("a"), 2, b"x")),
    "parts that leave one out": one(
        difftar.multivol("snapshot", entry("a"), 1, bytes(65536)), difftar.multivol("snapshot", entry("a"), 3, b"x")
    ),
    "a part number of 30 digits": one(raw(b"multivol_snapshot/a/" + b"9" * 30, data=b"x")),
    "a part number that is none": one(raw(b"multivol_snapshot/a/one", data=b"x")),
    "a part that is no file": one(raw(b"multivol_snapshot/a/1", SYM, link=b"x")),
    "parts of a path outside": one(raw(b"multivol_snapshot/../outside/new/1", data=b"x")),
    "a root that is a link": (volume(thing(b"", SYM, link=b"../outside"), file("victim")),),
    "a root that is a fifo": (volume(thing(b"", FIFO)),),
    "a root that is a device": (volume(thing(b"", BLK, dev=(8, 0))),),
    "a root that is a file, and children": (volume(file(b"", b"x"), file("a")),),
    "a root twice": (volume(ROOT, thing(b"", DIR), file("a")),),
    "no root": (volume(file("a/b/c")),),
    "a device with impossible numbers": one(resummed(thing("a", CHR), CHR, dev=(329, b"7777777\0"))),
    "setuid of another owner": one(file("a", mode=0o6755, owner=(4_294_967_294, 4_294_967_294))),
    "a component of 300 bytes": one(file("n" * 300)),
    "a parent of 300 bytes": one(file("n" * 300 + "/a")),
    "400 folders deep": one(file("x/" * 400 + "x")),
}


def stored(sets: Sets) -> dict[str, StoredObject]:
    """The chain that these volumes make."""
    store: dict[str, StoredObject] = {}

    def put(name: str, data: bytes) -> None:
        store[name] = StoredObject(ObjectInfo(name, len(data)), data)

    for number, data in enumerate(sets):
        about = SetId("inc", START + number - 1, START + number) if number else SetId("full", None, START)
        put(names.volume_name(about, 1, ""), data)
        record = VolumeRecord(
            number=1, start_path=b"", start_block=None, end_path=b"", end_block=None, hashes={"SHA1": hashlib.sha1(data).hexdigest()}
        )
        text = b"".join([manifest.write_head(b"host", b"/source"), manifest.write_volume(record), *manifest.write_file_list(0)])
        put(names.manifest_name(about, "", names.Prefixes()), text)
    return store


def outside_of(folder: Path) -> object:
    victim = folder / "outside" / "victim"
    status = victim.stat()
    return (
        os.listdir(folder / "outside"),
        os.stat(folder / "outside")[:8],
        victim.read_bytes(),
        status.st_mode,
        status.st_uid,
        status.st_mtime_ns,
        status.st_nlink,
    )


async def attempt(name: str, folder: Path, rng: random.Random, *, force: bool) -> None:
    """One restore of a case. P3: what ends without an error is right, and controls do."""
    error = await restored_inside(CASES[name], folder, rng, force=force, owners=[4_294_967_294])
    if name.startswith("control"):
        assert error is None, (name, error)
        assert tree(folder / "target"), name
    elif name not in HARMLESS and not force:
        assert error is not None, f"{name}: restored without a word: {sorted(tree(folder / 'target'))}"


async def restored_inside(
    sets: Sets, folder: Path, rng: random.Random, *, force: bool, owners: Container[int] = range(1 << 32)
) -> Exception | None:
    """One restore, and what it ended with. P7: nothing outside has changed. P8: setuid only for root, and only of ``owners``."""
    (folder / "outside").mkdir()
    (folder / "outside" / "victim").write_bytes(b"untouched")
    world = World(folder, rng, store=stored(sets))
    target = folder / "target"
    target.mkdir()
    if force:
        for link in ("a", "b", "e", "x"):
            (target / link).symlink_to("../outside/victim" if link in "ae" else "../outside")
    before = outside_of(folder)
    error: Exception | None = None
    with registered(world.backend):
        try:
            await asyncdup.restore(URL, target, world.options(force=True))
        except Exception as caught:
            world.refuse(caught)
            error = caught
    assert outside_of(folder) == before, "something outside was changed"
    assert not os.path.lexists("/tmp/asyncdup-escape")
    for at, folders, files in os.walk(target):
        for each in folders + files:
            status = os.lstat(os.path.join(at, each))
            assert not status.st_mode & 0o6000 or (status.st_uid in owners and os.geteuid() == 0), each
    return error


# What these hold can be restored as archived, within the target.
HARMLESS = {
    "newline that ends a pax record",
    "a child of what was deleted",
    "setuid of another owner",
    "no root",
    "400 folders deep",
    "a folder in the first set, a link in the second, content below kept",
}


@pytest.mark.parametrize("force", [False, True], ids=["new", "over links"])
@pytest.mark.parametrize("name", CASES)
def test_nothing_outside_is_touched_and_nothing_is_restored_silently(name: str, force: bool, folders: Callable[[], Path]) -> None:
    simulate(1, lambda rng: attempt(name, folders(), rng, force=force))


@pytest.mark.parametrize("part", range(4))
def test_no_mutation_of_them_touches_anything_outside(part: int, folders: Callable[[], Path]) -> None:
    """P7, P9: whatever an archive says, also where nobody has thought of it. ``ASYNCDUP_HOSTILE=N`` sets how many."""
    for number, sets in enumerate(mutated(MUTATED // 4, f"{os.environ.get('ASYNCDUP_SEED', '0')} {part}")):
        simulate(1, lambda rng, sets=sets, force=number % 2 == 0: restored_inside(sets, folders(), rng, force=force))


def mutated(count: int, seed: str) -> Iterator[Sets]:
    """Archives of one or two sets that are nearly those of ``CASES``, with right checksums more often than not."""
    rng = random.Random(seed)
    volumes = [data for sets in CASES.values() for data in sets if len(data) <= LONGEST * 2]
    mutate = Mutator(rng, [data.rstrip(b"\0") + bytes(1024) for data in volumes], WORDS, mended_tar)
    for _ in range(count):
        yield [mutate() for _ in range(rng.choice((1, 2)))]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody; the other tests have run without privilege already")
def test_a_user_without_privilege_is_as_safe() -> None:
    """P7, P8: all cases once more, and some mutations, in a process that has given its privileges up."""
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o711)
        command = [sys.executable, "-m", "torture.as_nobody", home]
        done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=100 + MUTATED, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{2 * len(CASES)} cases and {MUTATED // 4} mutations as user 65534"


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 80 and sum(name.startswith("control") for name in CASES) >= 5
