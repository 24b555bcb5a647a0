"""The local tree (and the signatures of the chain so far) -> batches of difftar members, signature members and file-list lines.

Synchronous; runs in a worker thread, one call per batch. What it holds: one directory listing per level (the walker), one file open,
about 2 MiB of data, and of signatures only that of the file now compared. Where volumes end is decided by ``pack``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from asyncdup.archive.signatures import SigMember
from asyncdup.archive.walk import Found
from asyncdup.events import Warning
from asyncdup.formats import difftar, rdiff, sigtar
from asyncdup.formats.tar import REG, Entry, key

READ = 1 << 20  # bytes a read: fewer Python steps per byte, and sixteen 64 KiB parts at once
MEMBER_OVERHEAD = 2048  # bytes: two header blocks of a part with a pax record, and padding
LARGEST_MEMBER = difftar.PART + MEMBER_OVERHEAD
TICK = 0.02  # seconds that the times which the kernel gives to files may be behind the clock

MOST_LOOKED_AT = 5000  # files whose attributes are asked for: of all of them it would cost a full backup of small files 3 %

Verb = Literal["snapshot", "diff"]
Change = Literal["new", "changed", "deleted"]
_list_attributes: Callable[[int], list[str]] = getattr(os, "listxattr", lambda descriptor: [])  # Linux has it


class Bound(NamedTuple):
    """One end of a volume: the path and, inside a split file unless it is its last part, the number of the part (format, section 3)."""

    path: bytes
    block: int | None


class Cut(NamedTuple):
    """The file that a volume ends inside of: its last part in the volume and the stat that tells whether it has changed since (P2)."""

    path: bytes
    block: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Member(NamedTuple):
    """Bytes that may not be divided further, and what goes into the side files once they are in a volume."""

    data: bytes
    first: Bound
    last: Bound
    signature: bytes = b""
    line: bytes = b""
    cut: Cut | None = None


class Batch(NamedTuple):
    """Members that go into the volume together."""

    data: bytes
    first: Bound
    last: Bound
    cut: Cut | None


class CutFileChanged(Exception):
    """The file that the last stored volume ends inside of is not as it was: its volumes must be made again (P2)."""


class Walk(Protocol):
    """What the producer needs of a walker."""

    lost: deque[bytes]  # paths that may be there and could not be looked at; taken by who reads it

    def __iter__(self) -> Iterator[Found]: ...
    def open(self, found: Found) -> int: ...


@dataclass(slots=True)
class Counts:
    """Totals for the closing statistics (format, section 21).

    ``hard_links``: regular files of this set that have other names, too; ``attributes``: those of the first ``looked_at`` that have extended
    attributes (ACLs are some of them). The format has no place for either (section 11).
    """

    source_files: int = 0
    source_size: int = 0
    new_files: int = 0
    new_size: int = 0
    deleted_files: int = 0
    changed_files: int = 0
    changed_size: int = 0
    delta_size: int = 0
    raw_delta_size: int = 0
    errors: int = 0
    hard_links: int = 0
    attributes: int = 0
    looked_at: int = 0

    @property
    def delta_entries(self) -> int:
        """Entries written to the set."""
        return self.new_files + self.changed_files + self.deleted_files


class Producer:
    """Compares the walk with the signatures so far and makes the members of the set.

    Args:
        walk: the entries to be backed up, in archive order.
        old: live members of the chain's signatures in archive order; empty for a full backup.
        same_owner: whether an archived entry has the owner of a live one (by name where known here, format section 11).
        signature_out, files_out: take the bytes of the signature archive and of the manifest's file list, in order.
        now: seconds since the epoch; a file modified within the second it is read in is looked at again next time (P13).
        cut: where to go on inside a file when a run is resumed.
        on_entry: told of each entry that goes into the set: new, changed or deleted.
    """

    def __init__(
        self,
        walk: Walk,
        old: Iterator[SigMember],
        *,
        same_owner: Callable[[Entry, Entry], bool],
        signature_out: Callable[[bytes], None],
        files_out: Callable[[bytes], None],
        file_line: Callable[[str, bytes], bytes],
        on_warning: Callable[[Warning], None],
        now: Callable[[], float],
        max_blocksize: int = 0,
        cut: Cut | None = None,
        on_entry: Callable[[Change, Entry], None] | None = None,
    ) -> None:
        self.counts = Counts()
        self._walk = walk
        self._old = old
        self._same_owner = same_owner
        self._signature_out = signature_out
        self._files_out = files_out
        self._file_line = file_line
        self._on_warning = on_warning
        self._now = now
        self._looked = now()  # before the present entry was looked at
        self._max_blocksize = max_blocksize
        self._cut = cut
        self._on_entry = on_entry
        self._room = READ
        self._held: Member | None = None
        self._members = self._merge()

    def next_batch(self, limit: int) -> Batch | None:
        """At most ``limit`` bytes of members, at least one member; None when the tree is done. ``limit`` must be LARGEST_MEMBER or more."""
        parts: list[bytes] = []
        signatures: list[bytes] = []
        lines: list[bytes] = []
        size, first, last, cut = 0, None, None, None
        while True:
            member = self._held
            if member is None:
                self._room = limit - size
                member = next(self._members, None)
                if member is None:
                    break
            if size + len(member.data) > limit and parts:
                self._held = member
                break
            self._held = None
            parts.append(member.data)
            size += len(member.data)
            first = first or member.first
            last, cut = member.last, member.cut
            signatures.append(member.signature)
            lines.append(member.line)
            if size >= limit - 1024:
                break
        self._signature_out(b"".join(signatures))
        self._files_out(b"".join(lines))
        return Batch(b"".join(parts), first, last, cut) if first and last else None

    def begin(self) -> None:
        """Make the first member now, so that CutFileChanged is raised before anything is done upon what was cut."""
        if self._held is None:
            self._room = LARGEST_MEMBER
            self._held = next(self._members, None)

    def close(self) -> None:
        """Release the open file and folders."""
        self._members.close()

    # The merge: both sides are in archive order, so one entry of each is enough to know what became of a path.

    def _merge(self) -> Generator[Member, None, None]:
        old = next(self._old, None)
        old_key = key(old.entry.path) if old else None
        for found in self._walk:
            entry = found.entry
            if self._cut is not None and entry.path != self._cut.path:
                raise CutFileChanged
            here = entry.path.replace(b"/", b"\0")
            while old_key is not None and old_key < here:
                yield from self._gone(old)  # type: ignore[arg-type]
                old = next(self._old, None)
                old_key = old.entry.path.replace(b"/", b"\0") if old else None
            before = None
            if old_key == here:
                before = old
                old = next(self._old, None)
                old_key = old.entry.path.replace(b"/", b"\0") if old else None
            self.counts.source_files += 1
            self.counts.source_size += entry.size
            if before is None or not self._unchanged(before, entry):
                yield from self._entry(found, before)
            self._looked = self._now()
        if self._cut is not None:
            raise CutFileChanged
        while old is not None:
            yield from self._gone(old)
            old = next(self._old, None)

    def _unchanged(self, before: SigMember, entry: Entry) -> bool:
        was = before.entry
        kind = entry.kind
        if was.kind != kind or (before.verb == "signature") != (kind == REG):
            return False
        if kind in b"056":
            return was.mtime == entry.mtime and was.mode == entry.mode and self._same_owner(was, entry)
        if kind == b"2":
            return was.link == entry.link
        return was.mode == entry.mode and was.dev == entry.dev and self._same_owner(was, entry)

    def _gone(self, old: SigMember) -> Iterator[Member]:
        """It was in the chain and was not met. What could not be looked at is not taken for deleted: the chain keeps it as it was (P13)."""
        path = old.entry.path
        if self._is_lost(path):
            return
        self.counts.deleted_files += 1
        if self._on_entry is not None:
            self._on_entry("deleted", old.entry)
        line = self._file_line("deleted", path) if old.verb == "signature" else b""
        bound = Bound(path, None)
        yield Member(difftar.deleted(path), bound, bound, sigtar.deleted(path), line)

    def _is_lost(self, path: bytes) -> bool:
        lost, here = self._walk.lost, key(path)
        while lost:
            if path == lost[0] or path.startswith(lost[0] + b"/"):
                return True
            if key(lost[0]) > here:
                break
            lost.popleft()  # both sides go in archive order: what was below it has been passed
        return False

    def _entry(self, found: Found, before: SigMember | None) -> Iterator[Member]:
        entry = found.entry
        if entry.kind != REG:
            bound = Bound(entry.path, None)
            self._count(entry, new=before is None)
            yield Member(difftar.snapshot(entry), bound, bound, sigtar.snapshot(entry))
            return
        old_signature = before.signature if before is not None and before.verb == "signature" else None
        if entry.size == 0 and old_signature is None and self._cut is None:  # most empty files are never opened
            self.counts.hard_links += found.stat.st_nlink > 1
            yield self._whole(found, b"", b"", new=True, changed=False)
            return
        try:
            descriptor = self._walk.open(found)
        except OSError as error:
            self._unreadable(entry, error)
            return
        self.counts.hard_links += found.stat.st_nlink > 1
        if self.counts.looked_at < MOST_LOOKED_AT:
            self.counts.looked_at += 1
            self.counts.attributes += _has_attributes(descriptor)
        try:
            yield from self._file(found, descriptor, old_signature)
        finally:
            os.close(descriptor)

    def _file(self, found: Found, descriptor: int, old_signature: bytes | None) -> Iterator[Member]:
        size = found.stat.st_size
        if size < difftar.PART and self._cut is None:
            try:
                data = os.read(descriptor, size) if size else b""
            except OSError as error:
                self._unreadable(found.entry, error)
                return
            content = data if old_signature is None else _delta(old_signature, data)
            if len(content) < difftar.PART:
                changed = self._changed(found, descriptor, len(data))
                yield self._whole(found, data, content, new=old_signature is None, changed=changed)
                return
            os.lseek(descriptor, 0, os.SEEK_SET)
        yield from self._split(found, descriptor, old_signature)

    def _whole(self, found: Found, data: bytes, content: bytes, *, new: bool, changed: bool) -> Member:
        entry = found.entry
        self._count(entry, new=new, raw=len(content))
        signature = rdiff.sign(data, self._block_length(found.stat.st_size))
        recorded = self._recorded(entry, changed)
        if new and recorded is entry:
            body, signed = difftar.pair(entry, content, signature)
        else:
            body = difftar.snapshot(entry, content) if new else difftar.diff(entry, content)
            signed = sigtar.signature(recorded, signature)
        bound = Bound(entry.path, None)
        return Member(body, bound, bound, signed, self._file_line("new" if new else "changed", entry.path))

    def _split(self, found: Found, descriptor: int, old_signature: bytes | None) -> Iterator[Member]:
        entry, stat, new = found.entry, found.stat, old_signature is None
        skip = self._parts_stored(found)
        verb: Verb = "snapshot" if new else "diff"
        number, sent, rest = 1, 0, b""
        with closing(_Stream(descriptor, stat.st_size, self._block_length(stat.st_size), old_signature)) as source:
            for run, rest in source.runs(self._parts_that_fit):  # noqa: B007 - the last rest is the last part
                count = len(run) // difftar.PART
                fresh, last = max(number, skip + 1), number + count - 1
                if fresh <= last:
                    body = difftar.multivol_run(verb, entry, fresh, run[(fresh - number) * difftar.PART :])
                    cut = Cut(entry.path, last, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                    yield Member(body, Bound(entry.path, fresh), Bound(entry.path, last), cut=cut)
                number, sent = last + 1, sent + len(run)
            self._count(entry, new=new, raw=sent + len(rest))
            changed = self._cut_short(entry, source.error) if source.error else self._changed(found, descriptor, source.read)
            recorded = self._recorded(entry, changed)
            signature = sigtar.signature(recorded, source.signature())
            if number > 1:
                body = difftar.multivol(verb, entry, number, rest)
            else:
                body = difftar.snapshot(entry, rest) if new else difftar.diff(entry, rest)
            bound = Bound(entry.path, None)
            yield Member(body, bound, bound, signature, self._file_line("new" if new else "changed", entry.path))

    def _parts_that_fit(self) -> int:
        room = (self._room - MEMBER_OVERHEAD) // (difftar.PART + 1536)
        return max(1, min(room, READ // difftar.PART))

    # What is decided on the way.

    def _parts_stored(self, found: Found) -> int:
        """How many parts of this file are in stored volumes already (P2)."""
        cut, stat = self._cut, found.stat
        if cut is None:
            return 0
        self._cut = None
        if (cut.size, cut.mtime_ns, cut.ctime_ns, cut.inode) != (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino):
            raise CutFileChanged
        return cut.block

    def _block_length(self, size: int) -> int:
        return rdiff.block_length(size, self._max_blocksize)

    def _recorded(self, entry: Entry, changed: bool) -> Entry:
        """The entry for the signatures: a second older where the next run must look again (P13)."""
        if changed or entry.mtime >= int(self._looked - TICK):
            return entry._replace(mtime=max(0, entry.mtime - 1))
        return entry

    def _changed(self, found: Found, descriptor: int, read: int) -> bool:
        before, after = found.stat, os.fstat(descriptor)
        if read == before.st_size and after.st_mtime_ns == before.st_mtime_ns and after.st_ctime_ns == before.st_ctime_ns:
            return False
        path = os.fsdecode(found.entry.path)
        self._on_warning(Warning(message=f"{path} changed while it was read; the next backup looks at it again", code=10, path=path))
        self.counts.errors += 1
        return True

    def _unreadable(self, entry: Entry, error: OSError) -> None:
        path = os.fsdecode(entry.path)
        self.counts.errors += 1
        self._on_warning(Warning(message=f"{path} could not be read and is not in this backup: {error.strerror}", code=10, path=path))

    def _cut_short(self, entry: Entry, error: OSError) -> bool:
        path = os.fsdecode(entry.path)
        self.counts.errors += 1
        self._on_warning(Warning(message=f"{path} could be read only in part: {error.strerror}", code=10, path=path))
        return True

    def _count(self, entry: Entry, *, new: bool, raw: int = 0) -> None:
        counts = self.counts
        if self._on_entry is not None:
            self._on_entry("new" if new or entry.kind != REG else "changed", entry)  # as stock says of what it stores anew
        counts.raw_delta_size += raw
        if new:
            counts.new_files += 1
            counts.new_size += entry.size
        else:
            counts.changed_files += 1
            counts.changed_size += entry.size
            counts.delta_size += raw


def _has_attributes(descriptor: int) -> bool:
    """Whether a file has what the format does not keep. SELinux's labels do not count: its policy sets them again."""
    try:
        return _list_attributes(descriptor) not in ([], ["security.selinux"])
    except OSError:
        return False  # this file system has none


class _Stream:
    """One open file as the content of its members: the bytes themselves, or their delta against an old signature. Signs what it reads.

    Reads ``size`` bytes at most: what is appended meanwhile belongs to the next backup.
    """

    def __init__(self, descriptor: int, size: int, block_length: int, old_signature: bytes | None) -> None:
        self.read = 0
        self.error: OSError | None = None
        self._descriptor = descriptor
        self._left = size
        self._signer = rdiff.Signer(block_length)
        self._signature: list[bytes] = []
        self._delta = rdiff.DeltaWriter(old_signature) if old_signature is not None else None
        self._rest = b""  # made and not yet taken
        self._done = False

    def runs(self, parts_that_fit: Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
        """(whole parts, what follows them): the second is empty but at the end, where it is shorter than a part."""
        done = False
        while not done:
            wanted = parts_that_fit() * difftar.PART
            data = self._take(wanted)
            done = len(data) < wanted
            whole = len(data) // difftar.PART * difftar.PART
            yield data[:whole], data[whole:]

    def signature(self) -> bytes:
        """The signature of all that was read. Call once, at the end."""
        return b"".join([*self._signature, self._signer.finish()])

    def close(self) -> None:
        """Free the delta's tables."""
        if self._delta is not None:
            self._delta.close()

    def _take(self, wanted: int) -> bytes:
        """The next ``wanted`` bytes, fewer at the end. Of a new file they are mostly what one read gave, and never copied here."""
        pieces, held = [self._rest], len(self._rest)
        while held < wanted and not self._done:
            pieces.append(self._next(wanted - held))
            held += len(pieces[-1])
        data = b"".join(filter(None, pieces))
        self._rest = data[wanted:]
        return data[:wanted]

    def _next(self, wanted: int) -> bytes:
        data = self._read(READ if self._delta is not None else wanted)
        if not data:
            self._done = True
            return self._delta.finish() if self._delta is not None else b""
        self.read += len(data)
        self._left -= len(data)
        self._signature.append(self._signer.feed(data))
        return self._delta.feed(data) if self._delta is not None else data

    def _read(self, wanted: int) -> bytes:
        try:
            return os.read(self._descriptor, min(wanted, self._left)) if self._left else b""
        except OSError as error:
            self.error = error  # what was read before it is a readable prefix, and is signed as such (P13)
            return b""


def _delta(old_signature: bytes, data: bytes) -> bytes:
    with closing(rdiff.DeltaWriter(old_signature)) as writer:
        return writer.feed(data) + writer.finish()
