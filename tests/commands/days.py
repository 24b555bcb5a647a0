"""A source that is backed up once a day, by the command line as a user gives it, and what the program says and returns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncdup.cli.main import main
from asyncdup.units import format_time, parse_time

START = 1_700_000_000  # seconds since the epoch: 2023-11-14, about 22:13 UTC
DAY = 86_400


class Days:
    """``day`` is that of the next backup, from 0; its time is ``time(day)``. All times are fixed, so that backups are the same in each run."""

    def __init__(self, folder: Path, output: pytest.CaptureFixture[bytes]) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.target = folder / "target"
        self.url = f"file://{self.target}"
        self.day = 0
        self.said = ""
        self.complained = ""
        self._output = output
        self.source.mkdir()

    @staticmethod
    def time(day: int) -> int:
        """Seconds since the epoch."""
        return START + day * DAY

    def stamp(self, day: int) -> str:
        """That time as it stands in names."""
        return format_time(self.time(day))

    def day_of(self, moment: str) -> int:
        """The day of a time as ``--json`` has it."""
        return (parse_time(moment, 0) - START) // DAY

    def write(self, name: str, data: bytes = b"content\n", mode: int = 0o644) -> Path:
        """A file of the source, written an hour before the next backup; so are the folders that it is in."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        self.touch(path)
        return path

    def remove(self, name: str) -> None:
        """Delete a file of the source."""
        (self.source / name).unlink()
        self.touch(self.source / name)

    def touch(self, path: Path) -> None:
        """Times that are not those of the test run."""
        then = self.time(self.day) - 3600
        for each in [path, *path.parents]:
            if each.is_relative_to(self.source) and each.exists():
                os.utime(each, (then, then), follow_symlinks=False)

    def backup(self, command: str = "backup", *words: str) -> int:
        """Back up; the time of the backup."""
        now = self.time(self.day)
        assert self.run(command, str(self.source), self.url, "--allow-source-mismatch", *words, now=now) == 0, self.complained
        self.day += 1
        return now

    def run(self, *words: str, now: int | None = None) -> int:
        """The exit code; ``said`` is then what was written to standard output, ``complained`` to standard error."""
        cache = f"--archive-dir={self.folder / 'cache'}"
        now = self.time(self.day) if now is None else now
        code = main([*words, cache, "--no-encryption", f"--current-time={now}", f"--tempdir={self.folder}"])
        out, err = self._output.readouterr()
        self.said, self.complained = out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape")
        return code
