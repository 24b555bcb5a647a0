"""``python -m benchmarks.latency``: measure, print the table, say which goals are met."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from asyncdup.errors import UsageError
from benchmarks.lab import Lab, Link, Unavailable
from benchmarks.lab.namespaces import Stack
from benchmarks.latency import plot, report
from benchmarks.latency.cells import Cell, Grid
from benchmarks.latency.contenders import Contender, contenders, default_duplicity, version_of
from benchmarks.latency.goals import goals, verdicts
from benchmarks.latency.session import Run, Session
from benchmarks.latency.store import S3
from benchmarks.unplug.server import Missing, Server

SKIP = 77  # what automake and its kin take for "cannot be done here"
MEMORY = Path("/dev/shm")


def main(arguments: list[str] | None = None) -> int:
    """77 where there can be no lab; 1 if asyncdup failed; else 0: missed goals are told, not punished."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        axes = ("protocol", "direction", "rtt", "rate", "objects", "concurrency", "loss")
        grid = Grid.parse({axis: getattr(options, axis) for axis in axes}, congestion=options.congestion)
    except UsageError as error:
        parser.error(str(error))
    if options.again:
        _tell(options, [run for path in options.again for run in report.read_json(path)], {})
        return 0
    cells = list(dict.fromkeys(goal.cell for goal in goals())) if options.goals else grid
    programs = _chosen(options)
    runs: list[Run] = []
    try:
        for congestion, some in groupby(cells, key=lambda cell: cell.congestion):
            runs += _measure(options, congestion, list(some), programs)
    except (Unavailable, Missing) as error:
        print(f"no latency benchmark here: {error}", file=sys.stderr)
        return SKIP
    _tell(options, runs, _facts(options, programs, runs))
    return 1 if any(not run.right for run in runs if run.contender.startswith(report.OURS)) else 0


def _tell(options: argparse.Namespace, runs: Sequence[Run], facts: Mapping[str, object]) -> None:
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    print(report.table(runs))
    print("\n".join(["", *verdicts(runs, report.medians(runs))]))
    if options.json:
        report.write_json(options.json, runs, facts)
    if options.plots:
        _say(f"pictures: {', '.join(map(str, plot.write_all(options.plots, runs)))}")


def _measure(options: argparse.Namespace, congestion: str, cells: Sequence[Cell], programs: Sequence[Contender]) -> list[Run]:
    runs: list[Run] = []
    with (
        tempfile.TemporaryDirectory(prefix="asyncdup-latency-", dir=options.work) as name,
        Lab(Link(), stack=Stack(congestion=congestion)) as lab,
    ):
        work = Path(name)
        ssh = Server(work / "sshd")
        ssh.start(lab)
        s3 = S3(lab, work / "weed") if any(cell.protocol == "s3" for cell in cells) else None
        session = Session(lab, work, ssh, options.rounds, _say, s3)
        if s3 is not None:
            s3.start()
        for cell in cells:
            runs += session.measure(cell, programs)
    return runs


def _chosen(options: argparse.Namespace) -> list[Contender]:
    variants: dict[str, list[str]] = {report.OURS: []}
    for text in options.variant:
        name, _, words = text.partition("=")
        variants[f"{report.OURS} {name}"] = shlex.split(words)
    found = contenders(options.stock, variants, _say)
    names = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := set(names) - {contender.name for contender in found}:
        raise SystemExit(f"no such contender here: {', '.join(sorted(unknown))}; there are {', '.join({each.name for each in found})}")
    return [contender for contender in found if not names or contender.name in names]


def _facts(options: argparse.Namespace, programs: Sequence[Contender], runs: Sequence[Run]) -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "idle": _idle(runs),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "rounds": options.rounds,
        "versions": {program.name: version_of(program) for program in programs},
    }


def _idle(runs: Sequence[Run]) -> str:
    """How much of the machine nobody used during the runs: near 0, others were in the way."""
    parts = [run.idle for run in runs] or [0.0]
    return f"{min(parts):.0%} to {max(parts):.0%}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description="Transfers over an emulated link, each program from start to exit. Lists with commas between; every combination is measured.",
    )
    parser.add_argument("--protocol", default="sftp,s3", help="sftp, s3 [%(default)s]")
    parser.add_argument("--direction", default="put,get", help="put, get, backup, restore [%(default)s]")
    parser.add_argument("--rtt", default="100", help="round trips in ms [%(default)s]")
    parser.add_argument("--rate", default="200Mbit/s", help="of the link, each way [%(default)s]")
    parser.add_argument("--loss", default="0", help="per cent of the packets [%(default)s]")
    parser.add_argument("--objects", default="16x8M", help="how many of what size [%(default)s]")
    parser.add_argument("--concurrency", default="8", help="transfers at once, of programs that can be told [%(default)s]")
    parser.add_argument("--congestion", default="cubic", help="of both hosts: cubic, bbr, reno [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender that count [%(default)s]")
    parser.add_argument("--only", default="", help="contenders, by their names")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=WORDS",
        help="one more contender, asyncdup with more words for its copier, such as 'bbr=--set tcp_congestion=bbr'",
    )
    parser.add_argument("--stock", type=Path, default=default_duplicity(), help="stock duplicity's script [%(default)s]")
    parser.add_argument(
        "--work", type=Path, default=MEMORY if MEMORY.is_dir() else None, help="where to make a folder that is removed [%(default)s]"
    )
    parser.add_argument("--goals", action="store_true", help="the cells that asyncdup's goals are about, instead of the lists above")
    parser.add_argument("--plots", type=Path, help="a folder for pictures of the results")
    parser.add_argument(
        "--again", action="append", default=[], type=Path, metavar="JSON", help="measure nothing: tables and pictures of earlier runs"
    )
    parser.add_argument("--json", type=Path, help="write every run with its samples to this file")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
