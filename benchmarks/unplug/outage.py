"""One run of one contender over the link, with or without an outage, and what was seen of it on the link."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.lab import Lab
from benchmarks.unplug.programs import Program, Site
from benchmarks.unplug.server import Server, forget_connections

Outage = Literal["none", "cut", "forgotten"]

LOOK_EVERY = 0.1  # seconds
CUT_AT = 0.4  # of the source's bytes have got through
WINDOW = 2.0  # seconds over which a rate is looked at
FULL_RATE = 0.9  # of the rate before the cut counts as the rate again
ALIVE = 1 << 17  # bytes after the mending that are more than the handshakes of a probe


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes that had got through to the server, at a moment (monotonic)."""

    at: float
    delivered: int


@dataclass
class Run:
    """What came out. Times in seconds.

    Attributes:
        exit_code: -9: it was ended because it took too long.
        right: what has arrived passes the program's own check.
        cut_at, mended_at, ended_at: on the clock of the samples; 0 = did not happen.
        connections: that were asked for between cut and mending, repetitions by the kernel included.
        attempts: begun between cut and mending, in seconds after the cut, of programs that tell; failed_bytes: moved by attempts that failed.
        last_words: of a program that failed.
    """

    program: str
    outage: Outage
    began_at: float = 0.0
    ended_at: float = 0.0
    cut_at: float = 0.0
    mended_at: float = 0.0
    exit_code: int = 0
    right: bool = False
    connections: int = 0
    attempts: list[float] | None = None
    failed_bytes: int | None = None
    last_words: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """In all."""
        return self.ended_at - self.began_at

    @property
    def delivered(self) -> int:
        """Bytes that got through, headers included."""
        return self.samples[-1].delivered - self.samples[0].delivered

    @property
    def moves_again(self) -> float | None:
        """Seconds from the mending until data moved; None: never."""
        base = self._delivered_at(self.mended_at)
        return next((s.at - self.mended_at for s in self.samples if s.at > self.mended_at and s.delivered > base + ALIVE), None)

    @property
    def full_rate_again(self) -> float | None:
        """Seconds from the first data after the mending until the end of the first window at the rate of before; None: never."""
        moved = self.moves_again
        if moved is None:
            return None
        start, wanted = self.mended_at + moved, FULL_RATE * self.rate_before
        for sample in self.samples:
            if sample.at - WINDOW >= start and sample.delivered - self._delivered_at(sample.at - WINDOW) >= wanted * WINDOW:
                return sample.at - WINDOW - start
        return None

    @property
    def rate_before(self) -> float:
        """Bytes/s in the last seconds before the cut."""
        return (self._delivered_at(self.cut_at) - self._delivered_at(self.cut_at - WINDOW)) / WINDOW

    def _delivered_at(self, moment: float) -> int:
        return next((sample.delivered for sample in reversed(self.samples) if sample.at <= moment), self.samples[0].delivered)


@dataclass(frozen=True)
class Bench:
    """``seconds``: length of an outage; ``patience``: seconds that a program may take after the mending."""

    lab: Lab
    server: Server
    daemon: subprocess.Popen[bytes]
    source: Path
    work: Path
    seconds: float
    patience: float
    say: Callable[[str], None]

    def run(self, program: Program, outage: Outage) -> Run:
        """Send once, and check what arrived. Everything that was written is removed."""
        folder = self.work / "run"
        site = Site(self.source, folder / "target", folder / "private", self.server)
        for path in (site.target, site.private):
            path.mkdir(parents=True)
        try:
            if program.prepare is not None:
                self._call(program.prepare(site), site)
            run = self._send(program, outage, site)
            run.right = self._check(program, site) if run.exit_code == 0 else False
            _read_events(run, site.events)
        finally:
            forget_connections(self.daemon)
            shutil.rmtree(folder)
        self.say(f"{program.name}, {outage}: exit code {run.exit_code} after {run.seconds:.1f} s, {run.delivered >> 20} MiB over the link")
        return run

    def _send(self, program: Program, outage: Outage, site: Site) -> Run:
        run = Run(program.name, outage)
        size = sum(path.stat().st_size for path in self.source.iterdir())
        with site.log.open("wb") as log:
            process = self.lab.start(
                "client", program.send(site), env=site.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            run.began_at = time.monotonic()
            self._watch(run, process, lambda: outage != "none" and run.delivered >= CUT_AT * size)
            if process.returncode is None:
                self._cut(run, process)
                self._watch(run, process, lambda: time.monotonic() > run.mended_at + self.patience)
        if process.returncode is None:
            process.kill()
        run.exit_code = process.wait()
        run.ended_at = time.monotonic()
        run.last_words = " ".join(site.log.read_text(errors="replace").split()[-30:])
        return run

    def _cut(self, run: Run, process: subprocess.Popen[bytes]) -> None:
        before = self.lab.statistics().up.connections
        self.lab.down()
        run.cut_at = time.monotonic()
        if run.outage == "forgotten":
            forget_connections(self.daemon)
        self._watch(run, process, lambda: time.monotonic() > run.cut_at + self.seconds)
        run.connections = self.lab.statistics().up.connections - before
        if process.returncode is None:
            run.mended_at = time.monotonic()
        self.lab.up()

    def _watch(self, run: Run, process: subprocess.Popen[bytes], enough: Callable[[], bool]) -> None:
        """Take samples until the program has ended, or ``enough``."""
        while True:
            run.samples.append(Sample(time.monotonic(), self.lab.statistics().up.delivered))
            if process.poll() is not None or enough():
                return
            time.sleep(LOOK_EVERY)

    def _check(self, program: Program, site: Site) -> bool:
        done = subprocess.run(program.check(site), env=site.environment, capture_output=True, check=False)
        return done.returncode == 0

    def _call(self, command: Sequence[str], site: Site) -> None:
        with site.log.open("wb") as log:
            code = self.lab.run("client", command, timeout=60, env=site.environment, stdout=log, stderr=subprocess.STDOUT)
        if code:
            raise RuntimeError(f"{command[0]} ended with {code}: {site.log.read_text(errors='replace')}")


def _read_events(run: Run, path: Path) -> None:
    """What asyncdup itself tells: attempts during the outage, and bytes of attempts that came to nothing."""
    if not path.exists():
        return
    offset = time.time() - time.monotonic()  # of the wall clock, that the events tell
    run.attempts, run.failed_bytes = [], 0
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "AttemptStarted" and run.cut_at < (at := event["wall"] - offset) < run.mended_at:
            run.attempts.append(at - run.cut_at)
        elif event["event"] == "AttemptFinished" and event["outcome"] != "ok":
            run.failed_bytes += event["bytes"]
