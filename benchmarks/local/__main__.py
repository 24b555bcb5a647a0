"""``python -m benchmarks.local``: measure, print the table, say which goals are met."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.local import machine, report
from benchmarks.local.cases import Case, cases
from benchmarks.local.programs import Program, ours
from benchmarks.local.session import Session
from benchmarks.local.trees import describe

QUICK = 0.05  # scale of the trees
STOCK = Path(".stock/bin/duplicity")  # where scripts/test puts it


def main(arguments: list[str] | None = None) -> int:
    """0 unless a program failed; missed goals are told, not punished: what is timed is no test."""
    options = _parser().parse_args(arguments)
    chosen = _chosen(options.only)
    with tempfile.TemporaryDirectory(prefix="asyncdup-bench-", dir=options.work) as name:
        work = Path(name)
        programs = _programs(work, None if options.stock == "none" else Path(options.stock))
        session = Session(work, programs, options.scale, options.rounds, say=_say)
        facts: dict[str, object] = {"scale": options.scale, "rounds": options.rounds, **machine.describe(work, programs)}
        try:
            results = [session.measure(case) for case in chosen]
        finally:
            for program in programs:
                program.end_agents()
        facts["trees"] = {name: describe(root) for name, root in session.trees.items()}
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    print(f"\ngzip: asyncdup at its default (isal level 1), stock at zlib level 6, unless the case says else\n\n{report.table(results)}\n")
    if options.scale < 1:
        print("the goals are for trees of full size: here the start of each program counts most")
    else:
        print("\n".join(report.verdicts(results)))
    if options.json:
        report.write_json(options.json, results, facts)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local", description="asyncdup beside stock duplicity: local work")
    parser.add_argument(
        "--quick", dest="scale", action="store_const", const=QUICK, default=1.0, help=f"trees of {QUICK:.0%}% of their size"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="trees of this part of their size [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program, brief ones four times as many [%(default)s]")
    parser.add_argument("--stock", default=str(STOCK), help="stock duplicity's script, or none [%(default)s]")
    parser.add_argument(
        "--only", default="", help="cases, by their names, with commas between: " + ", ".join(case.name for case in cases())
    )
    parser.add_argument("--work", type=Path, help="where to make a folder that is removed at the end [the system's temporary one]")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser


def _chosen(only: str) -> list[Case]:
    names = [name for name in only.split(",") if name]
    unknown = set(names) - {case.name for case in cases()}
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}")
    return [case for case in cases() if not names or case.name in names]


def _programs(work: Path, stock: Path | None) -> list[Program]:
    programs = [Program("asyncdup", ours(), work / "asyncdup")]
    if stock is not None and not stock.exists() and shutil.which(stock) is None:
        _say(f"{stock} is not there (scripts/test sets it up, --stock says where else it is): asyncdup is measured alone")
    elif stock is not None:
        programs.append(Program("duplicity", (str(stock.absolute()) if stock.exists() else str(stock),), work / "duplicity"))
    return [*programs, Program("python", (sys.executable,), work / "python")]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
