"""Backup sets in ``--json``. Pure."""

from __future__ import annotations

from typing import Any

from asyncdup.archive.chains import BackupSet
from asyncdup.cli.json_output import iso_time
from asyncdup.formats.names import SetId


def id_json(set_id: SetId) -> dict[str, Any]:
    """Which backup: its type and the time that it restores."""
    return {"type": "full" if set_id.is_full else "incremental", "time": iso_time(set_id.end)}


def set_json(backup_set: BackupSet) -> dict[str, Any]:
    """The same with what it takes at the target; ``size`` in bytes."""
    return id_json(backup_set.id) | {
        "volumes": len(backup_set.volumes),
        "size": backup_set.size,
        "encrypted": backup_set.encrypted,
    }
