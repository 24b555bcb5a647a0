"""What is measured: for each case what goes before the clock, the command, and what is looked at after it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.local.compare import same_tree
from benchmarks.local.measure import Usage
from benchmarks.local.programs import Program, Store


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table.

    Attributes:
        tree: what it works on; None needs none.
        goal: stock's CPU over ours, at least; None: only shown.
        needs_base: a full backup of the tree goes before it.
        change: what happens to the tree once all programs have their base.
        prepare: before each run, off the clock.
        argv: the command, given the program and the tree.
        check: after each run: raises if the work is wrong; may add to the usage.
        brief: a fraction of a second, so it is run four times as often.
        baseline: bare ``python -c pass`` takes part.
    """

    name: str
    what: str
    argv: Callable[[Program, Path], list[str]]
    tree: str | None = None
    goal: float | None = None
    needs_base: bool = False
    change: str | None = None
    prepare: Callable[[Program], None] = lambda program: None
    check: Callable[[Program, Path, Usage], Usage] = lambda program, tree, usage: usage
    brief: bool = False
    baseline: bool = False


def cases() -> list[Case]:
    """All cases, in an order in which each finds the trees as it needs them."""
    return [
        _full("full-mixed", "mixed", "full of 512 MiB mixed data", goal=5),
        _full("full-mixed-level-6", "mixed", "the same, ours with --compression-level 6 (engine against engine)", level=6),
        _restore("restore-mixed", "mixed", "restore of it", goal=2),
        _full("full-small", "small", "full of 20,000 files of 0-16 KiB", goal=3),
        _restore("restore-small", "small", "restore of it", goal=2),
        _restore("restore-one", "small", "restore of one file of it", path="000/small-00050"),
        _verify("verify-small", "small", "verify of it, with data"),
        _reading("list-small", "small", "list-current-files of it", "list-current-files"),
        _reading("status-small", "small", "collection-status of it", "collection-status"),
        _full("full-tiny", "tiny", "full of 100,000 empty and tiny entries"),
        _incremental("unchanged-tiny", "tiny", "incremental of it, nothing changed", goal=3),
        _incremental("changed-tiny", "tiny", "incremental of it, 1 % of the files changed", change="touch_tiny"),
        _incremental("changed-big", "big", "incremental of one file of 256 MiB, 1 % changed", change="change_big"),
        _full("full-gpg", "mixed-256", "full of 256 MiB mixed data, symmetric gpg", encrypted=True),
        Case(name="version", what="--version", argv=_version, brief=True, baseline=True),
    ]


def _full(name: str, tree: str, what: str, *, goal: float | None = None, level: int | None = None, encrypted: bool = False) -> Case:
    def argv(program: Program, source: Path) -> list[str]:
        extra = [f"--compression-level={level}"] if level is not None and program.name == "asyncdup" else []
        return full(program, source, program.base(kept), encrypted=encrypted, extra=extra)

    kept = name if level is not None or encrypted else tree  # the last one serves as base of the cases that follow
    return Case(
        name=name,
        what=what,
        tree=tree,
        goal=goal,
        prepare=lambda program: program.base(kept).clear(),
        argv=argv,
        check=lambda program, source, usage: usage.with_stored(program.base(kept).target),
    )


def full(program: Program, source: Path, store: Store, *, encrypted: bool = False, extra: list[str] | None = None) -> list[str]:
    """The command of a full backup into ``store``."""
    return [*program.command, "full", *store.options(encrypted=encrypted), *(extra or []), str(source), store.url]


def _incremental(name: str, tree: str, what: str, *, goal: float | None = None, change: str | None = None) -> Case:
    return Case(
        name=name,
        what=what,
        tree=tree,
        goal=goal,
        needs_base=True,
        change=change,
        prepare=lambda program: program.scratch.copy_from(program.base(tree)),
        argv=lambda program, source: [
            *program.command, "incremental", *program.scratch.options(), str(source), program.scratch.url
        ],
        check=lambda program, source, usage: usage.with_stored(program.scratch.target),
    )  # fmt: skip


def _restore(name: str, tree: str, what: str, *, goal: float | None = None, path: str = "") -> Case:
    def check(program: Program, source: Path, usage: Usage) -> Usage:
        same_tree(source / path, program.restored)
        program.turn_page()
        return usage

    part = [f"--path-to-restore={path}"] if path else []
    return Case(
        name=name,
        what=what,
        tree=tree,
        goal=goal,
        needs_base=True,
        argv=lambda program, source: [
            *program.command, "restore", *program.base(tree).options(), *part, program.base(tree).url, str(program.restored)
        ],
        check=check,
    )  # fmt: skip


def _verify(name: str, tree: str, what: str) -> Case:
    return Case(
        name=name,
        what=what,
        tree=tree,
        needs_base=True,
        argv=lambda program, source: [
            *program.command, "verify", *program.base(tree).options(), "--compare-data", program.base(tree).url, str(source)
        ],
    )  # fmt: skip


def _reading(name: str, tree: str, what: str, action: str) -> Case:
    return Case(
        name=name,
        what=what,
        tree=tree,
        needs_base=True,
        brief=True,
        argv=lambda program, source: [*program.command, action, *program.base(tree).options(), program.base(tree).url],
    )


def _version(program: Program, source: Path) -> list[str]:
    return [sys.executable, "-c", "pass"] if program.name == "python" else [*program.command, "--version"]
