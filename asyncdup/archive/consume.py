"""The backup sets of a chain, merged by path -> entries as they were at the time of the last one (format specification, section 17).

Push: the merger says which set it needs bytes of, whoever has them feeds them. Synchronous; runs in a worker thread. It holds the pieces
of one feed for each set and what ``patch`` holds of the file now made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Final, Protocol

from asyncdup.archive.patch import Base, Patch
from asyncdup.errors import NO_SPACE, FormatError, exit_code_of
from asyncdup.formats.difftar import Bound, DifftarReader, Piece
from asyncdup.formats.tar import REG, Entry

Needs = Generator[int, None, None]  # yields the index of the set that must be fed before it can go on


class FileSink(Protocol):
    """Takes the content of one regular file. Either ``close`` or ``abort`` is called, once."""

    def write(self, data: bytes) -> None:
        """The next bytes."""

    def close(self) -> None:
        """All bytes were written, as archived."""

    def abort(self) -> None:
        """The content cannot be had, or only in part; the problem was reported."""


class Sink(Protocol):
    """Takes entries in archive order. Problems of its own are its to report: only what ends everything is raised."""

    def simple(self, entry: Entry) -> None:
        """A folder, symlink, fifo or device."""

    def file(self, entry: Entry) -> FileSink:
        """A regular file; its content follows, before the next entry. ``entry.size`` says nothing here."""

    def finish(self) -> None:
        """There are no more entries."""


class Merger:
    """Merges the sets of one chain, given oldest first, into ``sink``.

    Usage: while ``needs()`` gives a set, feed it its next bytes, or say that a volume or the set is over; then ``finish``.
    A FormatError of a feed means that the bytes of that set are not readable any further: the merge cannot go on. What concerns one path
    only (a delta without or of another base, a missing part) is reported instead, and nothing is written for that path (P3, P4).

    Args:
        sink: takes what comes out.
        sets: number of sets.
        prefix: only this path and what is below it, given to the sink as if it were the root.
        select: whether an entry, as of the last set (and with its path in the archive), is wanted; None takes everything.
        since: index of a set: only paths that it or a later one names. on_deleted: told of those that the last one to name them deletes.
        on_volume: told of each volume that was read to its end: the index of its set, and what it begins and ends with.
        on_superseded: told of each regular file that a later set has another version of, with the index of its set; takes the content that it
            had. None: what is not needed for the last version is not looked at.
        tempdir: for files between two deltas.
        on_problem: told of the path in the archive and what is wrong.
    """

    def __init__(
        self,
        sink: Sink,
        sets: int,
        *,
        prefix: bytes = b"",
        select: Callable[[Entry], bool] | None = None,
        since: int = 0,
        on_deleted: Callable[[bytes], None] | None = None,
        on_volume: Callable[[int, tuple[Bound, Bound] | None], None] | None = None,
        on_superseded: Callable[[int, Entry], FileSink] | None = None,
        tempdir: Path,
        on_problem: Callable[[bytes, str], None],
    ) -> None:
        self.entries = 0  # handed to the sink
        self.without_room = 0  # problems for want of room in ``tempdir``
        self._sink = sink
        self._prefix = prefix
        self._below = prefix + b"/"
        self._select = select
        self._since = since
        self._on_deleted = on_deleted
        self._on_volume = on_volume
        self._on_superseded = on_superseded
        self._tempdir = tempdir
        self._problem = on_problem
        self._sources = [_Source(index) for index in range(sets)]
        self._work = self._merge()
        self._needed: int | None = None
        self._go_on()

    def needs(self) -> int | None:
        """The set that must be fed next; None when all are read."""
        return self._needed

    def feed(self, index: int, data: bytes) -> None:
        """The next bytes of the present volume of set ``index``; any amount, but all the pieces in it are held until their turn."""
        source = self._sources[index]
        source.queue.extend(source.reader.feed(data))
        if index == self._needed:
            self._go_on()

    def end_volume(self, index: int) -> None:
        """The present volume of set ``index`` has no more bytes."""
        source = self._sources[index]
        source.queue.extend(source.reader.end_volume())
        if self._on_volume is not None:
            self._on_volume(index, source.reader.bounds)
        if index == self._needed:
            self._go_on()

    def end_set(self, index: int) -> None:
        """Set ``index`` has no more volumes."""
        source = self._sources[index]
        source.queue.extend(source.reader.finish())
        source.ended = True
        if index == self._needed:
            self._go_on()

    def lose_volume(self, index: int) -> None:
        """The present volume of set ``index`` cannot be had, or not to its end; the next one follows (--ignore-errors).

        A file with a part in it is reported and not written. Of the files that are wholly in it nothing is known here: the caller must not
        call the result complete.
        """
        source = self._sources[index]
        source.queue.append(_LOST)
        source.reader = DifftarReader()
        if index == self._needed:
            self._go_on()

    def finish(self) -> None:
        """All sets are read. Raises FormatError if one is not."""
        if self._needed is not None:
            raise FormatError(f"backup set {self._needed + 1} of the chain was not read to its end")
        self._sink.finish()

    def close(self) -> None:
        """Give up: the file now made is aborted, temporary files go. Idempotent; does nothing after ``finish``."""
        self._work.close()

    def _go_on(self) -> None:
        self._needed = next(self._work, None)

    # The merge. It is written as if it could wait for bytes; where they are missing it yields the set.

    def _merge(self) -> Needs:
        heads: list[tuple[bytes, int]] = []  # of each set that has more: order key of its next path, and its index
        for source in self._sources:
            yield from self._enrol(source, heads)
        while heads:
            here, index = heappop(heads)
            if not heads or heads[0][0] != here:
                yield from self._alone(self._sources[index], heads)
                continue
            sources = [self._sources[index]]
            while heads and heads[0][0] == here:
                sources.append(self._sources[heappop(heads)[1]])
            yield from self._joined(sources)
            for source in sources:
                yield from self._enrol(source, heads)

    def _enrol(self, source: _Source, heads: list[tuple[bytes, int]]) -> Needs:
        here = yield from self._head(source)
        if here is not None:
            heappush(heads, (here, source.index))

    def _head(self, source: _Source) -> Generator[int, None, bytes | None]:
        """Order key of the next wanted path of ``source``, whose first piece is then the first in the queue; None at the end."""
        queue = source.queue
        while True:
            while not queue:
                if source.ended:
                    return None
                yield source.index
            piece = queue[0]
            if piece.begins and (not self._prefix or self._is_below(piece.entry.path)):
                return piece.entry.path.replace(b"/", b"\0")
            queue.popleft()  # not wanted, or the rest of what was not

    def _is_below(self, path: bytes) -> bool:
        return path == self._prefix or path.startswith(self._below)

    def _alone(self, source: _Source, heads: list[tuple[bytes, int]]) -> Needs:
        """All that comes in ``source`` before the next path of any other set."""
        limit = heads[0][0] if heads else None
        queue = source.queue
        whole = self._whole if source.index >= self._since else _nowhere
        while True:
            if queue[0].ends:
                whole(queue.popleft())
            else:
                yield from self._joined([source])
            here = yield from self._head(source)
            if here is None:
                return
            if limit is not None and here >= limit:
                heappush(heads, (here, source.index))
                return

    def _joined(self, sources: Sequence[_Source]) -> Needs:
        """One path, which all ``sources`` have next."""
        heads = [source.queue[0] for source in sources]
        unwanted = sources[-1].index < self._since or (self._select is not None and not self._select(heads[-1].entry))
        first = max((index for index, head in enumerate(heads) if head.verb != "diff"), default=0)
        fault = _fault(heads[first:])
        if fault or unwanted:
            for source in sources:
                yield from self._pour(source, _nowhere)
        else:
            yield from self._superseded(sources[:first])
        if unwanted:
            return
        if fault:
            self._problem(heads[0].entry.path, fault)
        elif heads[-1].begins and heads[-1].ends and first == len(heads) - 1:
            self._whole(sources[-1].queue.popleft())
        else:
            yield from self._content(sources[first:], heads[-1].entry)

    def _whole(self, piece: Piece) -> None:
        """An entry that is one piece and needs no other."""
        verb, entry, data, _, _, _ = piece
        if self._select is not None and not self._select(entry):
            return
        if verb != "snapshot":
            if verb == "diff":
                self._problem(entry.path, NO_BASE)
            elif self._on_deleted is not None:
                self._on_deleted(entry.path)
            return
        self.entries += 1
        if self._prefix:
            entry = self._stripped(entry)
        if entry[1] != REG:
            self._sink.simple(entry)
            return
        file = self._sink.file(entry)
        if data:
            file.write(data)
        file.close()

    def _superseded(self, sources: Sequence[_Source]) -> Needs:
        """Versions that the last one does not need: read past, or, if somebody asked for them, made as they were."""
        base, fault = None, ""
        try:
            for source in sources:
                verb, entry = source.queue[0].verb, source.queue[0].entry
                if base is not None and (fault or verb != "diff"):
                    base.close()
                    base = None
                if self._on_superseded is None or (base is None and (verb != "snapshot" or entry.kind != REG)):
                    yield from self._pour(source, _nowhere)
                    continue
                base, fault = yield from self._to_base(source, base)
                if fault:
                    self._problem(entry.path, fault)
        finally:
            if base is not None:
                base.close()

    def _content(self, sources: Sequence[_Source], entry: Entry) -> Needs:
        """A regular file: the content that the first source has, changed by the deltas of the others."""
        base, fault = None, ""
        try:
            for position, source in enumerate(sources):
                if fault:
                    yield from self._pour(source, _nowhere)
                elif position == len(sources) - 1:
                    fault = yield from self._to_sink(source, base, entry)
                else:
                    base, fault = yield from self._to_base(source, base)
        finally:
            if base is not None:
                base.close()
        if fault:
            self._problem(entry.path, fault)

    def _to_sink(self, source: _Source, base: Base | None, entry: Entry) -> Generator[int, None, str]:
        fault = "given up"
        file = self._sink.file(self._stripped(entry))
        try:
            fault = yield from self._applied(source, base, file.write)
        finally:
            if fault:
                file.abort()
        if not fault:
            self.entries += 1
            file.close()
        return fault

    def _to_base(self, source: _Source, base: Base | None) -> Generator[int, None, tuple[Base, str]]:
        """The content as of ``source``, to which a later set has a delta."""
        after = Base(self._tempdir)
        version = _NOBODY if self._on_superseded is None else self._on_superseded(source.index, source.queue[0].entry)

        def write(data: bytes) -> None:
            after.write(data)
            version.write(data)

        try:
            fault = yield from self._applied(source, base, write)
        except BaseException:
            after.close()
            version.abort()
            raise
        if base is not None:
            base.close()
        if fault:
            version.abort()
        else:
            version.close()
        return after, fault

    def _applied(self, source: _Source, base: Base | None, write: Callable[[bytes], object]) -> Generator[int, None, str]:
        if base is None:
            return (yield from self._pour(source, write))
        patch = Patch(base, write)
        return (yield from self._pour(source, patch.feed, patch.finish))

    def _pour(
        self, source: _Source, take: Callable[[bytes], object], finish: Callable[[], None] | None = None
    ) -> Generator[int, None, str]:
        """Take all pieces of the next path of ``source`` and give their data to ``take``; what is wrong with them, or nothing."""
        queue, fault, ends = source.queue, "", False
        while not ends:
            while not queue:
                if source.ended:
                    return "its content has no end"
                yield source.index
            piece = queue.popleft()
            if piece is _LOST:
                return "a volume that holds a part of it is missing"
            ends = piece.ends
            try:
                if piece.data and not fault:
                    take(piece.data)
                if ends and finish is not None and not fault:
                    finish()
            except FormatError as error:
                fault = str(error)
            except OSError as error:
                self.without_room += exit_code_of(error) == NO_SPACE
                fault = f"it could not be put together in {self._tempdir}: {error.strerror}"
        return fault

    def _stripped(self, entry: Entry) -> Entry:
        """``entry`` with the path that the sink knows."""
        return Entry(entry[0][len(self._below) :], *entry[1:]) if self._prefix else entry


NO_BASE: Final = "the archive has changes of it, but not the file that they belong to"

_LOST: Final = Piece(
    "deleted", Entry(b"", REG, 0, 0, 0, 0, 0, b"", b"", b"", (0, 0)), b"", False, True
)  # stands for pieces that are missing


class _Source:
    """A backup set: its reader, and the pieces read that had no turn yet."""

    __slots__ = ("ended", "index", "queue", "reader")

    def __init__(self, index: int) -> None:
        self.index = index
        self.queue: deque[Piece] = deque()
        self.reader = DifftarReader()
        self.ended = False


def _fault(heads: Sequence[Piece]) -> str:
    """What is wrong with a chain of first pieces: content, then deltas."""
    first = heads[0]
    if first.verb == "diff" or (len(heads) > 1 and (first.verb == "deleted" or first.entry.kind != REG)):
        return NO_BASE
    if any(head.first_part > 1 for head in heads):
        return "the beginning of its content is missing"
    return ""


def _nowhere(_data: object) -> None:
    """Takes what is not wanted."""


class _Nobody:
    """A file that nobody asked for."""

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


_NOBODY: Final = _Nobody()
