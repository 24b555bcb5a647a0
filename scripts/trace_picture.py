"""A trace (``--trace FILE``) as an SVG picture: a row a track, an arrow for each retry, and the spool below. For docs/tracing.md.

usage: python scripts/trace_picture.py TRACE.json > PICTURE.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

LEFT, WIDTH, ROW, GAP, TOP = 120, 860, 22, 12, 30  # pixels: of the names, the time, a row, the space between groups, the scale
COUNTER = 54  # height of the spool's curve
COLOURS = {
    "ok": "#4c9a6a",
    "error": "#c8553d",
    "cancelled": "#9a9a9a",
    "unfinished": "#9a9a9a",
    "volume": "#5b7db1",
    "spool": "#d9c27a",
    "RUNNING": "#cfe3d6",
    "BACKOFF": "#e2a25b",
    "PROBING": "#7e6bb0",
    "WAITING": "#b5364a",
    "pause": "#8c8c8c",
    "STOPPED": "#555555",
}
LEGEND = (
    ("volume", "a volume is made"),
    ("spool", "waits for room"),
    ("ok", "sent"),
    ("error", "failed"),
    ("BACKOFF", "backoff"),
    ("PROBING", "probing"),
    ("WAITING", "waits for the operator"),
)
TRACK_NAMES = {"spool": "spool full"}

Record = dict[str, Any]
Track = tuple[int, int]


class Picture:
    """Where things are: x by time, y by track."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.slices = [each for each in records if each["ph"] == "X"]
        self.end = max(each["ts"] + each["dur"] for each in self.slices)
        self.names = {(e["pid"], e["tid"]): e["args"]["name"] for e in records if e["ph"] == "M" and e["name"] == "thread_name"}
        self.groups = {e["pid"]: e["args"]["name"] for e in records if e["ph"] == "M" and e["name"] == "process_name"}
        self.rows: dict[Track, float] = {}
        y, last = float(TOP), None
        for track in sorted(self.names):
            if track[0] != last:
                y += GAP + 8
                last = track[0]
            self.rows[track] = y
            y += ROW
        self.bottom = y

    def x(self, microseconds: float) -> float:
        return round(LEFT + WIDTH * microseconds / self.end, 1)

    def svg(self) -> Iterator[str]:
        height = self.bottom + COUNTER + 64
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height:g}" font-family="sans-serif" font-size="11">'
        yield "<title>A backup over SFTP: the server goes away, comes back, and its disk is full until somebody makes room</title>"
        yield f'<rect width="{LEFT + WIDTH + 20}" height="{height:g}" fill="#ffffff"/>'
        yield '<defs><marker id="tip" markerWidth="5" markerHeight="5" refX="4" refY="2.5" orient="auto">'
        yield '<path d="M0,0 L5,2.5 L0,5 z" fill="#222222"/></marker></defs>'
        yield from self.scale()
        yield from self.labels()
        for each in self.slices:
            yield from self.slice(each)
        yield from self.arrows()
        yield from self.spool(self.bottom + 20)
        yield from self.legend(self.bottom + COUNTER + 48)
        yield "</svg>"

    def scale(self) -> Iterator[str]:
        for second in range(int(self.end / 1e6) + 1):
            x = self.x(second * 1e6)
            yield f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{self.bottom + COUNTER + 20:g}" stroke="#e4e4e4"/>'
            yield f'<text x="{x}" y="{TOP - 6}" text-anchor="middle" fill="#555555">{second} s</text>'

    def labels(self) -> Iterator[str]:
        for pid, name in self.groups.items():
            first = min((y for (owner, _), y in self.rows.items() if owner == pid), default=None)
            if first is not None:
                yield f'<text x="4" y="{first - 5:g}" font-weight="bold">{escape(name)}</text>'
        for track, y in self.rows.items():
            name = TRACK_NAMES.get(self.names[track], self.names[track])
            yield f'<text x="{LEFT - 8}" y="{y + 15:g}" text-anchor="end">{escape(name)}</text>'

    def slice(self, each: Record) -> Iterator[str]:
        kind = each["name"] if each["cat"] == "gate" else each["args"].get("outcome", each["cat"])
        x, y = self.x(each["ts"]), self.rows[each["pid"], each["tid"]] + 2
        width = max(1.0, round(WIDTH * each["dur"] / self.end, 1))
        said = "; ".join([each["name"], *(f"{name}: {value}" for name, value in each["args"].items())])
        yield f'<rect x="{x}" y="{y:g}" width="{width}" height="{ROW - 4}" fill="{COLOURS.get(kind, "#aaaaaa")}" stroke="#ffffff" stroke-width="0.5">'
        yield f"<title>{escape(said)}</title></rect>"
        label = _short(each)
        if width > 7 * len(label):
            colour = "#222222" if kind in ("RUNNING", "spool", "BACKOFF") else "#ffffff"
            yield f'<text x="{x + width / 2:g}" y="{y + 13:g}" text-anchor="middle" fill="{colour}">{escape(label)}</text>'

    def arrows(self) -> Iterator[str]:
        starts = {each["id"]: each for each in self.records if each["ph"] == "s"}
        for end in (each for each in self.records if each["ph"] == "f"):
            start = starts[end["id"]]
            x1, y1 = self.x(self.slice_end(start)), self.rows[start["pid"], start["tid"]] + ROW / 2
            x2, y2 = self.x(end["ts"]) + 2, self.rows[end["pid"], end["tid"]] + ROW / 2
            middle = (x1 + x2) / 2
            path = f"M{x1},{y1:g} C{middle:g},{y1 - 14:g} {middle:g},{y2 - 14:g} {x2},{y2:g}"
            yield f'<path d="{path}" fill="none" stroke="#222222" stroke-width="0.8" marker-end="url(#tip)"/>'

    def slice_end(self, point: Record) -> float:
        """Of the slice that ``point`` lies in: an arrow from its middle would cross its name."""
        track = (point["pid"], point["tid"])
        ends = (e["ts"] + e["dur"] for e in self.slices if (e["pid"], e["tid"]) == track and e["ts"] <= point["ts"] <= e["ts"] + e["dur"])
        return float(max(ends, default=point["ts"]))

    def spool(self, y: float) -> Iterator[str]:
        """Bytes in the spool, as steps."""
        values = [(each["ts"], each["args"]["bytes"]) for each in self.records if each["ph"] == "C" and each["name"] == "spool bytes"]
        most = max((value for _, value in values), default=0) or 1
        points, before = [f"{LEFT},{y + COUNTER:g}"], y + COUNTER
        for time, value in [*values, (self.end, 0)]:
            points.append(f"{self.x(time)},{before:g}")
            before = round(y + COUNTER * (1 - value / most), 1)
            points.append(f"{self.x(time)},{before:g}")
        yield f'<polygon points="{" ".join(points)}" fill="#c3d0e6" stroke="#5b7db1"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 12:g}" text-anchor="end">spool, up to</text>'
        yield f'<text x="{LEFT - 8}" y="{y + 26:g}" text-anchor="end">{most / (1 << 20):.0f} MiB</text>'

    def legend(self, y: float) -> Iterator[str]:
        x = LEFT
        for kind, words in LEGEND:
            yield f'<rect x="{x}" y="{y - 10:g}" width="12" height="12" fill="{COLOURS[kind]}"/><text x="{x + 17}" y="{y:g}">{words}</text>'
            x += 36 + 6 * len(words)
        yield f'<path d="M{x},{y - 4:g} h22" stroke="#222222" marker-end="url(#tip)"/><text x="{x + 30}" y="{y:g}">tried again</text>'


def _short(each: Record) -> str:
    """``vol7`` of a volume's name, ``7`` of a volume being made."""
    name: str = each["name"]
    part = next((part for part in name.split(".") if part.startswith("vol")), None)
    return part or name.removeprefix("volume ").partition(" ")[0]


def read(lines: Iterable[str]) -> list[Record]:
    """The records; the array of a run that was killed has no closing bracket."""
    text = "".join(lines).strip()
    found: list[Record] = json.loads(text if text.endswith("]") else text.rstrip(",") + "]")
    return found


if __name__ == "__main__":
    with open(sys.argv[1], encoding="ascii") as trace:
        sys.stdout.writelines(line + "\n" for line in Picture(read(trace)).svg())
