"""One process from start to exit: CPU of it and of all the children it waited for, wall time, memory of the largest one of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PIECE = 1 << 18


class ProgramFailed(Exception):
    """A measured program did not do its work; the message has the end of what it said."""


@dataclass(frozen=True)
class Usage:
    """``cpu``: seconds, user and system. ``peak``: bytes resident. ``stored``: bytes of the target afterwards, where that is looked at."""

    cpu: float
    wall: float
    peak: int
    stored: int | None = None

    def with_stored(self, folder: Path) -> Usage:
        """The same, with the size of the files in ``folder``."""
        return replace(self, stored=sum(entry.stat().st_size for entry in os.scandir(folder)))


def warm(*folders: Path) -> None:
    """Read all that is in ``folders``, so that every contender finds it in the page cache, whatever else the machine does."""
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(where, name), "rb", buffering=0) as file:
                    while file.read(PIECE):
                        pass


def run(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Usage:
    """Run ``argv`` to its end. Dirty pages of what came before are written out first, so it does not pay for them.

    The kernel hands a parent's peak on to its child, so this process must stay smaller than what it measures: it makes no trees.
    """
    os.sync()
    with open(log, "wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_text(errors="replace")[-2000:]
        raise ProgramFailed(f"{' '.join(argv)} ended with {process.returncode}:\n{said}")
    return Usage(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024)
