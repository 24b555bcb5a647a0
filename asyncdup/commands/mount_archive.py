"""What a mount reads of an archive: trees from signature archives, sizes and contents from volumes, which are taken apart and kept for a while.

On the event loop; used by one caller at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import aclosing
from typing import Final, NamedTuple

from asyncdup.archive.assemble import HOP, Needed, read_ahead
from asyncdup.archive.backup_tree import BackupTree
from asyncdup.archive.chains import BackupSet, Chain
from asyncdup.archive.consume import NO_BASE
from asyncdup.archive.contents import Contents, Extent
from asyncdup.archive.patch import Base, Patch
from asyncdup.archive.reading import needed_volumes, read_manifests
from asyncdup.commands.session import Session
from asyncdup.commands.signature_files import caching, signature_files
from asyncdup.errors import RestoreError
from asyncdup.formats.manifest import Manifest
from asyncdup.formats.names import SetId
from asyncdup.formats.rdiff import Copy, DeltaReader
from asyncdup.threads import in_thread
from asyncdup.units import format_time

KEPT: Final = 1 << 30  # bytes of volumes taken apart, and of files put together, unless --spool says another number
TREES: Final = 4  # of the backups looked at last, which are held in memory


class Opened(NamedTuple):
    """A file's content: ``size`` bytes from ``offset`` on in ``contents``."""

    contents: Contents
    offset: int
    size: int


class _Found(NamedTuple):
    """Bytes of a file, and the volume that has all of its content; "" if there is none such."""

    size: int
    volume: str = ""


class Archive:
    """The trees, sizes and contents of the backups of ``lineages``, by time. Fetches what it needs; what it was given lately is at hand."""

    def __init__(self, session: Session, lineages: dict[int, Chain]) -> None:
        self.times = {format_time(time).encode(): time for time in sorted(lineages)}
        self._session = session
        self._lineages = lineages
        self._trees: dict[int, BackupTree] = {}  # the one looked at last comes last
        self._manifests: dict[SetId, Manifest] = {}
        self._found: dict[SetId, dict[bytes, _Found]] = {}  # of the files as the sets left them, as far as volumes told
        self._kept = _Kept(session.options.spool or KEPT)

    def close(self) -> None:
        """Give all temporary files back."""
        self._kept.close()

    async def tree(self, time: int) -> BackupTree:
        """What the backup of ``time`` holds."""
        tree = self._trees.pop(time, None)
        if tree is None:
            async with caching(self._session) as session:
                (files,) = await signature_files(session, self._lineages[time])
                tree = await in_thread(BackupTree, self._lineages[time], files)
        self._trees[time] = tree
        while len(self._trees) > TREES:
            del self._trees[next(iter(self._trees))]
        return tree

    def known_tree(self, time: int) -> BackupTree | None:
        """It, if it is at hand."""
        return self._trees.get(time)

    def known_size(self, tree: BackupTree, path: bytes) -> int | None:
        """Bytes of a regular file, if that is known."""
        if tree.nodes[path].empty:
            return 0
        found = self._find(tree, path)
        return found.size if found else None

    def known_content(self, tree: BackupTree, path: bytes) -> Opened | None:
        """The content of a regular file, if it is at hand in its volume."""
        found = self._find(tree, path)
        volume = self._kept.get(found.volume) if found else None
        return _opened(volume, volume.extents[path]) if volume else None

    def _find(self, tree: BackupTree, path: bytes) -> _Found | None:
        return self._found.get(tree.sets_of(path)[0].id, {}).get(path)

    async def size(self, tree: BackupTree, path: bytes) -> int:
        """Bytes of a regular file. A delta tells it without what it was made for."""
        newest = tree.sets_of(path)[0]
        size, reader = 0, DeltaReader()
        async for volume, extent in self._parts(newest, path):
            size += extent.length if extent.verb == "snapshot" else await in_thread(_made, reader, _read(volume, extent))
        self._found[newest.id].setdefault(path, _Found(size))
        return size

    async def content(self, tree: BackupTree, path: bytes) -> Opened:
        """The content of a regular file: where its volume has it, or put together."""
        sets = tree.sets_of(path)
        if (kept := self._kept.get((sets[0].id, path))) is not None:
            return Opened(kept, 0, kept.data.size)
        volume, extent, layers = await self._newest_content(sets, path)
        if len(layers) == 1 and extent.whole:
            return _opened(volume, extent)
        contents = Contents(await self._assembled(layers, path))
        self._kept.put((sets[0].id, path), contents)
        return Opened(contents, 0, contents.data.size)

    async def _newest_content(self, sets: list[BackupSet], path: bytes) -> tuple[Contents, Extent, list[BackupSet]]:
        """The first part of the newest content that is no delta, and the sets from the newest to the one that has it."""
        for count, backup_set in enumerate(sets, start=1):
            async with aclosing(self._parts(backup_set, path)) as parts:
                volume, extent = await anext(parts)
            if extent.verb == "snapshot":
                return volume, extent, sets[:count]
        raise RestoreError(NO_BASE)

    async def _assembled(self, sets: list[BackupSet], path: bytes) -> Base:
        """Content of the oldest of ``sets`` (newest first), changed by the deltas of the others. The caller closes it."""
        before: Base | None = None
        for backup_set in reversed(sets):
            after = Base(self._session.tempdir)
            try:
                await self._apply(backup_set, path, before, after)
            except BaseException:
                after.close()
                raise
            finally:
                if before is not None:
                    before.close()
            before = after
        assert before is not None, "there is a set at least"
        return before

    async def _apply(self, backup_set: BackupSet, path: bytes, before: Base | None, after: Base) -> None:
        patch = Patch(before, after.write) if before is not None else None
        async for volume, extent in self._parts(backup_set, path):
            await in_thread(_pour, _read(volume, extent), patch.feed if patch else after.write)
        if patch is not None:
            await in_thread(patch.finish)

    async def _parts(self, backup_set: BackupSet, path: bytes) -> AsyncGenerator[tuple[Contents, Extent]]:
        """What ``backup_set`` has of ``path``, volume by volume. Raises RestoreError if that is nothing, or not all (P4)."""
        last = 0
        for needed in needed_volumes(Chain((backup_set,)), [await self._manifest(backup_set)], path):
            volume = await self._volume(backup_set, needed)
            if (extent := volume.extents.get(path)) is None:
                continue
            if extent.first != last + 1:
                raise RestoreError(f"{needed.name} does not go on with it where the volume before it ended")
            last = extent.last
            yield volume, extent
            if not last:
                return
        if not last:
            raise RestoreError(f"no volume of the set {backup_set.id} holds it")

    async def _manifest(self, backup_set: BackupSet) -> Manifest:
        if backup_set.id not in self._manifests:
            session = self._session
            (self._manifests[backup_set.id],) = await read_manifests(session.engine, session.lane, [backup_set], session.reading_codec)
        return self._manifests[backup_set.id]

    async def _volume(self, backup_set: BackupSet, needed: Needed) -> Contents:
        """A volume taken apart, checked as a whole before anything of it is used. It tells the sizes of all files that are wholly in it."""
        if (kept := self._kept.get(needed.name)) is not None:
            return kept
        session = self._session
        contents = Contents(Base(session.tempdir), where=needed.name)
        try:
            async with read_ahead(session.engine, session.lane, [needed]) as items:
                item = await anext(items)
                async with session.reading_codec(needed.name).open(item.path, name=needed.name) as chunks:
                    while await chunks.pour(contents.feed, HOP):
                        pass
            await in_thread(contents.finish)
        except BaseException:
            contents.data.close()
            raise
        whole = {
            path: _Found(each.length, needed.name) for path, each in contents.extents.items() if each.whole and each.verb == "snapshot"
        }
        self._found.setdefault(backup_set.id, {}).update(whole)
        self._kept.put(needed.name, contents)
        return contents


class _Kept:
    """What was used lately, ``limit`` bytes together; beyond that only the newest, and what is open."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[Hashable, Contents] = {}  # the one used last comes last

    def get(self, key: Hashable) -> Contents | None:
        if (item := self._items.pop(key, None)) is not None:
            self._items[key] = item
        return item

    def put(self, key: Hashable, item: Contents) -> None:
        self._items[key] = item
        total = sum(each.data.size for each in self._items.values())
        for old in list(self._items)[:-1]:
            if total > self._limit and not self._items[old].users:
                gone = self._items.pop(old).data
                total -= gone.size
                gone.close()

    def close(self) -> None:
        for item in self._items.values():
            item.data.close()


def _opened(volume: Contents, extent: Extent) -> Opened:
    return Opened(volume, extent.offset, extent.length)


def _read(volume: Contents, extent: Extent) -> Iterator[bytes]:
    return volume.data.read(extent.offset, extent.length)


def _made(reader: DeltaReader, pieces: Iterator[bytes]) -> int:
    """Bytes that some of a delta makes."""
    commands = (command for piece in pieces for command in reader.feed(piece))
    return sum(command.length if isinstance(command, Copy) else len(command) for command in commands)


def _pour(pieces: Iterator[bytes], take: Callable[[bytes], object]) -> None:
    for piece in pieces:
        take(piece)
