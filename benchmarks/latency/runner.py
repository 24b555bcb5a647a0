"""One program from start to exit: ``python -S -m benchmarks.latency.runner RESULT PATIENCE COMMAND...``.

A process of its own and a small one: the kernel hands a parent's peak of memory on to its child. It adopts what the program leaves behind (lftp does
not wait for its ssh), so that all processor time is counted. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36
_LINGER = 1.0  # seconds that descendants may take to end after the program


def main(arguments: list[str]) -> None:
    """Write exit code, seconds, CPU seconds and peak (bytes) as JSON to RESULT. Exit code -9: it took longer than PATIENCE seconds."""
    result, patience, *command = arguments
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGALRM, lambda *_: _kill_children())
    signal.setitimer(signal.ITIMER_REAL, float(patience), _LINGER)  # again and again: new ones may have come
    began = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    code, cpu, peak = _wait_for(child)
    wall = time.monotonic() - began
    signal.setitimer(signal.ITIMER_REAL, _LINGER, _LINGER)
    more, largest = _wait_for_others()
    record = {"exit_code": code, "began": began, "wall": wall, "cpu": cpu + more, "peak": max(peak, largest) * 1024}
    with open(result, "w") as file:
        json.dump(record, file)


def _wait_for(child: int) -> tuple[int, float, int]:
    """Exit code, CPU seconds and peak in KiB, of it and what it has waited for."""
    cpu, peak = 0.0, 0
    while True:
        pid, status, usage = os.wait4(-1, 0)
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss)
        if pid == child:
            return os.waitstatus_to_exitcode(status), cpu, peak


def _wait_for_others() -> tuple[float, int]:
    cpu, peak = 0.0, 0
    with suppress(ChildProcessError):
        while True:
            _, _, usage = os.wait4(-1, 0)
            cpu += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss)
    return cpu, peak


def _kill_children() -> None:
    with open("/proc/thread-self/children") as file:
        for pid in file.read().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
