"""The table for people and the JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.local.measure import Usage
from benchmarks.local.session import Result

OURS, STOCK, PYTHON = "asyncdup", "duplicity", "python"
MOST_MEMORY = 100 << 20  # bytes, the goal for every case
MOST_STORED = 1.10  # times what stock stores
MOST_START_UP = 0.080  # seconds of CPU that --version may take beyond python -c pass

HEAD = (
    "| case | CPU s ours | CPU s stock | ratio | goal | wall s ours | wall s stock | ratio | peak MiB ours / stock | stored, ours / stock |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def table(results: Sequence[Result]) -> str:
    """Medians, in brackets the range; ratios are stock's over ours."""
    lines = [HEAD, *(_row(result) for result in results)]
    return "\n".join(lines)


def verdicts(results: Sequence[Result]) -> list[str]:
    """Each goal, and whether it is met."""
    said = []
    for result in results:
        said += [f"{'met   ' if met else 'MISSED'} {result.case.name}: {what}" for what, met in _goals(result)]
    return said


def write_json(path: Path, results: Sequence[Result], facts: dict[str, object]) -> None:
    """Every single run, with the machine and the versions."""
    cases = [
        {
            "name": result.case.name,
            "what": result.case.what,
            "goal": result.case.goal,
            "runs": {name: [asdict(usage) for usage in runs] for name, runs in result.runs.items()},
            "median": {name: {"cpu": _cpu(runs), "wall": _wall(runs), "peak": _peak(runs)} for name, runs in result.runs.items()},
        }
        for result in results
    ]
    path.write_text(json.dumps({**facts, "cases": cases}, indent=1) + "\n")


def _row(result: Result) -> str:
    ours, stock = result.runs[OURS], result.runs.get(STOCK)
    cells = [f"{result.case.name}: {result.case.what}"]
    cells += [_spread(ours, "cpu"), _spread(stock, "cpu"), _ratio(stock, ours, _cpu), f"{result.case.goal:g}" if result.case.goal else ""]
    cells += [_spread(ours, "wall"), _spread(stock, "wall"), _ratio(stock, ours, _wall)]
    cells += [f"{_peak(ours) / (1 << 20):.0f} / {_peak(stock) / (1 << 20):.0f}" if stock else f"{_peak(ours) / (1 << 20):.0f}"]
    cells += [_stored_cell(ours, stock)]
    line = f"| {' | '.join(cells)} |"
    if PYTHON in result.runs:
        line += f"\n| python -c pass | {_spread(result.runs[PYTHON], 'cpu')} | | | | {_spread(result.runs[PYTHON], 'wall')} | | | | |"
    return line


def _goals(result: Result) -> list[tuple[str, bool]]:
    ours, stock = result.runs[OURS], result.runs.get(STOCK)
    goals = [(f"peak memory {_peak(ours) / (1 << 20):.0f} MiB of {MOST_MEMORY >> 20}", _peak(ours) <= MOST_MEMORY)]
    if result.case.goal and stock:
        ratio = _cpu(stock) / _cpu(ours)
        goals.append((f"{ratio:.1f} times less CPU, goal {result.case.goal:g}", ratio >= result.case.goal))
    if result.case.goal and stock and _stored(ours) and _stored(stock):
        ratio = _stored(ours) / _stored(stock)
        goals.append((f"stored {ratio:.3f} of stock's, goal {MOST_STORED}", ratio <= MOST_STORED))
    if PYTHON in result.runs:
        more = _cpu(ours) - _cpu(result.runs[PYTHON])
        goals.append((f"{more * 1000:.0f} ms CPU more than python -c pass, goal {MOST_START_UP * 1000:.0f}", more <= MOST_START_UP))
    return goals


def _cpu(runs: Sequence[Usage]) -> float:
    return median(usage.cpu for usage in runs)


def _wall(runs: Sequence[Usage]) -> float:
    return median(usage.wall for usage in runs)


def _peak(runs: Sequence[Usage]) -> int:
    return max(usage.peak for usage in runs)


def _stored(runs: Sequence[Usage]) -> int:
    return int(median(usage.stored or 0 for usage in runs))


def _spread(runs: Sequence[Usage] | None, what: str) -> str:
    if not runs:
        return ""
    values = sorted(getattr(usage, what) for usage in runs)
    digits = 3 if values[-1] < 1 else 2
    return f"{median(values):.{digits}f} ({values[0]:.{digits}f}-{values[-1]:.{digits}f})"


def _ratio(stock: Sequence[Usage] | None, ours: Sequence[Usage], value: Callable[[Sequence[Usage]], float]) -> str:
    return f"**{value(stock) / value(ours):.1f}**" if stock else ""


def _stored_cell(ours: Sequence[Usage], stock: Sequence[Usage] | None) -> str:
    mine, theirs = _stored(ours), _stored(stock) if stock else 0
    if not mine:
        return ""
    return f"{mine:,} / {theirs:,} = {mine / theirs:.3f}" if theirs else f"{mine:,}"
