"""The table for people and the JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

from benchmarks.latency.cells import Cell
from benchmarks.latency.session import Run

OURS = "asyncdup"  # names of our contenders begin so
MIB = 1 << 20
_HEAD = "| | seconds | × limit | × best peer | CPU s | peak MiB | packets dropped | runs |\n|---|---|---|---|---|---|---|---|"


def cells_of(runs: Sequence[Run]) -> dict[Cell, dict[str, list[Run]]]:
    """By cell and contender, in their order."""
    found: dict[Cell, dict[str, list[Run]]] = {}
    for run in runs:
        found.setdefault(run.cell, {}).setdefault(run.contender, []).append(run)
    return found


def seconds(runs: Sequence[Run]) -> float | None:
    """The median of those that count; None: none does."""
    counting = [run.wall for run in runs if run.counts]
    return median(counting) if counting else None


def best_peer(contenders: Mapping[str, Sequence[Run]]) -> tuple[str, float] | None:
    """The fastest program that is not ours."""
    times = {name: time for name, runs in contenders.items() if not name.startswith(OURS) and (time := seconds(runs)) is not None}
    return min(times.items(), key=lambda item: item[1]) if times else None


def medians(runs: Sequence[Run]) -> dict[tuple[Cell, str], float]:
    """Seconds by cell and contender."""
    found = {(cell, name): seconds(mine) for cell, contenders in cells_of(runs).items() for name, mine in contenders.items()}
    return {key: time for key, time in found.items() if time is not None}


def table(runs: Sequence[Run]) -> str:
    """Medians, in brackets the range."""
    parts = []
    for cell, contenders in cells_of(runs).items():
        best = best_peer(contenders)
        peer = f"; best peer: {best[0]}" if best else ""
        parts += [f"\n**{cell.name}** (limit {cell.limit:.2f} s{peer})\n", _HEAD]
        parts += [_row(name, cell, mine, best) for name, mine in sorted(contenders.items(), key=lambda item: seconds(item[1]) or 1e9)]
    return "\n".join(parts)


def write_json(path: Path, runs: Sequence[Run], facts: Mapping[str, object]) -> None:
    """Every run with its samples, those that do not count too."""
    records = [{**asdict(run), "cell": run.cell.name, "limit": run.cell.limit, "counts": run.counts} for run in runs]
    cells = {cell.name: asdict(cell) for cell in cells_of(runs)}
    path.write_text(json.dumps({**facts, "cells": cells, "runs": records}, indent=1) + "\n")


def read_json(path: Path) -> list[Run]:
    """What ``write_json`` has written."""
    record = json.loads(path.read_text())
    cells = {name: Cell(**of) for name, of in record["cells"].items()}
    told = {field.name for field in fields(Run)} - {"cell"}
    return [Run(cell=cells[each["cell"]], **{name: each[name] for name in told}) for each in record["runs"]]


def _row(name: str, cell: Cell, runs: Sequence[Run], best: tuple[str, float] | None) -> str:
    counting = [run for run in runs if run.counts]
    if not counting:
        last = runs[-1]
        why = "the emulator was late each time" if last.right else f"not done after {last.wall:.0f} s" if last.exit_code == -9 else "failed"
        return f"| {name} | {why} | | | | | | 0 of {len(runs)} |"
    walls = sorted(run.wall for run in counting)
    middle = median(walls)
    cells = [
        name,
        f"{middle:.2f} ({walls[0]:.2f}-{walls[-1]:.2f})",
        f"{middle / cell.limit:.2f}" if cell.limit else "",
        f"{middle / best[1]:.2f}" if best else "",
        f"{median(run.cpu for run in counting):.2f}",
        f"{max(run.peak for run in counting) / MIB:.0f}",
        f"{median(run.dropped + run.lost for run in counting):.0f}",
        f"{len(counting)} of {len(runs)}",
    ]
    return f"| {' | '.join(cells)} |"
