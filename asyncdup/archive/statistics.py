"""The closing figures of a backup, as stock duplicity counts them (format specification, section 21)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What one backup found and wrote. Sizes in bytes, times in seconds since the epoch.

    Attributes:
        source_files, source_file_size: everything selected, folders included.
        new_files, changed_files, deleted_files: entries, against the backup before.
        changed_delta_size: the bytes written for changed files.
        delta_entries: members of the set: new, changed and deleted.
        raw_delta_size: the bytes written for regular files, before compression.
        total_destination_size_change: stored bytes of the volumes.
        errors: files that could not be read.
    """

    start_time: float
    end_time: float
    source_files: int = 0
    source_file_size: int = 0
    new_files: int = 0
    new_file_size: int = 0
    deleted_files: int = 0
    changed_files: int = 0
    changed_file_size: int = 0
    changed_delta_size: int = 0
    delta_entries: int = 0
    raw_delta_size: int = 0
    total_destination_size_change: int = 0
    errors: int = 0

    @property
    def elapsed_time(self) -> float:
        """Seconds from start to end."""
        return self.end_time - self.start_time
