"""asyncdup as a process that is stopped from outside, at moments that are told by what is at the target."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = 120.0  # seconds for something to happen that must

# A target on the local disk that answers as late as a far one, so that there is time to stop a run in the middle of a transfer;
# if it would take for ever, then only for volumes.
_FAR = """
import sys
from asyncdup.backends.local import from_url
from asyncdup.backends.registry import register_backend
from asyncdup.cli.main import main
from asyncdup.testing.faults import Hang
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend



def far(location, options):
    if latency < float("inf"):
        return SlowBackend(from_url(location, options), latency=latency)
    stuck = FaultyBackend(from_url(location, options))
    stuck.script("put", *[Hang()] * 99, name="*.difftar*")
    return stuck


register_backend("far", far)
latency = float(sys.argv.pop(1))
sys.exit(main())
"""


class Run:
    """One process. ``code`` and ``output`` are known once it has ended."""

    def __init__(self, words: list[str], environ: dict[str, str], *, latency: float | None = None) -> None:
        start = ["-m", "asyncdup"] if latency is None else ["-c", _FAR, str(latency)]
        command = [sys.executable, *start, *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, text=True)
        self.output = ""

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """As ``kill -9``."""
        self.send(signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Wait for its end; the exit code."""
        output, _ = self._process.communicate(timeout=WAIT)
        self.output += output
        return self._process.returncode

    def wait_for(self, happens: Callable[[], bool]) -> None:
        """Return when it has happened; it must, before the process ends."""
        deadline = time.monotonic() + WAIT
        while not happens():
            ended = self._process.poll() is not None
            if ended and happens():  # since the last look
                return
            assert not ended, f"ended with {self.end()}: {self.output}"
            assert time.monotonic() < deadline
            time.sleep(0.002)


class Place:
    """A source, a target and what belongs to them, for runs of the program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.target = folder / "target"
        self.cache = folder / "cache"
        self.tempdir = folder / "tmp"
        self.tempdir.mkdir(parents=True)

    def words(self, action: str, *more: str, scheme: str = "file") -> list[str]:
        """A command line that makes volumes of a MiB."""
        url = f"file://{self.target}" if scheme == "file" else f"{scheme}:///{self.target}"  # two slashes: absolute
        ends = [url, str(self.folder / "restored")] if action == "restore" else [str(self.source), url]
        common = ["--no-encryption", "--archive-dir", str(self.cache), "--name", "c", "--tempdir", str(self.tempdir)]
        return [action, *ends, *common, *(["--volsize=1"] if action != "restore" else []), *more]

    def start(self, action: str, *more: str, latency: float | None = None) -> Run:
        """A process. ``latency``: seconds that the target takes for each answer."""
        words = self.words(action, *more, scheme="file" if latency is None else "far")
        return Run(words, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, latency=latency)

    @contextmanager
    def running(self, action: str, *more: str, latency: float | None = None) -> Iterator[Run]:
        """A process that does not outlive the block."""
        run = self.start(action, *more, latency=latency)
        try:
            yield run
        finally:
            run.kill()

    def volumes(self) -> int:
        """Stored so far."""
        return len([name for name in self.names(self.target) if ".difftar" in name and not name.startswith(".")])

    def journals(self) -> list[str]:
        return [name for name in self.names(self.cache / "c") if name.startswith("asyncdup-journal-")]

    def noted(self) -> int:
        """Volumes that the journal knows, sent or about to be."""
        return sum((self.cache / "c" / name).read_bytes().count(b'"sha1"') for name in self.journals() if "." not in name)

    def left_over(self) -> list[str]:
        """What no run may leave: temporary names of any kind."""
        found = self.names(self.tempdir)
        return found + [name for folder in (self.target, self.cache / "c") for name in self.names(folder) if name.startswith(".asyncdup-")]

    @staticmethod
    def names(folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
