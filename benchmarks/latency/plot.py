"""Pictures of the results as SVG: time against the round trip, time against concurrency, the rate over time. Plain text, no library."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.latency.cells import Cell
from benchmarks.latency.report import OURS, cells_of, seconds
from benchmarks.latency.session import Run

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 40, 52  # margins; names stand at the right
_COLOURS = ("#0b5fa5", "#c1440e", "#3a7d34", "#7b4fa3", "#b8860b", "#5f6b6d", "#a83258", "#148f8b")
_WINDOW = 0.5  # seconds over which a rate is taken
_TICKS = 6
_FEW = 12  # points of a line that are marked


def write_all(folder: Path, runs: Sequence[Run]) -> list[Path]:
    """Every picture for which there are at least two points. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for word, label, axis in (("rtt", "round trip, ms", _rtt), ("concurrency", "transfers at once", _concurrency)):
        for number, (title, lines) in enumerate(_families(runs, word, axis).items()):
            written.append(folder / f"{word}-{number}.svg")
            written[-1].write_text(chart(title, label, "seconds, median", lines))
    for number, (cell, contenders) in enumerate(cells_of(runs).items()):
        lines = {name: rate for name, mine in contenders.items() if (rate := _rate(mine))}
        if lines:
            written.append(folder / f"rate-{number}.svg")
            written[-1].write_text(chart(cell.name, "seconds", "Mbit/s on the link", lines))
    return written


def chart(title: str, across: str, up: str, lines: Mapping[str, Points]) -> str:
    """An SVG with one line for each name. Both axes begin at 0; a line whose name begins with ``limit`` is dashed."""
    largest_x = max((x for points in lines.values() for x, _ in points), default=1.0) or 1.0
    largest_y = max((y for points in lines.values() for _, y in points), default=1.0) or 1.0
    step_x, step_y = _step(largest_x), _step(largest_y)
    end_x, end_y = step_x * math.ceil(largest_x / step_x), step_y * math.ceil(largest_y / step_y)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + x / end_x * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y / end_y * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, size=13),
        *_grid(end_x, step_x, end_y, step_y, place),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, across, anchor="middle"),
        f'<g transform="translate(16 {_HEIGHT / 2}) rotate(-90)">{_text(0, 0, up, anchor="middle")}</g>',
        *_lines(lines, place),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _lines(lines: Mapping[str, Points], place: Callable[[float, float], tuple[float, float]]) -> list[str]:
    parts = []
    colours = _colours(list(lines))
    for number, (name, points) in enumerate(lines.items()):
        colour = colours[name]
        dashed = ' stroke-dasharray="5 4"' if name.startswith("limit") else ""
        width = 2.6 if name.startswith(OURS) else 1.4
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>')
        if len(points) <= _FEW:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (place(*point) for point in points)]
        y = _TOP + 16 * number
        parts.append(
            f'<line x1="{_WIDTH - _RIGHT + 14}" y1="{y}" x2="{_WIDTH - _RIGHT + 34}" y2="{y}" stroke="{colour}" stroke-width="{width}"{dashed}/>'
        )
        parts.append(_text(_WIDTH - _RIGHT + 40, y + 4, name))
    return parts


def _colours(names: list[str]) -> dict[str, str]:
    """Ours begin with the first colour in every picture."""
    limits = [name for name in names if name.startswith("limit")]
    others = sorted((name for name in names if name not in limits), key=lambda name: not name.startswith(OURS))
    return {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(others)} | dict.fromkeys(limits, "#222222")


def _grid(end_x: float, step_x: float, end_y: float, step_y: float, place: Callable[[float, float], tuple[float, float]]) -> list[str]:
    parts = []
    for number in range(round(end_x / step_x) + 1):
        x, bottom = place(number * step_x, 0)
        parts.append(f'<line x1="{x:.1f}" y1="{bottom:.1f}" x2="{x:.1f}" y2="{_TOP}" stroke="#e4e4e4"/>')
        parts.append(_text(x, bottom + 16, f"{number * step_x:g}", anchor="middle"))
    for number in range(round(end_y / step_y) + 1):
        left, y = place(0, number * step_y)
        parts.append(f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(_text(left - 6, y + 4, f"{number * step_y:g}", anchor="end"))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(text)}</text>'


def _step(largest: float) -> float:
    """A round number of which a handful reach ``largest``."""
    rough = largest / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


def _families(runs: Sequence[Run], word: str, axis: Callable[[Cell], float]) -> dict[str, dict[str, Points]]:
    """Cells that differ in one thing only, by what they have in common; with the limit as a line of its own."""
    families: dict[str, dict[str, dict[float, float]]] = {}
    for cell, contenders in cells_of(runs).items():
        title = _title(cell, word)
        lines = families.setdefault(title, {"limit": {}})
        lines["limit"][axis(cell)] = cell.limit
        for name, mine in contenders.items():
            if (time := seconds(mine)) is not None:
                lines.setdefault(name, {})[axis(cell)] = time
    return {
        title: {name: sorted(points.items()) for name, points in lines.items()}
        for title, lines in families.items()
        if len(lines["limit"]) > 1
    }


def _title(cell: Cell, word: str) -> str:
    """The cell's name without what is on the axis."""
    same = replace(cell, rtt=0.0) if word == "rtt" else replace(cell, concurrency=0)
    return same.name.replace(", 0 ms", "") if word == "rtt" else same.name.replace(", 0 at once", "")


def _rtt(cell: Cell) -> float:
    return cell.rtt * 1e3


def _concurrency(cell: Cell) -> float:
    return float(cell.concurrency)


def _rate(runs: Sequence[Run]) -> Points:
    """Of the run in the middle, in Mbit/s; moments are the middles of the windows."""
    counting = sorted((run for run in runs if run.counts), key=lambda run: run.wall)
    if not counting:
        return []
    samples = min(counting, key=lambda run: abs(run.wall - median(each.wall for each in counting))).samples
    points, first = [(0.0, 0.0)], 0
    for at, moved in samples:
        while samples[first + 1][0] < at - _WINDOW if first + 1 < len(samples) else False:
            first += 1
        began, before = samples[first]
        if at - began >= _WINDOW / 2:
            points.append(((at + began) / 2, (moved - before) * 8 / 1e6 / (at - began)))
    return points
