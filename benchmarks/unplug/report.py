"""The table of the unplug test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.unplug.outage import Run
from benchmarks.unplug.programs import Program

HEAD = (
    "| program | outage | outcome | s in all (without outage) | data moves again after | 90 % of the rate after | sent twice, MiB | connections tried |\n"
    "|---|---|---|---|---|---|---|---|"
)
_OUTAGES = {"cut": "link away", "forgotten": "link away, connections forgotten"}


def table(runs: Sequence[Run]) -> str:
    """One line for each run with an outage; bytes sent twice are those over what the same program needed without one."""
    quiet = {run.program: run for run in runs if run.outage == "none"}
    return "\n".join([HEAD, *(_line(run, quiet.get(run.program)) for run in runs if run.outage != "none")])


def settings(programs: Sequence[Program]) -> str:
    """What was compared."""
    return "\n".join(f"- {program.name}: {program.version}; {program.settings}" for program in programs)


def write_json(path: Path, runs: Sequence[Run], facts: dict[str, object]) -> None:
    """Every run with its samples."""
    path.write_text(json.dumps({**facts, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")


def _line(run: Run, quiet: Run | None) -> str:
    usual = f" ({quiet.seconds:.0f})" if quiet else ""
    twice = f"{max(0, run.delivered - quiet.delivered) / (1 << 20):.1f}" if quiet and run.exit_code == 0 else ""
    tried = f"{run.connections}" if run.attempts is None else f"{run.connections} ({len(run.attempts)} attempts)"
    cells = [
        run.program,
        _OUTAGES[run.outage],
        _outcome(run),
        f"{run.seconds:.0f}{usual}",
        _seconds(run.moves_again if run.mended_at else None),
        _seconds(run.full_rate_again if run.mended_at else None),
        twice,
        tried,
    ]
    return f"| {' | '.join(cells)} |"


def _outcome(run: Run) -> str:
    if run.exit_code == 0:
        return "goes on, archive right" if run.right else "ends well, **archive wrong**"
    after = f"{run.ended_at - run.cut_at:.0f} s after the cut"
    return f"hangs, ended {after}" if run.exit_code == -9 else f"**fails** {after}, exit code {run.exit_code}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
