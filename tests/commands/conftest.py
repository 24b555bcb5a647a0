"""A source, a target and the commands between them, on the virtual clock. After every command its events are looked at (V1, V3)."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import asyncdup
from asyncdup import events
from asyncdup.backends.registry import _FACTORIES
from asyncdup.testing import FaultyBackend, SlowBackend

E = TypeVar("E", bound=asyncdup.Event)

START = 1_700_000_000  # seconds since the epoch when the virtual clock begins
FILE = 60_000  # bytes: with volumes of SMALL bytes, each file of random bytes of this size fills one
SMALL = 140_000

_ENDS = {
    events.JobStarted: (events.JobFinished,),
    events.OpQueued: (events.OpSucceeded, events.OpFailed, events.OpSkipped, events.OpCancelled),
    events.AttemptStarted: (events.AttemptFinished,),
    events.EpisodeOpened: (events.EpisodeClosed,),
    events.Blocked: (events.Unblocked,),
}


class Stage:
    """Runs commands with ``source`` and ``url``. The wall clock follows the virtual one, and each command begins a second later.

    Attributes:
        heard: the events of the last command.
        defaults: options of every command.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.source = folder / "source"
        self.tempdir = folder / "tmp"
        self.cache = folder / "cache"
        self.heard: list[asyncdup.Event] = []
        self.watch: Callable[[asyncdup.Event], None] = lambda event: None
        self.defaults: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._began = 0
        self.source.mkdir()
        self.tempdir.mkdir()

    def write(self, name: str, data: bytes | str = b"content") -> Path:
        """A file of the source, with a time that is not now."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        then = START - 1000 + next(self._numbers)
        os.utime(path, (then, then))
        return path

    def fill(self, count: int, size: int = FILE) -> None:
        """``count`` files that no compression makes smaller."""
        for number in range(count):
            self.write(f"file{number:02}", random.Random(number).randbytes(size))

    def options(self, **changes: Any) -> asyncdup.Options:
        clock = asyncio.get_running_loop().time
        self._began += 1
        offset = START + self._began
        chosen = {"volume_size": SMALL, "archive_dir": self.cache, "name": "cache", "tempdir": self.tempdir, **self.defaults, **changes}
        return asyncdup.Options(now=lambda: offset + clock(), **chosen)

    async def backup(self, action: Any = "backup", *, source: Path | None = None, **changes: Any) -> asyncdup.BackupResult:
        return await self._run(asyncdup.backup, source or self.source, self.url, action=action, **changes)

    async def restore(self, name: str = "restored", **changes: Any) -> Path:
        await self._run(asyncdup.restore, self.url, self.folder / name, **changes)
        return self.folder / name

    async def verify(self, **changes: Any) -> asyncdup.VerifyResult:
        return await self._run(asyncdup.verify, self.url, self.source, **changes)

    async def status(self, **changes: Any) -> asyncdup.Collection:
        return await self._run(asyncdup.collection_status, self.url, **changes)

    async def files(self, **changes: Any) -> list[asyncdup.Entry]:
        found: list[asyncdup.Entry] = []
        await self._run(asyncdup.list_current_files, self.url, on_entries=found.extend, **changes)
        return found

    async def _run(self, command: Callable[..., Any], *args: Any, **changes: Any) -> Any:
        own = {name: changes.pop(name) for name in ("action", "time", "path", "control", "on_entries", "on_difference") if name in changes}
        hub = asyncdup.EventHub(wall=lambda: 0.0, clock=asyncio.get_running_loop().time)
        self.heard = []
        hub.on_event(self.heard.append)
        hub.on_event(lambda event: self.watch(event))
        try:
            return await command(*args, self.options(**changes), events=hub, **own)
        finally:
            self.all_ended()

    def of(self, kind: type[E]) -> list[E]:
        """The last command's events of ``kind``."""
        return [event for event in self.heard if isinstance(event, kind)]

    def all_ended(self) -> None:
        """V1, V3: whatever began has exactly one end, and the progress of an attempt sums up to its bytes."""
        for started, ends in _ENDS.items():
            begun = Counter((event.lane, event.op, event.attempt) for event in self.heard if type(event) is started)
            assert begun == Counter((event.lane, event.op, event.attempt) for event in self.heard if isinstance(event, ends)), started
        moved: Counter[tuple[int, int]] = Counter()
        for event in self.of(events.Progress):
            moved[event.op, event.attempt] += event.bytes
        for event in self.of(events.AttemptFinished):
            assert moved[event.op, event.attempt] == event.bytes

    def nothing_is_left(self) -> None:
        """No task, no busy thread, no temporary file, no lock."""
        loop = asyncio.get_running_loop()
        assert len(asyncio.all_tasks()) == 1
        assert loop.busy_threads == 0  # type: ignore[attr-defined]
        assert list(self.tempdir.iterdir()) == []
        places = [self.cache / "cache", self.folder / "target"]
        names = [path.name for place in places if place.exists() for path in place.iterdir()]
        assert [name for name in names if name.startswith(".asyncdup-")] == []


def tree(root: Path) -> dict[str, bytes | str]:
    """What is below ``root``: content of files, targets of links, ``"folder"``."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "folder" if path.is_dir() else path.read_bytes()
    return found


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes take most of a small backup's time, and nobody pulls the plug here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def schemes() -> Iterator[None]:
    """Whatever a test registers is forgotten."""
    before = dict(_FACTORIES)
    yield
    _FACTORIES.clear()
    _FACTORIES.update(before)


@pytest.fixture(params=["memory", "file"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    """At both of the places that need no network."""
    return Stage(tmp_path, f"{request.param}://{tmp_path / 'target'}")


@pytest.fixture
def far(tmp_path: Path, schemes: None) -> tuple[Stage, FaultyBackend]:
    """A stage whose target is far away: each call takes ``backend.inner.latency`` seconds of the virtual clock, and can be made to fail."""
    backend = FaultyBackend(SlowBackend(asyncdup.open_backend(f"memory://{tmp_path}"), latency=1.0))
    asyncdup.register_backend("far", lambda location, options: backend)
    return Stage(tmp_path, "far://away/place"), backend
