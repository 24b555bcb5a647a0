"""The statistics of a backup as stock duplicity's ``--jsonstat`` writes them, beside the set and on the screen. Pure.

Source: observed, duplicity 3.2.1 (format specification, section 22; fixture prefixes-jsonstat). One figure differs on purpose: stock always
writes null for ``TotalDestinationSizeChange``, we write the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from asyncdup.archive.chains import Chain
from asyncdup.archive.statistics import Statistics
from asyncdup.formats.names import SetId, format_time

NOT_THERE = "N/A"  # what stock says of a set without local statistics
MAX_SIZE = 1 << 20  # bytes of a statistics file that a reader takes


def jsonstat(
    statistics: Statistics,
    set_id: SetId,
    base: Chain | None,
    *,
    skipped: bool,
    concurrency: int,
    target: str,
    source: str,
    local: Sequence[str | None],
) -> str:
    """The text of the file.

    ``base``: the chain before this set, None for a full. ``skipped``: nothing had changed and nothing was stored. ``target``: without
    a password. ``local``: of each set of the chain the name of its local statistics.
    """
    full = base.start if base is not None else set_id.end
    record: dict[str, Any] = {
        "Filename": None,
        "StartTime": statistics.start_time,
        "EndTime": statistics.end_time,
        "ElapsedTime": statistics.elapsed_time,
        "Errors": statistics.errors,
        "TotalDestinationSizeChange": statistics.total_destination_size_change,
        "SourceFiles": statistics.source_files,
        "SourceFileSize": statistics.source_file_size,
        "NewFiles": statistics.new_files,
        "NewFileSize": statistics.new_file_size,
        "DeletedFiles": statistics.deleted_files,
        "ChangedFiles": statistics.changed_files,
        "ChangedFileSize": statistics.changed_file_size,
        "ChangedDeltaSize": statistics.changed_delta_size,
        "DeltaEntries": statistics.delta_entries,
        "RawDeltaSize": statistics.raw_delta_size,
        "StartTime_str": format_time(int(statistics.start_time)),
        "EndTime_str": format_time(int(statistics.end_time)),
        "backup_meta": {
            "action": set_id.type,
            "skipped_inc": skipped,
            "time_full_bkp": full,
            "time_full_bkp_str": format_time(full),
            "no_of_inc": len(base.sets) - 1 if base is not None else 0,
            "concurrency": concurrency,
            "target": target,
            "source": source,
            "local_json_stat": [name or NOT_THERE for name in local] or [NOT_THERE],
        },
    }
    return json.dumps(record, indent=4)
