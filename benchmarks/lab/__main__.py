"""``python -m benchmarks.lab``: can this machine do it, is the link what was asked for, and commands on it."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict

from asyncdup.errors import UsageError
from asyncdup.units import parse_duration, parse_rate, parse_size
from benchmarks.lab import Lab, Link, Unavailable, available
from benchmarks.lab.check import check
from benchmarks.lab.namespaces import Stack

SKIP = 77  # what automake and its kin take for "cannot be done here"


def main(arguments: list[str] | None = None) -> int:
    """77 where there can be no lab, 1 if the link is not what was asked for, else the exit code of the client's command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verb == "probe":
        reason = available()
        print(f"no lab here: {reason}" if reason else "the lab works")
        return SKIP if reason else 0
    try:
        link = Link.of(
            rtt=_seconds(options.rtt),
            rate=parse_rate(options.rate) if options.rate else 0.0,
            queue=parse_size(options.queue),
            jitter=_seconds(options.jitter),
            loss=options.loss / 100,
        )
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    try:
        with Lab(link, stack=Stack(congestion=options.congestion), seed=options.seed) as lab:
            return _check(lab) if options.verb == "check" else _run(lab, options)
    except Unavailable as error:
        print(f"no lab here: {error}", file=sys.stderr)
        return SKIP


def _check(lab: Lab) -> int:
    rows = check(lab)
    for row in rows:
        print(f"{row.what:26} asked {row.asked or 'any':>8.4} measured {row.measured:8.4f}  {'right' if row.right else 'WRONG'}")
    return 0 if all(row.right for row in rows) else 1


def _run(lab: Lab, options: argparse.Namespace) -> int:
    for command in options.server:
        lab.start("server", shlex.split(command))
    for port in options.wait_port:
        lab.wait_port(port)
    code = lab.run("client", shlex.split(options.client))
    print(json.dumps(asdict(lab.statistics()), indent=1), file=sys.stderr)
    return code


def _seconds(text: str) -> float:
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(parse_duration(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab", description="an emulated network link between two namespaces")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("probe", help="exit code 0 where the lab works, 77 where it cannot")
    link = argparse.ArgumentParser(add_help=False)
    link.add_argument("--rtt", default="100ms", help="round trip [%(default)s]")
    link.add_argument("--rate", default="", help="each way, such as 200Mbit/s [no limit]")
    link.add_argument("--queue", default="1M", help="of the slower end [%(default)s]")
    link.add_argument("--jitter", default="0ms", help="[%(default)s]")
    link.add_argument("--loss", type=float, default=0.0, help="per cent of the packets [%(default)s]")
    link.add_argument("--congestion", default="cubic", help="cubic, bbr, reno [%(default)s]")
    link.add_argument("--seed", type=int, default=1)
    verbs.add_parser("check", parents=[link], help="measure the link against what was asked")
    run = verbs.add_parser("run", parents=[link], help="commands over the link; counters on standard error")
    run.add_argument("--server", action="append", default=[], metavar="COMMAND", help=f"started at {Lab.server_address}")
    run.add_argument("--wait-port", action="append", default=[], type=int, metavar="PORT")
    run.add_argument("--client", required=True, metavar="COMMAND", help=f"run at {Lab.client_address}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
