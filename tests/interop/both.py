"""The same command line given to both programs, each with a target and a cache of its own."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from interop.archives import START
from interop.stock import Stock

from asyncdup.cli.main import main


@dataclass(frozen=True)
class Record:
    """One record of the log for programs."""

    level: str
    code: int
    extra: str
    text: tuple[str, ...]


class Program:
    """asyncdup, or, if ``stock`` is given, stock duplicity. ``source`` is shared; the name ``{url}`` in words is its own target."""

    def __init__(self, folder: Path, source: Path, stock: Stock | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.source = source
        self.target = folder / "target"
        self.cache = folder / "cache"
        self.said = ""
        self._stock = stock
        self._log = folder / "log"

    def __call__(self, *words: str, at: int | None = None) -> int:
        """Run a command, ``at`` some time, and return the exit code; ``said`` is then what it printed."""
        more = ["--archive-dir", str(self.cache), "--name", "c", "--num-retries", "1"]
        if not any(word.startswith("--log-f") for word in words):
            more += ["--log-file", str(self._log)]
        if at is not None:
            more += ["--current-time", str(at)]
        line = [*(word.replace("{url}", f"file://{self.target}").replace("{source}", str(self.source)) for word in words), *more]
        self._log.unlink(missing_ok=True)
        if self._stock is not None:
            code, self.said = self._stock.run(*line, PASSPHRASE="x")
            return code
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, PASSPHRASE="x"):
            code = main(line)
        self.said = out.getvalue() + err.getvalue()
        return code

    def backups(self, *actions: str) -> None:
        """Backups, a day apart, each of a source in which the file ``a`` is another one."""
        for number, action in enumerate(actions):
            (self.source / "a").write_text(f"number {number} {os.urandom(4).hex()}")
            os.utime(self.source / "a", (1_500_000_000 + number, 1_500_000_000 + number))
            assert self(action, "--no-encryption", "{source}", "{url}", at=START + number * 86_400) == 0, self.said

    def names(self) -> list[str]:
        """Of the files at the target."""
        return sorted(path.name for path in self.target.iterdir())

    def records(self) -> list[Record]:
        """The log of the last command. Raises AssertionError unless it is well-formed, as a front end reads it."""
        return parse_log(self._log.read_text()) if self._log.exists() else []


def parse_log(text: str) -> list[Record]:
    """A log for programs, read strictly: control line, further lines of its extra, lines that begin with a dot, an empty line."""
    assert text.endswith("\n\n") or not text, "cut off"
    found = []
    for block in text.removesuffix("\n\n").split("\n\n") if text else ():
        control, *rest = block.split("\n")
        level, code, *extra = control.split(" ", 2)
        assert level in ("DEBUG", "INFO", "NOTICE", "WARNING", "ERROR"), control
        said = [line for line in rest if line.startswith(".")]
        assert rest[len(rest) - len(said) :] == said, block
        found.append(Record(level, int(code), "\n".join([*extra, *rest[: len(rest) - len(said)]]), tuple(line[2:] for line in said)))
    return found
