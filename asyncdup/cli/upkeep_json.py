"""Removals, cleanups, checks and locks as ``--json`` has them: results -> lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from asyncdup.archive.chains import BackupSet
from asyncdup.archive.lock import Holder
from asyncdup.archive.retention import Removal
from asyncdup.cli.json_output import iso_time, record_line
from asyncdup.cli.report_sets import set_json
from asyncdup.commands.check import CheckResult
from asyncdup.commands.cleanup import CleanupResult
from asyncdup.commands.leftovers import Leftover
from asyncdup.commands.remove import PruneResult, RemoveResult
from asyncdup.commands.unlock import UnlockResult


def removal_json(command: str, result: RemoveResult) -> str:
    """What went, or with ``done`` false would go, and what stays although it is old."""
    kept = {"newest_is_old": result.removal.active_is_old, "needed": _sets(result.removal.dependent)}
    return record_line(command, {"done": result.done} | _going(result.removal) | kept)


def prune_json(result: PruneResult) -> str:
    """The same, and which rules keep the others."""
    kept = [set_json(each) | {"rules": list(words)} for each, words in result.thinning.kept]
    needed = _sets(result.removal.dependent)
    return record_line("prune", {"done": result.done, "kept": kept, "needed": needed} | _going(result.removal))


def cleanup_json(result: CleanupResult) -> str:
    """What went, or would go; what stays because a backup goes on with it."""
    return record_line(
        "cleanup",
        {
            "done": result.done,
            "unfinished": _sets(result.unfinished),
            "orphaned": _sets(result.orphaned),
            "names": result.names,
            "others": [_leftover(each) for each in result.others],
            "resumable": _sets(result.resumable),
            "resumable_uploads": [_leftover(each) for each in result.uploads],
        },
    )


def check_json(result: CheckResult) -> str:
    """Damage and remarks, and how much was looked at."""
    return record_line(
        "check",
        {
            "ok": not result.damage,
            "sets": result.sets,
            "volumes": result.volumes,
            "read": result.read,
            "sampled": result.sampled,
            "repaired": list(result.repaired),
            "repairable": list(result.repairable),
            "findings": [asdict(finding) for finding in result.findings],
        },
    )


def unlock_json(result: UnlockResult) -> str:
    """Who holds the target, or held it."""
    return record_line("unlock", {"done": result.removed, "holders": [_holder(each) for each in result.holders]})


def _going(removal: Removal) -> dict[str, Any]:
    return {"removed": _sets(reversed(removal.sets)), "files": len(removal.names), "size": removal.size}


def _sets(sets: Iterable[BackupSet]) -> list[dict[str, Any]]:
    return [set_json(each) for each in sets]


def _leftover(each: Leftover) -> dict[str, Any]:
    return {"kind": each.kind, "name": each.name, "size": each.size, "since": None if each.since is None else iso_time(each.since)}


def _holder(each: Holder) -> dict[str, Any]:
    times = {name: iso_time(t) if t else None for name, t in (("started", each.started), ("refreshed", each.refreshed))}
    return {"run": each.command, "host": each.host, "pid": each.pid} | times
