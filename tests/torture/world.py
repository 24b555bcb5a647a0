"""Backups of a small tree in simulated time: a target in memory that fails by chance, and what each backup of it must restore.

Everything a run does follows from the seed. What fails is said with its seed: ``ASYNCDUP_SEED=N`` runs that one alone.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncdup
from asyncdup.archive.chains import BackupSet, collect
from asyncdup.backends.memory import MemoryBackend, Store
from asyncdup.backends.registry import _FACTORIES
from asyncdup.errors import OperatorError, is_root_cause
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Chance, Flip, Step, Truncate, usual_chances
from asyncdup.testing.faulty import PASS

START = 1_700_000_000  # seconds since the epoch at virtual time 0
SMALL = 140_000  # bytes of a volume: about one member of 64 KiB fits
SIZES = (0, 1, 700, 5_000, 66_000, 120_000)
NAMES = ("a", "b", "b/x", "c", "c/d/e", "long-" + "n" * 120, "ü", "z z")
URL = "simulated://away/place"

Tree = dict[str, bytes | str]


def tree(root: Path) -> Tree:
    """What is below ``root``: content of files, targets of links, ``"folder"``."""
    found: Tree = {}
    for at, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(at, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = f"-> {os.readlink(path)}"
            elif os.path.isdir(path):
                found[key] = "folder"
            else:
                found[key] = Path(path).read_bytes() if os.path.isfile(path) else "special"
    return found


class Source:
    """A tree on disk that changes by chance. Each change has a time of its own, so that it is seen."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root
        self._rng = rng
        self._time = START - 1_000_000
        root.mkdir()
        for _ in range(3):
            self.change()

    def change(self) -> None:
        """One thing is made, written to, replaced or removed."""
        path = self.root / self._rng.choice(NAMES)
        kind = self._rng.choice(["write", "write", "append", "poke", "remove", "link", "folder"])
        if kind in ("append", "poke") and path.is_file() and not path.is_symlink():
            data = bytearray(path.read_bytes())
            if kind == "append" or not data:
                data += self._rng.randbytes(300)
            else:
                data[self._rng.randrange(len(data))] ^= 0x55
            return self._write(path, bytes(data))
        self._clear(path)
        if kind == "link":
            path.symlink_to("a")
        elif kind == "folder":
            path.mkdir()
        elif kind != "remove":
            self._write(path, self._rng.randbytes(self._rng.choice(SIZES)))

    def _clear(self, path: Path) -> None:
        for above in reversed(path.parents):
            if self.root in above.parents and (above.is_symlink() or above.is_file()):
                above.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        self._time += 7
        path.write_bytes(data)
        os.utime(path, (self._time, self._time))


@dataclass
class Killed:
    """What a SIGKILL leaves: the objects at the target, and the folders of this machine."""

    store: Store
    folder: Path


@dataclass
class World:
    """A source, a target and the commands between them.

    Attributes:
        model: by the time of each complete backup at the target, the tree that it must restore.
        mixed: by the time of each backup that may have been gone on with after the source had changed, the states of the source that it may
            hold parts of (P2); until it is restored, which shows what it holds.
        refused: what commands ended with.
    """

    folder: Path
    rng: random.Random
    store: Store = field(default_factory=dict)
    model: dict[int, Tree] = field(default_factory=dict)
    mixed: dict[int, list[Tree]] = field(default_factory=dict)
    refused: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = Source(self.folder / "source", self.rng)
        self.backend = FaultyBackend(MemoryBackend(self.store), rng=self.rng)
        self.defaults: dict[str, Any] = {"compression": self.rng.random() < 0.5, "concurrency": self.rng.choice([0, 1, 3])}
        self._began = 0
        self._restored = 0
        self._states: list[Tree] = []  # of the source, since the last backup that left nothing unfinished
        (self.folder / "home").mkdir()

    def options(self, machine: str = "home", **changes: Any) -> asyncdup.Options:
        """Each command begins some seconds later than the one before."""
        clock = asyncio.get_running_loop().time
        self._began += 10
        offset = START + self._began
        home = self.folder / machine
        home.mkdir(exist_ok=True)
        chosen = {"volume_size": SMALL, "archive_dir": home, "name": "c", "tempdir": home, **self.defaults, **changes}
        return asyncdup.Options(now=lambda: offset + clock(), **chosen)

    async def backup(self, action: Any = "backup", **changes: Any) -> asyncdup.BackupResult | None:
        """None: it was refused. Whatever it has committed stands for the source as it is."""
        try:
            result = await asyncdup.backup(self.source.root, URL, self.options(**changes), action=action)
        except BaseException as error:
            self.learn(tree(self.source.root))
            if not isinstance(error, Exception):
                raise
            self.refuse(error)
            return None
        self.learn(tree(self.source.root))
        self._states.clear()
        return result

    def refuse(self, error: Exception) -> None:
        """Loud is an error of ours, or the root cause of what the engine gave up on. Anything else is a defect."""
        if not (isinstance(error, asyncdup.AsyncdupError) or is_root_cause(error)):
            raise error
        self.refused.append(error)

    def sets(self) -> list[BackupSet]:
        """The complete ones at the target."""
        infos = [stored.info for stored in self.store.values()]
        return [each for chain in collect(infos, now=2 * START).chains for each in chain.sets]

    def learn(self, now: Tree) -> None:
        """Sets that are new stand for ``now``; those that are gone, for nothing."""
        there = {each.end for each in self.sets()}
        self._states += [now] if now not in self._states else []
        if len(self._states) > 1:
            self.mixed |= {end: list(self._states) for end in there - self.model.keys()}
        self.model = {end: kept for end, kept in self.model.items() if end in there} | dict.fromkeys(there - self.model.keys(), now)

    async def restored(self, time: int | None = None, *, beside: bool = False, **changes: Any) -> Tree | None:
        """What a restore on a new machine gives; None: it was refused, and then all that it wrote is right.

        ``beside``: a writer is at work, so what is newest when it begins need not be so at its end.
        """
        self._restored += 1
        to = self.folder / f"restored-{self._restored}"
        try:
            await asyncdup.restore(URL, to, self.options(f"new-{self._restored}", **changes), time=time)
            found = tree(to)
            if not beside:
                self._unmix(found, max(self.model) if time is None else time)
            return found
        except Exception as error:
            self.refuse(error)
            when = max(self.model, default=0) if time is None else time
            right = self.mixed.get(when) or [self.model.get(when, {})]
            wrong = {path for path, data in tree(to).items() if isinstance(data, bytes) and data not in [each.get(path) for each in right]}
            assert not wrong, f"{wrong} are wrong after {error}"
            return None
        finally:
            shutil.rmtree(to, ignore_errors=True)
            shutil.rmtree(self.folder / f"new-{self._restored}", ignore_errors=True)

    def _unmix(self, found: Tree, time: int) -> None:
        """P2: each path is as it was in one of the states; from now on what was restored is what must be."""
        for states in [self.mixed.pop(time)] if time in self.mixed else []:
            for path in {path for each in states for path in each} | found.keys():
                assert found.get(path) in [each.get(path) for each in states], f"{path} was never like this"
            self.model[time] = found

    async def check_all(self, times: Iterable[int] | None = None) -> None:
        """Every backup restores to what the source was then (P1, P3)."""
        for time in list(self.model) if times is None else times:
            found = await self.restored(time)
            if found is None:
                raise AssertionError(f"as of {time}: refused") from self.refused[-1]
            assert found == self.model[time], f"as of {time}: wrong"

    # What a kill leaves.

    def snapshot(self, name: str) -> Killed:
        """Everything that would be there if the process ended now."""
        kept = self.folder / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.folder / "home", kept, symlinks=True)
        return Killed(dict(self.store), kept)

    def go_back(self, killed: Killed) -> None:
        """As it was in that moment."""
        self.store.clear()
        self.store.update(killed.store)
        shutil.rmtree(self.folder / "home")
        shutil.copytree(killed.folder, self.folder / "home", symlinks=True)

    async def killed_backup(self, at: int, after: bool, action: Any = "backup") -> None:
        """A backup that is killed just before its ``at``-th call of the target, or just ``after`` it had its effect."""
        left: list[Killed] = []
        calls = itertools.count()

        def step(_: random.Random) -> Step:
            return Kill(lambda: left.append(self.snapshot("killed")), after) if next(calls) == at else PASS

        before, self.backend.chances = self.backend.chances, (Chance(1.0, step, EVERYTHING),)
        try:
            await asyncdup.backup(self.source.root, URL, self.options(), action=action)
        except Exception as error:
            self.refuse(error)
        finally:
            self.backend.chances = before
        if left:
            self.go_back(left[0])
        self.learn(tree(self.source.root))


@dataclass(frozen=True)
class Kill(Step):
    """The process ends here. What it would have done later is done, too, but to another copy of its world."""

    see: Callable[[], None]
    after: bool

    async def begin(self) -> None:
        if not self.after:
            self._end()

    async def end(self) -> None:
        if self.after:
            self._end()

    def _end(self) -> None:
        self.see()
        raise OperatorError("killed")


EVERYTHING = frozenset({"put", "put_if_absent", "delete", "move", "get", "list", "stat"})


def weather(rate: float) -> tuple[Chance, ...]:
    """Of a hundred calls about ``100 * rate`` meet something; what is read is now and then not what was stored."""
    reading = frozenset({"get"})
    return (
        *usual_chances(rate),
        Chance(rate / 10, lambda rng: Flip(rng.randrange(4000)), reading),
        Chance(rate / 10, lambda rng: Truncate(rng.randrange(4000)), reading),
    )


@dataclass
class registered:
    """``URL`` is ``backend`` inside of the block."""

    backend: Any

    def __enter__(self) -> None:
        self._before = dict(_FACTORIES)
        asyncdup.register_backend("simulated", lambda location, options: self.backend)

    def __exit__(self, *_: object) -> None:
        _FACTORIES.clear()
        _FACTORIES.update(self._before)
