"""What asyncdup is built to (200 Mbit/s, a queue of 1 MB): the cells, what each must be, and what would be fine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.latency.cells import MIB, Cell, Direction, Protocol
from benchmarks.latency.contenders import ALONE
from benchmarks.latency.session import Run

OURS = "asyncdup"
BBR = "asyncdup bbr"  # a variant that asks for it, by the command line's --variant
COMMAND = "asyncdup command"
OVERLAP, EXTRA = 1.15, 3.0
_RATE = 25e6  # bytes/s


@dataclass(frozen=True)
class Goal:
    """Of one contender of ours in one cell.

    Attributes:
        limit: times the limit of the link, at most; fine: the same, as far as ambition goes.
        peers: times the seconds of each peer, at most.
        overlaps: at most ``OVERLAP`` times the longer of producing alone and the limit, and ``EXTRA`` seconds.
    """

    cell: Cell
    limit: float | None
    fine: float | None
    peers: Mapping[str, float] = field(default_factory=dict)
    ours: str = OURS
    overlaps: bool = False


def _cell(
    protocol: Protocol, direction: Direction, *, rtt: float = 0.1, loss: float = 0.0, rate: float = _RATE, small: bool = False
) -> Cell:
    count, size = (500, 64 << 10) if small else (16, 8 * MIB)
    return Cell(protocol=protocol, direction=direction, rtt=rtt, rate=rate, count=count, size=size, loss=loss, volume=max(1, size // MIB))


def goals() -> list[Goal]:
    """In the order in which they are measured."""
    up, s3 = _cell("sftp", "put"), _cell("s3", "put")
    lossy, lossy_s3 = _cell("sftp", "put", loss=0.001), _cell("s3", "put", loss=0.001)
    tree = replace(up, direction="backup", count=64, size=4 * MIB, volume=25, concurrency=8)
    return [
        Goal(up, 1.45, 1.25, {"lftp": 0.75, "duplicity 5": 0.35}),
        Goal(lossy, 1.6, 1.4, {"lftp": 0.4}),
        Goal(lossy, 1.4, 1.3, ours=BBR),
        Goal(_cell("sftp", "put", loss=0.01), 1.5, 1.3, ours=BBR),
        Goal(_cell("sftp", "put", rtt=0.03), 1.25, 1.1, {"lftp": 0.9}),
        Goal(_cell("sftp", "put", rtt=0.2), 1.9, 1.55, {"lftp": 0.75}),
        Goal(_cell("sftp", "get"), 1.4, 1.25, {"lftp": 0.7}),
        Goal(_cell("sftp", "put", small=True), 2.0, 1.6),
        Goal(_cell("sftp", "put", rtt=0.0), None, None, {"OpenSSH sftp": 1.1}),
        Goal(s3, 1.4, 1.25, {"obstore": 1.0, "s5cmd": 0.9}),
        Goal(lossy_s3, None, None, {"obstore": 1.1}),
        Goal(lossy_s3, 2.0, 1.6, {"obstore": 0.6}, BBR),
        Goal(_cell("s3", "put", small=True), 1.5, 1.3),
        Goal(tree, None, None, {"duplicity 5": 0.4}, COMMAND, overlaps=True),
        Goal(replace(tree, direction="restore"), None, None, {"duplicity 5": 0.4}, COMMAND, overlaps=True),
    ]


def verdicts(runs: Sequence[Run], median_of: Mapping[tuple[Cell, str], float]) -> list[str]:
    """A line for each goal whose cell was measured."""
    measured = {run.cell for run in runs}
    return [_verdict(goal, median_of) for goal in goals() if goal.cell in measured and (goal.cell, goal.ours) in median_of]


def _verdict(goal: Goal, median_of: Mapping[tuple[Cell, str], float]) -> str:
    checks = _checks(goal, median_of)
    peers = [name for name in goal.peers if (goal.cell, name) not in median_of]
    word = "MISSED" if not all(met for met, _ in checks) else "met   " if checks and not peers else "open  "
    said = [text for _, text in checks] + [f"{name} took no part" for name in peers]
    return f"{word} {goal.ours}, {goal.cell.name}: {'; '.join(said)}"


def _checks(goal: Goal, median_of: Mapping[tuple[Cell, str], float]) -> list[tuple[bool, str]]:
    mine, cell = median_of[goal.cell, goal.ours], goal.cell
    checks = []
    if goal.limit is not None:
        ratio = mine / cell.limit
        checks.append((ratio <= goal.limit, f"{ratio:.2f} × limit, must {goal.limit:g}, fine {goal.fine:g}"))
    if goal.overlaps:
        most = OVERLAP * max(cell.limit, median_of.get((cell, ALONE), 0.0)) + EXTRA
        checks.append((mine <= most, f"{mine:.1f} s, must {most:.1f}"))
    for name, most in goal.peers.items():
        if (cell, name) in median_of:
            ratio = mine / median_of[cell, name]
            checks.append((ratio <= most, f"{ratio:.2f} × {name}, must {most:g}"))
    return checks
