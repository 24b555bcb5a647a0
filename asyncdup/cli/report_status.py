"""What ``collection-status`` has found -> lines for a person, or JSON. Pure; what it says of changed files for a person is in ``changes``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.cli.json_output import path_named, record_line
from asyncdup.cli.report_sets import set_json
from asyncdup.commands.changes import SetChanges
from asyncdup.units import format_local_time


def status_lines(collection: Collection) -> Iterator[str]:
    """The chains as a person reads them."""
    newest = collection.newest_chain
    last_full = max((chain.start for chain in collection.chains), default=None)
    yield f"Last full backup: {format_local_time(last_full) if last_full is not None else 'none'}"
    for chain in collection.chains:
        yield ""
        yield from _chain_lines(chain, "newest chain" if chain is newest else "chain")
    yield ""
    yield from collection.warnings() or ["No unfinished or orphaned backup sets found."]


def status_json(collection: Collection) -> str:
    """``chains``, oldest first, each with its sets; ``warnings``, as people read them."""
    chains = [_chain_json(chain, collection) for chain in collection.chains]
    return record_line("collection-status", {"chains": chains, "warnings": list(collection.warnings())})


def changes_json_lines(found: Sequence[SetChanges], wanted: bytes | None = None) -> Iterator[str]:
    """``--show-changes-in-set``, or with ``wanted`` ``--file-changed``: the sets, and the files that each has new, changed or deleted."""
    sets = [
        set_json(changes.backup_set)
        | {"files": [path_named(path) | {"what": what} for what, path in changes.files if wanted is None or path == wanted]}
        for changes in found
    ]
    yield record_line("collection-status", {"sets": [each for each in sets if wanted is None or each["files"]]})


def _chain_json(chain: Chain, collection: Collection) -> dict[str, Any]:
    return {
        "newest": chain is collection.newest_chain,
        "sets": [set_json(each) for each in chain.sets],
        "defects": [str(defect) for defect in chain.defects],
    }


def _chain_lines(chain: Chain, what: str) -> Iterator[str]:
    increments = len(chain.sets) - 1
    volumes = sum(len(each.volumes) for each in chain.sets)
    yield f"{what}: a full backup and {increments} incremental{'' if increments == 1 else 's'}, {volumes} volume{'' if volumes == 1 else 's'}"
    yield f"  {'type':<12} {'time':<25} {'volumes':>7} {'size':>12}"
    for each in chain.sets:
        yield _set_line(each)
    for defect in chain.defects:
        yield f"  {defect}"


def _set_line(each: BackupSet) -> str:
    kind = "full" if each.is_full else "incremental"
    encrypted = "  encrypted" if each.encrypted else ""
    return f"  {kind:<12} {format_local_time(each.end):<25} {len(each.volumes):>7} {each.size:>12,}{encrypted}"
