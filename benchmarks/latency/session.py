"""Contenders take turns on one link: each from start to exit, what arrived is compared, and runs with a late emulator are made again."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.latency.cells import Cell
from benchmarks.latency.contenders import Contender, Site
from benchmarks.latency.store import S3
from benchmarks.unplug.server import Server

LOOK_EVERY = 0.1  # seconds
REPEATS = 2  # times as many runs as were asked for are made at most, for the sake of late emulators
PATIENCE = 20, 30  # times the limit, and seconds, after which a run is ended
_ROOT = Path(__file__).parents[2]
_PIECE = 1 << 20


@dataclass
class Run:
    """What came out.

    Attributes:
        exit_code: -9: ended because it took too long. right: what arrived is what was there.
        wall, cpu: seconds from start to exit; peak: bytes resident of the largest process.
        late: seconds, the most of the emulator. idle: part of the machine's time that nobody used meanwhile.
        samples: seconds since the start, and bytes that had got through in the direction of the payload.
        lost, dropped: packets, both ways. connections: that were asked for.
        words: of a program that failed, at its end.
    """

    contender: str
    cell: Cell
    exit_code: int
    wall: float
    cpu: float
    peak: int
    late: float
    idle: float = 0.0
    right: bool = False
    lost: int = 0
    dropped: int = 0
    connections: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)
    words: str = ""

    @property
    def counts(self) -> bool:
        """Whether its time means anything."""
        return self.exit_code == 0 and self.right and self.late <= self.cell.late


@dataclass
class Session:
    """``work``: on a file system in memory; all is made and removed below it."""

    lab: Lab
    work: Path
    ssh: Server
    rounds: int
    say: Callable[[str], None]
    s3: S3 | None = None
    _digests: dict[str, str] = field(default_factory=dict)
    _number: int = 0

    def measure(self, cell: Cell, contenders: Sequence[Contender]) -> list[Run]:
        """All rounds of one cell, every run in the order in which it was made."""
        taking_part = [contender for contender in contenders if contender.fits(cell)]
        if not taking_part:
            return []
        self._make_source(cell)
        with self._objects(cell) as bucket:
            self.lab.set(cell.link)
            runs: list[Run] = []
            given_up: set[str] = set()
            for number in range(self.rounds * REPEATS):
                turn = number % len(taking_part)
                for contender in [*taking_part[turn:], *taking_part[:turn]]:
                    mine = [run for run in runs if run.contender == contender.name]
                    if contender.name in given_up or sum(run.counts for run in mine) >= self.rounds:
                        continue
                    run = self._run(contender, cell, bucket)
                    runs.append(run)
                    self._tell(run)
                    if run.exit_code or not run.right:
                        given_up.add(contender.name)
        return runs

    # One run

    def _run(self, contender: Contender, cell: Cell, objects: str) -> Run:
        self._number += 1
        private, folder = self.work / "private", self.work / "folder"
        for path in (private, folder, private / "arrived"):
            path.mkdir(parents=True)
        shared = bool(objects) and contender.prepare is None  # what is fetched has been put there once for all
        fresh: AbstractContextManager[str] = nullcontext(objects)
        if cell.protocol == "s3" and not shared and self.s3 is not None:
            fresh = self.s3.bucket(f"run{self._number}")
        try:
            with fresh as bucket:
                site = Site(cell, self._source_folder, private, folder, bucket, self.ssh)
                self._prepare(contender, site)
                run = self._start(contender, site)
                if run.exit_code == 0:
                    run.words = self._wrong(contender, site)
                    run.right = not run.words
                return run
        finally:
            shutil.rmtree(private)
            shutil.rmtree(folder)

    def _prepare(self, contender: Contender, site: Site) -> None:
        if contender.prepare is None:
            if site.cell.protocol == "sftp" and not site.cell.is_up:
                for path in site.source.iterdir():
                    os.link(path, site.folder / path.name)
        elif not site.cell.is_up or contender.name == "restic":
            for command in contender.prepare(site):
                if self._at_server(command, site):
                    raise RuntimeError(f"{command[0]} failed before the clock: {_words(site)}")

    def _start(self, contender: Contender, site: Site) -> Run:
        cell, lab = site.cell, self.lab
        command = contender.command(site)
        result = site.private / "result.json"
        patience = PATIENCE[0] * cell.limit + PATIENCE[1]
        runner = [sys.executable, "-S", "-m", "benchmarks.latency.runner", str(result), str(patience), *command]
        before, busy = lab.statistics(), _processor_time()
        with _log(site).open("wb") as log:
            process = lab.start(
                "client", runner, cwd=_ROOT, env=site.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            seen, late = self._watch(process, cell)
        after, used = lab.statistics(), _processor_time()
        record = json.loads(result.read_text())
        first = before.up.delivered if cell.is_up else before.down.delivered
        return Run(
            contender.name,
            cell,
            record["exit_code"],
            record["wall"],
            record["cpu"],
            record["peak"],
            late,
            idle=(used[0] - busy[0]) / max(1e-9, used[1] - busy[1]),
            lost=after.up.lost + after.down.lost - before.up.lost - before.down.lost,
            dropped=after.up.dropped + after.down.dropped - before.up.dropped - before.down.dropped,
            connections=after.up.connections - before.up.connections,
            samples=[(round(at - record["began"], 3), delivered - first) for at, delivered in seen],
            words=_words(site) if record["exit_code"] else "",
        )

    def _watch(self, process: subprocess.Popen[bytes], cell: Cell) -> tuple[list[tuple[float, int]], float]:
        """Until the process has ended, and once after: the last sample has everything."""
        seen, late, ended = [], 0.0, False
        while not ended:
            ended = process.poll() is not None
            now = self.lab.statistics()
            late = max(late, now.up.late, now.down.late)
            seen.append((time.monotonic(), now.up.delivered if cell.is_up else now.down.delivered))
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY)
        return seen, late

    def _wrong(self, contender: Contender, site: Site) -> str:
        """What is wrong with what arrived; empty: nothing."""
        if contender.check is not None and site.cell.is_up:
            return _words(site) or "its check failed" if self._at_server(contender.check(site), site) else ""
        try:
            return self._difference(dict(self._arrived(site)))
        except http.client.HTTPException as error:
            return str(error)

    def _arrived(self, site: Site) -> Iterator[tuple[str, str]]:
        """Names and digests."""
        if site.cell.protocol == "s3" and site.cell.is_up and self.s3 is not None:
            for key in self.s3.keys(site.bucket):
                yield key, hashlib.sha256(self.s3.get(site.bucket, key)).hexdigest()
            return
        for path in (site.folder if site.cell.is_up else site.arrived).rglob("*"):
            if path.is_file():
                yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()

    def _difference(self, arrived: dict[str, str]) -> str:
        wrong = [name for name in self._digests if arrived.get(name) != self._digests[name]]
        extra = sorted(arrived.keys() - self._digests.keys())
        missing = [name for name in wrong if name not in arrived]
        said = [(missing, "are missing"), ([name for name in wrong if name in arrived], "are not what was sent"), (extra, "are too many")]
        return "; ".join(f"{len(names)} {what}: {', '.join(names[:3])}" for names, what in said if names)

    def _at_server(self, command: Sequence[str], site: Site) -> int:
        with _log(site).open("wb") as log:
            return self.lab.run(
                "server", command, timeout=120, cwd=_ROOT, env=site.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    # What is sent and fetched

    @property
    def _source_folder(self) -> Path:
        return self.work / "source"

    def _make_source(self, cell: Cell) -> None:
        """Random bytes, the same for every contender of the cell: what is sent is what is there."""
        shutil.rmtree(self._source_folder, ignore_errors=True)
        self._source_folder.mkdir()
        self._digests.clear()
        rng = random.Random(f"{cell.count}x{cell.size}")
        for number in range(cell.count):
            data = rng.randbytes(cell.size)
            name = f"object{number:05}"
            (self._source_folder / name).write_bytes(data)
            self._digests[name] = hashlib.sha256(data).hexdigest()

    @contextmanager
    def _objects(self, cell: Cell) -> Iterator[str]:
        """For gets over S3 a bucket with all objects; else nothing."""
        if cell.protocol != "s3" or cell.is_up or self.s3 is None:
            yield ""
            return
        with self.s3.bucket(f"objects{self._number}") as bucket:
            for path in self._source_folder.iterdir():
                self.s3.put(bucket, path.name, path.read_bytes())
            yield bucket

    def _tell(self, run: Run) -> None:
        state = "" if run.counts else f" FAILED ({run.exit_code}):" if not run.right else f" LATE by {run.late * 1e3:.0f} ms"
        ratio = f"{run.wall / run.cell.limit:.2f} × limit, " if run.cell.limit else ""
        about = f"{run.wall:.2f} s, {ratio}CPU {run.cpu:.2f} s, {run.peak >> 20} MiB, idle {run.idle:.0%}"
        self.say(f"{run.cell.name}: {run.contender}: {about}{state}{' ' + run.words if run.words else ''}")


def _log(site: Site) -> Path:
    return site.private / "log"


def _words(site: Site) -> str:
    return " ".join(_log(site).read_text(errors="replace").split()[-60:])


def _processor_time() -> tuple[int, int]:
    """Ticks that were idle, and all, of the machine."""
    fields = [int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
    return fields[3] + fields[4], sum(fields[:8])
