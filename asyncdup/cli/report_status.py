"""What ``collection-status`` has found -> JSON. Pure; the lines for a person are in ``dispatch``."""

from __future__ import annotations

import json
from typing import Any

from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.formats.names import format_time


def status_json(collection: Collection) -> str:
    """One object: ``chains``, oldest first, each with its sets; ``warnings``, as people read them. Times are the format's (UTC), sizes bytes."""
    found = {"chains": [_chain(chain, collection) for chain in collection.chains], "warnings": list(collection.warnings())}
    return json.dumps(found, indent=2, ensure_ascii=True)


def _chain(chain: Chain, collection: Collection) -> dict[str, Any]:
    return {
        "newest": chain is collection.newest_chain,
        "sets": [_set(each) for each in chain.sets],
        "defects": [str(defect) for defect in chain.defects],
    }


def _set(each: BackupSet) -> dict[str, Any]:
    return {
        "type": "full" if each.is_full else "incremental",
        "time": format_time(each.end),
        "volumes": len(each.volumes),
        "size": each.size,
        "encrypted": each.encrypted,
    }
