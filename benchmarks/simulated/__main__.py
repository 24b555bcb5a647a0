"""``python -m benchmarks.simulated``: the table of RTT and concurrency, and memory by number of volumes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from asyncdup.errors import UsageError
from asyncdup.units import parse_rate
from benchmarks.simulated.far import AS_IF, Outcome, Setting, upload
from benchmarks.simulated.late import LATE, USUAL, Reading, brown_out, read, stragglers

_NUMBERS = (100, 1_000, 10_000)  # of volumes, for the memory
_FAR = 0.1  # seconds, there


def main(arguments: Sequence[str] | None = None) -> int:
    """0: what is timed is no test."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        rate = parse_rate(options.rate)
        rtts = [float(text) / 1e3 for text in options.rtt.split(",")]
        concurrencies = [int(text) for text in options.concurrency.split(",")]
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    upload(Setting(200, _FAR, 8, rate))  # warm: imports and caches
    outcomes = [upload(Setting(options.volumes, rtt, n, rate)) for n in concurrencies for rtt in rtts]
    flat = [upload(Setting(number, _FAR, 8, rate), memory=True) for number in _NUMBERS if number <= options.volumes]
    print(f"{options.volumes} volumes of {AS_IF >> 10} KiB over {options.rate}, virtual time\n\n{table(outcomes)}\n\n{memory_table(flat)}")
    if options.reads:
        readings = [read(weather, hedge=hedge, objects=options.reads) for weather in (stragglers, brown_out) for hedge in (False, True)]
        print(
            f"\n{options.reads} objects read in order, eight at once, each for about {USUAL:g} s, a late one {LATE} times that\n\n{read_table(readings)}"
        )
    if options.json:
        records = [{**asdict(outcome), "model": outcome.setting.model} for outcome in [*outcomes, *flat]]
        options.json.write_text(json.dumps(records, indent=1) + "\n")
    return 0


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each setting."""
    head = "| at once | RTT ms | seconds | model | overlap | CPU µs a volume |\n|---|---|---|---|---|---|"
    return "\n".join([head, *map(_row, outcomes)])


def memory_table(outcomes: Sequence[Outcome]) -> str:
    """The peak by number of volumes."""
    head = f"| volumes ({_FAR * 1e3:g} ms, 8 at once) | peak of Python's memory, KiB |\n|---|---|"
    return "\n".join([head, *(f"| {outcome.setting.volumes:,} | {outcome.peak >> 10:,} |" for outcome in outcomes)])


def read_table(readings: Sequence[Reading]) -> str:
    """How long a consumer waits for the next object, and what that costs."""
    head = "| late | second attempts | wait p50 s | p99 s | worst s | seconds in all | more requests | more bytes | denied |\n|---|---|---|---|---|---|---|---|---|"
    rows = [
        f"| {each.weather.replace('_', '-')} | {each.hedges if each.hedge else 'off'} | {each.wait(0.5):.1f} | {each.wait(0.99):.1f} | {each.waits[-1]:.1f} "
        f"| {each.seconds:.0f} | {each.more_requests:.1%} | {each.more_bytes:.1%} | {each.denied} |"
        for each in readings
    ]
    return "\n".join([head, *rows])


def _row(outcome: Outcome) -> str:
    setting = outcome.setting
    cells = [
        f"{setting.concurrency}",
        f"{setting.rtt * 1e3:g}",
        f"{outcome.seconds:.1f}",
        f"{setting.model:.1f}",
        f"{outcome.overlap:.1%}",
        f"{outcome.each * 1e6:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulated", description="the engine at a distance, on virtual time")
    parser.add_argument("--volumes", type=int, default=10_000, help="[%(default)s]")
    parser.add_argument("--rtt", default="1,100,600", help="ms, with commas between [%(default)s]")
    parser.add_argument("--concurrency", default="1,8,32", help="with commas between [%(default)s]")
    parser.add_argument("--rate", default="200Mbit/s", help="of the link [%(default)s]")
    parser.add_argument("--reads", type=int, default=2_000, help="objects to read, with and without second attempts; 0: none [%(default)s]")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
