"""What is said of files: ``list-current-files``, ``history``, ``find`` and ``diff``, as lines for a person and as JSON. Pure."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from asyncdup.archive.versions import Difference
from asyncdup.cli.json_output import iso_time, item_line, named, path_named, record_line
from asyncdup.cli.report_sets import id_json
from asyncdup.commands.diff import DiffResult
from asyncdup.commands.entries import KINDS
from asyncdup.commands.find import FoundPath
from asyncdup.commands.history import HistoryResult
from asyncdup.formats.names import SetId
from asyncdup.formats.tar import Entry
from asyncdup.units import format_local_time

Sizes = tuple[int, int] | None

_TYPES = {"reg": stat.S_IFREG, "dir": stat.S_IFDIR, "sym": stat.S_IFLNK, "fifo": stat.S_IFIFO, "chr": stat.S_IFCHR, "blk": stat.S_IFBLK}


def file_line(entry: Entry) -> str:
    """One file of a backup, as duplicity lists it."""
    return f"{format_local_time(entry.mtime)} {_path(entry.path)}"


def file_json(entry: Entry) -> str:
    """One file of a backup, without its size: of that only the signature itself tells, which a listing passes over."""
    return item_line(path_named(entry.path) | _attributes_json(entry))


def files_json(set_id: SetId) -> str:
    """The last line of a listing."""
    return record_line("list-current-files", {"backup": id_json(set_id)})


def history_lines(result: HistoryResult) -> Iterator[str]:
    """A table of versions, oldest first."""
    count = len(result.versions)
    yield f"{_path(result.path)}: {_count(count, 'version')} in {_count(result.sets, 'backup')}"
    yield f"  {'backup of':<24}  {'':<8}  {'mode':<10}  {'bytes':>17}  modified"
    for version in result.versions:
        yield f"  {format_local_time(version.set_id.end):<24}  {version.what:<8}  {_attributes(version.entry, version.sizes)}".rstrip()


def history_json(result: HistoryResult) -> str:
    """The same as one line of JSON."""
    versions = [
        {"backup": id_json(version.set_id), "what": version.what} | _entry_json(version.entry, version.sizes) for version in result.versions
    ]
    return record_line("history", path_named(result.path) | {"backups": result.sets, "versions": versions})


def find_lines(found: Sequence[FoundPath], *, one_time: bool) -> Iterator[str]:
    """The paths with when they were seen first and last, or, of one time, with their attributes."""
    for each in found:
        if one_time:
            yield f"{_attributes(each.entry, each.sizes)}  {_path(each.path)}"
        else:
            last = "now" if each.live else format_local_time(each.last)
            yield f"{format_local_time(each.first):<24} - {last:<24}  {_count(each.versions, 'version'):>12}  {_path(each.path)}"


def find_json_lines(found: Sequence[FoundPath]) -> Iterator[str]:
    """The same, a line for each path; the last one says how many there are."""
    for each in found:
        seen = {"first": iso_time(each.first), "last": iso_time(each.last), "live": each.live, "versions": each.versions}
        yield item_line(path_named(each.path) | seen | _entry_json(each.entry, each.sizes))
    yield record_line("find", {"found": len(found)})


def difference_line(difference: Difference) -> str:
    """One path, and of a changed one what of it."""
    what = f"  ({', '.join(_changes(difference))})" if difference.what == "changed" else ""
    return f"{difference.what:<8}  {_path(difference.path)}{what}"


def difference_json(difference: Difference) -> str:
    """One path as a line of JSON."""
    return item_line(
        path_named(difference.path)
        | {
            "what": difference.what,
            "before": _entry_json(difference.before, difference.sizes_before) or None,
            "after": _entry_json(difference.after, difference.sizes_after) or None,
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
    return record_line("diff", {"before": id_json(result.before), "after": id_json(result.after)} | counts)


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


def _entry_json(entry: Entry | None, sizes: Sizes) -> dict[str, Any]:
    if entry is None:
        return {}
    least, most = sizes or (None, None)
    return _attributes_json(entry) | {"size_min": least, "size_max": most}


def _attributes_json(entry: Entry) -> dict[str, Any]:
    attributes = {
        "type": KINDS.get(entry.kind, ""),
        "mode": f"{entry.mode:04o}",
        "mtime": iso_time(entry.mtime),
        "owner": os.fsdecode(entry.uname) or str(entry.uid),
        "group": os.fsdecode(entry.gname) or str(entry.gid),
    }
    return attributes | (named("target", entry.link) if entry.link else {})


def _path(path: bytes) -> str:
    return os.fsdecode(path) or "."


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
