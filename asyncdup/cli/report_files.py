"""What is said of files over time: ``history``, ``find`` and ``diff``, as lines for a person and as JSON. Pure."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from asyncdup.archive.versions import Difference
from asyncdup.commands.diff import DiffResult
from asyncdup.commands.entries import KINDS
from asyncdup.commands.find import FoundPath
from asyncdup.commands.history import HistoryResult
from asyncdup.formats.names import SetId, format_time
from asyncdup.formats.tar import Entry
from asyncdup.units import format_local_time

Sizes = tuple[int, int] | None

_TYPES = {"reg": stat.S_IFREG, "dir": stat.S_IFDIR, "sym": stat.S_IFLNK, "fifo": stat.S_IFIFO, "chr": stat.S_IFCHR, "blk": stat.S_IFBLK}


def history_lines(result: HistoryResult) -> Iterator[str]:
    """A table of versions, oldest first."""
    count = len(result.versions)
    yield f"{_path(result.path)}: {_count(count, 'version')} in {_count(result.sets, 'backup')}"
    yield f"  {'backup of':<24}  {'':<8}  {'mode':<10}  {'bytes':>17}  modified"
    for version in result.versions:
        yield f"  {format_local_time(version.set_id.end):<24}  {version.what:<8}  {_attributes(version.entry, version.sizes)}".rstrip()


def history_json(result: HistoryResult) -> str:
    """The same as one line of JSON."""
    versions = [_set(version.set_id) | {"what": version.what} | _entry(version.entry, version.sizes) for version in result.versions]
    return json.dumps({"v": 1, "path": _path(result.path), "backups": result.sets, "versions": versions})


def find_lines(found: Sequence[FoundPath], *, one_time: bool) -> Iterator[str]:
    """The paths with when they were seen first and last, or, of one time, with their attributes."""
    for each in found:
        if one_time:
            yield f"{_attributes(each.entry, each.sizes)}  {_path(each.path)}"
        else:
            last = "now" if each.live else format_local_time(each.last)
            yield f"{format_local_time(each.first):<24} - {last:<24}  {_count(each.versions, 'version'):>12}  {_path(each.path)}"


def find_json(found: Sequence[FoundPath]) -> str:
    """The same as one line of JSON."""
    return json.dumps(
        {
            "v": 1,
            "found": [
                {"path": _path(each.path), "first": each.first, "last": each.last, "live": each.live, "versions": each.versions}
                | _entry(each.entry, each.sizes)
                for each in found
            ],
        }
    )


def difference_line(difference: Difference) -> str:
    """One path, and of a changed one what of it."""
    what = f"  ({', '.join(_changes(difference))})" if difference.what == "changed" else ""
    return f"{difference.what:<8}  {_path(difference.path)}{what}"


def difference_json(difference: Difference) -> str:
    """One path as a line of JSON."""
    return json.dumps(
        {
            "path": _path(difference.path),
            "what": difference.what,
            "before": _entry(difference.before, difference.sizes_before) or None,
            "after": _entry(difference.after, difference.sizes_after) or None,
            "changed": _changes(difference) if difference.what == "changed" else [],
        }
    )


def diff_line(result: DiffResult) -> str:
    """The last line of a comparison."""
    before, after = format_local_time(result.before.end), format_local_time(result.after.end)
    return f"{result.new} new, {result.changed} changed, {result.deleted} deleted from {before} to {after}."


def diff_json(result: DiffResult) -> str:
    """The last line as JSON; those before it are differences."""
    counts = {"new": result.new, "changed": result.changed, "deleted": result.deleted}
    return json.dumps({"v": 1, "before": _set(result.before), "after": _set(result.after)} | counts)


def _attributes(entry: Entry | None, sizes: Sizes) -> str:
    if entry is None:
        return ""
    mode = stat.filemode(_TYPES.get(KINDS.get(entry.kind, ""), 0) | entry.mode)
    link = f"  -> {os.fsdecode(entry.link)}" if entry.link else ""
    return f"{mode:<10}  {_bytes(sizes):>17}  {format_local_time(max(0, entry.mtime))}{link}"


def _bytes(sizes: Sizes) -> str:
    """A signature tells the number of blocks, and so the size up to the last one."""
    if sizes is None:
        return ""
    return f"{sizes[1]:,}" if sizes[0] == sizes[1] else f"<= {sizes[1]:,}"


def _changes(difference: Difference) -> list[str]:
    """What differs, in words."""
    old, new = difference.before, difference.after
    if old is None or new is None:
        return []
    if old.kind != new.kind:
        return ["type"]
    pairs = {
        "size": (difference.sizes_before, difference.sizes_after),
        "content": (False, difference.content),
        "time": (old.mtime, new.mtime) if not new.link else (0, 0),
        "mode": (old.mode, new.mode),
        "owner": ((old.uid, old.gid, old.uname, old.gname), (new.uid, new.gid, new.uname, new.gname)),
        "target": (old.link, new.link),
        "device": (old.dev, new.dev),
    }
    return [name for name, (one, other) in pairs.items() if one != other]


def _entry(entry: Entry | None, sizes: Sizes) -> dict[str, Any]:
    if entry is None:
        return {}
    least, most = sizes or (None, None)
    return {
        "type": KINDS.get(entry.kind, ""),
        "mode": f"{entry.mode:04o}",
        "mtime": entry.mtime,
        "size_min": least,
        "size_max": most,
        "owner": os.fsdecode(entry.uname) or str(entry.uid),
        "group": os.fsdecode(entry.gname) or str(entry.gid),
        "target": os.fsdecode(entry.link) or None,
    }


def _set(set_id: SetId) -> dict[str, Any]:
    return {"time": set_id.end, "backup": format_time(set_id.end), "kind": "full" if set_id.is_full else "incremental"}


def _path(path: bytes) -> str:
    return os.fsdecode(path) or "."


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
