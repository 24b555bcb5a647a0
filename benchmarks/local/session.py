"""One session: programs take turns on the same trees, in an order that rotates, so that none always has the warmest caches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.local import measure
from benchmarks.local.cases import Case, full
from benchmarks.local.measure import Usage
from benchmarks.local.programs import Program

BRIEF = 4  # times as many runs of what takes a fraction of a second


@dataclass
class Result:
    """All runs of one case, by program, in the order they were made."""

    case: Case
    runs: dict[str, list[Usage]] = field(default_factory=dict)


@dataclass
class Session:
    """``work``: everything is below it. ``scale``: of the trees' sizes."""

    work: Path
    programs: Sequence[Program]
    scale: float
    rounds: int
    say: Callable[[str], None]
    trees: dict[str, Path] = field(default_factory=dict)

    def measure(self, case: Case) -> Result:
        """All rounds of one case. Raises ProgramFailed or NotTheSame."""
        tree = self._tree(case)
        contenders = [program for program in self.programs if program.name != "python" or case.baseline]
        if case.needs_base:
            for program in contenders:
                self._base(program, case, tree)
        if case.change:
            _in_a_process("trees", f"{case.change}(Path({str(tree)!r}))")
        result = Result(case, {program.name: [] for program in contenders})
        for number in range(self.rounds * (BRIEF if case.brief else 1)):
            turn = number % len(contenders)
            for program in [*contenders[turn:], *contenders[:turn]]:
                usage = self._one(case, program, tree)
                result.runs[program.name].append(usage)
                self.say(f"{case.name}: {program.name} {usage.cpu:.3f} s CPU, {usage.wall:.3f} s, {usage.peak >> 20} MiB")
        return result

    def _one(self, case: Case, program: Program, tree: Path) -> Usage:
        case.prepare(program)
        if case.tree:
            measure.warm(tree, program.base(case.tree).folder, program.scratch.folder)
        usage = measure.run(case.argv(program, tree), program.environment, program.folder / "log")
        return case.check(program, tree, usage)

    def _base(self, program: Program, case: Case, tree: Path) -> None:
        store = program.base(case.tree or "")
        if not store.folder.exists():
            store.clear()
            measure.run(full(program, tree, store), program.environment, program.folder / "log")

    def _tree(self, case: Case) -> Path:
        """The tree, made on first use."""
        name = case.tree
        if name is None:
            return self.work
        if name not in self.trees:
            root = self.trees[name] = self.work / "trees" / name
            _in_a_process("trees", f"MAKERS[{name!r}](Path({str(root)!r}), {self.scale!r})")
        return self.trees[name]


def _in_a_process(module: str, call: str) -> None:
    """Make or change a tree outside of this process, which must stay small (``measure.run``)."""
    code = f"from pathlib import Path; from benchmarks.local.{module} import *; {call}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
