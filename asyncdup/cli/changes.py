"""What ``collection-status`` says of changed files: records -> lines, as stock duplicity lays them out. Pure.

Source: observed, duplicity 3.2.1. Names are shown as they are, where stock shows the quoting of the manifest, or Python's of bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from asyncdup.commands.changes import SetChanges
from asyncdup.formats.names import format_time
from asyncdup.units import format_local_time

_RULE = "-------------------------"


def set_lines(changes: SetChanges) -> Iterator[str]:
    """``--show-changes-in-set``: the files of one set."""
    files = [(os.fsdecode(path), kind) for kind, path in changes.files]
    width = max([len(path) for path, _ in files], default=5)
    width = max(width, 5)
    yield _RULE
    yield f" Backup set time: {format_local_time(changes.backup_set.end)}"
    yield f"Total number of changes: {len(files)}"
    yield f"{'File:':<{width}}  {'Type of file change:':>20}"
    yield from (f"{path:<{width}}  {kind:>20}" for path, kind in files)
    yield _RULE


def file_lines(path: str, found: Sequence[SetChanges]) -> Iterator[str]:
    """``--file-changed``: the sets that hold one file."""
    wanted = os.fsencode(path).strip(b"/")
    sets = [(changes.backup_set, kind) for changes in found for kind, each in changes.files if each == wanted]
    yield _RULE
    yield f"File: {path}"
    yield f"Total number of backup: {len(sets)}"
    yield f"{'Type of backup set:':>20}   {'Time:':>30}  {'Type of file change:':>20}"
    for backup_set, kind in sets:
        type_ = "Full" if backup_set.is_full else "Incremental"
        yield f"{type_:>20}   {format_local_time(backup_set.end):>30}  {kind.title():>20}"
    yield _RULE


def changes_json(found: Sequence[SetChanges]) -> str:
    """``--show-changes-in-set N --jsonstat``: statistics and files of the sets, newest first."""
    record = {
        f"{changes.backup_set.id.type}-{format_time(changes.backup_set.end)}": {
            "json_stat": _record(changes.statistics),
            "files_changed": {os.fsdecode(path): kind for kind, path in changes.files},
        }
        for changes in reversed(found)
    }
    return json.dumps(record, indent=4)


def _record(statistics: str | None) -> object:
    try:
        return json.loads(statistics) if statistics is not None else {}
    except ValueError:
        return {}
