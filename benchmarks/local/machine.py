"""Where it was measured: machine, file system, versions. Without these no figure means anything."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from asyncdup.formats import rdiff
from benchmarks.local.programs import Program, version_of


def describe(work: Path, programs: list[Program]) -> dict[str, object]:
    """For the report and the JSON file."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "file_system": _file_system(work),
        "caches": "warm: all was read before each run",
        "python": sys.version.split()[0],
        "versions": {program.name: version_of(program.command, program.environment) for program in programs if program.name != "python"},
        "isal": _installed("isal"),
        "signatures": rdiff.backend(),
        "gpg": _gpg(),
    }


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _file_system(work: Path) -> str:
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, where, type_, *_ = line.split()
        if str(work.resolve()).startswith(where) and len(where) >= len(best):
            best, kind = where, type_
    return kind


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _gpg() -> str:
    try:
        return subprocess.run(["gpg", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError):
        return "none"
