"""``python -m benchmarks.unplug``: every contender once without and once with each kind of outage, and the table."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from asyncdup.units import parse_rate
from benchmarks.lab import Lab, Link, Unavailable
from benchmarks.unplug import report
from benchmarks.unplug.outage import Bench, Outage, Run
from benchmarks.unplug.programs import CONCURRENCY, VOLUME_MIB, Program, contenders
from benchmarks.unplug.server import Missing, Server

SKIP = 77
FILE = 1 << 20  # bytes


def main(arguments: list[str] | None = None) -> int:
    """77 where there can be no lab; 1 if asyncdup did not go on; else 0."""
    options = _parser().parse_args(arguments)
    programs = [program for program in contenders(options.stock, _say) if not options.only or program.name in options.only.split(";")]
    link = Link.of(rtt=options.rtt / 1000, rate=parse_rate(options.rate))
    try:
        with tempfile.TemporaryDirectory(prefix="asyncdup-unplug-", dir=options.work) as folder, Lab(link) as lab:
            runs = _measure(options, Path(folder), lab, programs)
    except (Unavailable, Missing) as error:
        print(f"no unplug test here: {error}", file=sys.stderr)
        return SKIP
    about = f"{options.rtt} ms round trip, {options.rate}, {options.size} MiB in files of 1 MiB, outage of {options.cut:g} s"
    print(
        f"{about}; asyncdup with volumes of {VOLUME_MIB} MiB, {CONCURRENCY} at once\n\n{report.settings(programs)}\n\n{report.table(runs)}"
    )
    if options.json:
        report.write_json(options.json, runs, {"link": about, "programs": {program.name: program.version for program in programs}})
    return 0 if all(run.exit_code == 0 and run.right for run in runs if run.program.startswith("asyncdup")) else 1


def _measure(options: argparse.Namespace, work: Path, lab: Lab, programs: list[Program]) -> list[Run]:
    source = work / "source"
    source.mkdir()
    rng = random.Random(7)
    for number in range(options.size * (1 << 20) // FILE):
        (source / f"file{number:04}").write_bytes(rng.randbytes(FILE))  # random: what is sent is what is there
    server = Server(work / "server")
    bench = Bench(lab, server, server.start(lab), source, work, options.cut, options.patience, _say)
    outages: tuple[Outage, ...] = ("none", "cut", "forgotten")
    return [
        bench.run(program, outage)
        for program in programs
        for outage in outages
        if not options.outage or outage in options.outage.split(",")
    ]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unplug", description="the network goes away in the middle of a backup")
    parser.add_argument("--cut", type=float, default=60.0, help="seconds that the link is away [%(default)g]")
    parser.add_argument("--rtt", type=float, default=100.0, help="round trip in ms [%(default)g]")
    parser.add_argument("--rate", default="80Mbit/s", help="of the link, each way [%(default)s]")
    parser.add_argument("--size", type=int, default=200, help="MiB to be sent [%(default)s]")
    parser.add_argument("--patience", type=float, default=240.0, help="seconds after the mending until a program is ended [%(default)g]")
    parser.add_argument("--stock", type=Path, default=Path(".stock/bin/duplicity"), help="stock duplicity's script [%(default)s]")
    parser.add_argument("--only", default="", help="contenders, by their names, with ; between")
    parser.add_argument("--outage", default="", help="of none, cut, forgotten, with commas between [all]")
    parser.add_argument("--work", type=Path, help="where to make a folder that is removed at the end [the system's temporary one]")
    parser.add_argument("--json", type=Path, help="write every run with its samples to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
