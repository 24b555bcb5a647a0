"""The table for people and the JSON for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.backends.worker import FLIGHTS, Cell

MIB = 1 << 20
OURS, RIVAL = "asyncdup s3", "obstore, unsigned payload"
MOST_CPU, FROM = 1.5, 8 * MIB  # times the rival's CPU per MiB, for objects of this size and more (issue 5)
MOST_MEMORY = 80 * MIB  # above idle, with 16 puts of 8 MiB in flight (issue 5)

Key = tuple[str, int, str, int]  # contender, size, verb, flight
Runs = Mapping[Key, Sequence[Cell]]


def gather(cells: Sequence[tuple[str, Cell]]) -> Runs:
    """All rounds of each cell together."""
    runs: dict[Key, list[Cell]] = defaultdict(list)
    for name, cell in cells:
        runs[name, cell["size"], cell["verb"], cell["flight"]].append(cell)
    return runs


def table(runs: Runs, names: Sequence[str]) -> str:
    """Medians over the rounds. CPU per MiB and memory at the highest flight, rates at each."""
    flights = " / ".join(map(str, FLIGHTS))
    lines = []
    for size in sorted({key[1] for key in runs}):
        lines += [
            f"\nobjects of {_size(size)}\n",
            f"| | put CPU ms/MiB | get CPU ms/MiB | put MiB/s at {flights} | get MiB/s at {flights} | MiB above idle, put / get |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_row(runs, name, size) for name in names if (name, size, "put", FLIGHTS[-1]) in runs]
    return "\n".join(lines)


def verdicts(runs: Runs) -> list[str]:
    """The goals of S3, and whether they are met."""
    said = []
    largest = max(key[1] for key in runs)
    ours, rival = ((name, largest, "put", FLIGHTS[-1]) for name in (OURS, RIVAL))
    if ours in runs and largest >= FROM:
        peak = max(cell["peak"] for cell in runs[ours])
        said.append(_verdict(peak <= MOST_MEMORY, f"{peak / MIB:.0f} MiB above idle of {MOST_MEMORY // MIB}"))
    if ours in runs and rival in runs and largest >= FROM:
        for verb in ("put", "get"):
            ratio = _cpu(runs, OURS, largest, verb) / _cpu(runs, RIVAL, largest, verb)
            said.append(_verdict(ratio <= MOST_CPU, f"{verb} of {_size(largest)}: {ratio:.2f} times the CPU of {RIVAL}, of {MOST_CPU}"))
    return said


def write_json(path: Path, runs: Runs, facts: Mapping[str, object]) -> None:
    """Every single cell, with the machine and the versions."""
    cells = [{"contender": name, **cell} for (name, *_), found in runs.items() for cell in found]
    path.write_text(json.dumps({**facts, "cells": cells}, indent=1) + "\n")


def _row(runs: Runs, name: str, size: int) -> str:
    rates = [" / ".join(f"{_rate(runs, name, size, verb, flight):.0f}" for flight in FLIGHTS) for verb in ("put", "get")]
    peaks = [max(cell["peak"] for cell in runs[name, size, verb, FLIGHTS[-1]]) / MIB for verb in ("put", "get")]
    cells = [name, *(f"{_cpu(runs, name, size, verb) * 1000:.2f}" for verb in ("put", "get")), *rates]
    return f"| {' | '.join(cells)} | {peaks[0]:.0f} / {peaks[1]:.0f} |"


def _cpu(runs: Runs, name: str, size: int, verb: str) -> float:
    """Seconds per MiB."""
    return median(cell["cpu"] / cell["bytes"] * MIB for cell in runs[name, size, verb, FLIGHTS[-1]])


def _rate(runs: Runs, name: str, size: int, verb: str, flight: int) -> float:
    return median(cell["bytes"] / MIB / cell["wall"] for cell in runs[name, size, verb, flight])


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size >> 10} KiB"


def _verdict(met: bool, what: str) -> str:
    return f"{'met   ' if met else 'MISSED'} {OURS}: {what}"
