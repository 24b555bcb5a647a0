"""One bit flipped, or the end cut off, in each kind of file of an archive, on a machine that knows it and on a new one (P3, P4, P5, P18).

Whatever a command then does, it ends loudly or gives what was backed up; and ``check --read-data`` finds everything that could be restored
wrongly. ``ASYNCDUP_FLIPS=N`` damages N files, ``ASYNCDUP_SEED=N`` others.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import shutil
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from interop.trees import Listing, listing
from torture.world import SMALL

import asyncdup
from asyncdup.codecs import Encryption
from asyncdup.commands.check import check
from asyncdup.commands.files import list_current_files
from asyncdup.formats import manifest
from asyncdup.formats.names import NO_PREFIXES, parse_name
from asyncdup.formats.sigtar import SigtarReader
from asyncdup.formats.tar import Entry
from asyncdup.transfer import RetryPolicy

pytestmark = [pytest.mark.slow, pytest.mark.realtime, pytest.mark.timeout(600)]

START, DAY = 1_700_000_000, 86_400
FLIPS = int(os.environ.get("ASYNCDUP_FLIPS", "120"))
SEED = int(os.environ.get("ASYNCDUP_SEED", "0"))
SOON = RetryPolicy(base=0.001)  # a damaged volume is fetched again, which here helps nothing
FORMS: dict[str, dict[str, Any]] = {
    "gzip": {},
    "bare": {"compression": False},
    "gpg": {"encryption": Encryption(passphrase="asyncdup-test")},
}
SHARES = {"gzip": 6, "bare": 5, "gpg": 1}  # of twelve: gpg takes its time


@dataclass
class Whole:
    """A full and an incremental of several volumes, their cache, and what they must restore to."""

    folder: Path
    source: Path
    options: dict[str, Any]
    kept: dict[int, Listing] = field(default_factory=dict)
    shown: tuple[list[Any] | None, list[bytes] | None] = (None, None)  # what verify and list say while all is well

    def make(self) -> None:
        self.source.mkdir()
        for number in range(2):
            edit(self.source, number)
            self.kept[START + number * DAY] = listing(self.source)
            run(asyncdup.backup(self.source, self.url, self.at(START + number * DAY, volume_size=SMALL)))
        edit(self.source, 2)
        self.shown = differences(self), listed(self)

    @property
    def url(self) -> str:
        return f"file://{self.folder / 'target'}"

    def at(self, now: int, **changes: Any) -> asyncdup.Options:
        """Options of a command at a time."""
        given: dict[str, Any] = {
            "archive_dir": self.folder / "cache",
            "name": "c",
            "tempdir": self.folder,
            "now": lambda: float(now),
        } | self.options
        return asyncdup.Options(retry=SOON, **given | changes)

    def copy(self, folder: Path, *, cache: bool) -> Whole:
        """To be damaged. The source is shared: nothing is written there."""
        for name in ("target", "cache") if cache else ("target",):
            shutil.copytree(self.folder / name, folder / name)
        return Whole(folder, self.source, self.options, dict(self.kept), self.shown)


def edit(source: Path, number: int) -> None:
    """Something new, changed and gone each time; a few files, as every case reads them all several times."""
    rng = random.Random(number)
    big = source / "big"
    big.write_bytes(rng.randbytes(70_000) + big.read_bytes()[-60_000:] if number else rng.randbytes(150_000))
    (source / f"new-{number}").write_bytes(b"text\n" * 500)
    (source / f"new-{number - 1}").unlink(missing_ok=True)
    (source / "folder").mkdir(exist_ok=True)
    (source / "folder" / f"link-{number}").symlink_to("to/nothing")
    for path in (big, source / f"new-{number}", source):
        os.utime(path, (START + number, START + number))


def run(work: Awaitable[Any]) -> Any:
    """On a loop of its own."""

    async def whole() -> Any:
        return await work

    return asyncio.run(whole())


def loudly(command: Callable[[], Any]) -> Any:
    """What it gives; None: it ended with an error of ours, which says something."""
    try:
        return command()
    except asyncdup.AsyncdupError as error:
        assert str(error)
        return None


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    made: dict[str, Whole] = {}

    def make(form: str) -> Whole:
        if form not in made:
            folder = tmp_path_factory.mktemp(form)
            fresh = Whole(folder, folder / "source", FORMS[form])
            fresh.make()
            made[form] = fresh
        return made[form]

    return make


def damage(path: Path, rng: random.Random) -> str:
    """Done to a file; says what."""
    data = bytearray(path.read_bytes())
    if rng.random() < 0.25:
        size = rng.randrange(len(data))
        path.write_bytes(data[:size])
        return f"cut to {size} of {len(data)} bytes"
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at} of {len(data)} flipped"


def kinds(folder: Path) -> dict[str, list[Path]]:
    """The files of a target or a cache by what they are."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if (parsed := parse_name(path.name, NO_PREFIXES, START)) is not None:
            found.setdefault(f"{parsed.set.type} {parsed.kind}", []).append(path)
    return found


def restored(made: Whole, time: int) -> Listing | None:
    """The tree as of a time; None: refused, and every file that is there is right or not there."""
    to = made.folder / "restored"
    shutil.rmtree(to, ignore_errors=True)
    done = loudly(lambda: (run(asyncdup.restore(made.url, to, made.at(START + 5 * DAY), time=time)), True))
    found = listing(to) if to.exists() else {}
    if done is None:
        regular = {path: about for path, about in found.items() if about["type"] == "reg"}
        assert all(about["sha256"] == made.kept[time].get(path, about)["sha256"] for path, about in regular.items()), (
            "a wrong file was left"
        )
        return None
    return found


KINDS = tuple(f"{kind} {what}" for kind in ("full", "inc") for what in ("volume", "manifest", "signatures"))
PATTERN = [form for form, share in SHARES.items() for _ in range(share)]


@dataclass(frozen=True)
class Case:
    """What is damaged: a file of a kind at the target, or in the cache. ``cache``: the machine has one."""

    number: int
    form: str
    kind: str
    cache: bool
    in_cache: bool


def planned(count: int) -> list[Case]:
    """Every kind of file, with a cache and without, in each twelve; the forms take turns."""
    cases = []
    for number in range(count):
        block, place = divmod(number, 12)
        kind, cache = KINDS[place // 2], place % 2 == 0
        in_cache = cache and not kind.endswith("volume") and block % 3 == 2
        cases.append(Case(number, PATTERN[(place * 5 + block) % 12], kind, cache, in_cache))
    return cases


def reads_the_same(path: Path, before: bytes) -> bool:
    """Whether nothing that a restore or the next incremental needs has changed: some bits of a manifest or a header say nothing."""
    after = path.read_bytes()
    try:
        if path.name.endswith(".manifest"):
            return manifest.parse(after).volumes == manifest.parse(before).volumes
        if path.name.endswith(".sigtar.gz"):
            return gzip.decompress(after) == gzip.decompress(before)
        if path.name.endswith(".sigtar"):
            return SigtarReader().feed(after) == SigtarReader().feed(before)
        return False
    except (asyncdup.AsyncdupError, OSError, EOFError, zlib.error):
        return False


def differences(made: Whole) -> list[Any] | None:
    lines: list[Any] = []
    done = loudly(lambda: run(asyncdup.verify(made.url, made.source, made.at(START + 5 * DAY), on_difference=lines.append)))
    return None if done is None else lines


def listed(made: Whole) -> list[bytes] | None:
    paths: list[bytes] = []

    def note(entries: list[Entry]) -> None:
        paths.extend(entry.path for entry in entries)

    done = loudly(lambda: run(list_current_files(made.url, made.at(START + 5 * DAY), on_entries=note)))
    return None if done is None else paths


def survives(case: Case, original: Whole, folder: Path) -> None:
    rng = random.Random(f"{SEED} {case}")
    made = original.copy(folder, cache=case.cache)
    path = rng.choice(kinds(folder / "cache" / "c" if case.in_cache else folder / "target")[case.kind])
    before = path.read_bytes()
    what = f"{case}: {path.name}: {damage(path, rng)}"

    found = loudly(lambda: run(check(made.url, made.at(START + 5 * DAY), read_data=True)))
    if not case.in_cache and found is not None and not found.damage:
        assert reads_the_same(path, before), f"{what}: not found"
    for time in made.kept:
        assert restored(made, time) in (None, made.kept[time]), what
    assert differences(made) in (None, made.shown[0]), what
    assert listed(made) in (None, made.shown[1]), what

    made.kept[START + 6 * DAY] = listing(made.source)
    after = loudly(lambda: run(asyncdup.backup(made.source, made.url, made.at(START + 6 * DAY, allow_source_mismatch=True))))
    if after is not None:  # else nothing has changed, and nothing new is there
        for time in (START + DAY, START + 6 * DAY):
            assert restored(made, time) in (None, made.kept[time]), f"{what}: after one more backup"


@pytest.mark.parametrize("part", range(-(-FLIPS // 12)))
def test_damage_is_said_or_does_no_harm(part: int, whole: Callable[[str], Whole], tmp_path: Path) -> None:
    cases = planned(FLIPS)[12 * part : 12 * (part + 1)]

    for case in cases:
        folder = tmp_path / str(case.number)
        folder.mkdir()
        survives(case, whole(case.form), folder)
        shutil.rmtree(folder)


def test_every_kind_of_file_is_damaged_with_a_cache_and_without() -> None:
    cases = planned(FLIPS)

    assert len(cases) == FLIPS >= 120
    assert {(case.kind, case.cache) for case in cases} == {(kind, cache) for kind in KINDS for cache in (True, False)}
    assert {case.form for case in cases} == FORMS.keys() and any(case.in_cache for case in cases)
