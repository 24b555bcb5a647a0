"""What one backup holds, as a tree in memory, from the signature archives of its chain. Synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from asyncdup.archive.chains import BackupSet, Chain
from asyncdup.archive.signatures import SigMember, read_members
from asyncdup.archive.versions import sizes_of
from asyncdup.errors import RestoreError
from asyncdup.formats.tar import DIR, Entry

_FULL: Final = (0,)  # one for all


class Node(NamedTuple):
    """One path. ``sets``: of a regular file, the indices in the chain of the sets that say something of it, oldest first: the newest has its
    content or a delta to what the one before has. ``empty``: a regular file of no bytes; all other sizes only volumes tell."""

    entry: Entry
    sets: tuple[int, ...] = ()
    empty: bool = False


class BackupTree:
    """The tree as of the last set of ``chain``. ``files``: the signature archives of its sets in the cache, oldest first.

    Holds less than 1 KiB a path. Raises FormatError for a damaged file, RestoreError if the backup is of a single file.
    """

    def __init__(self, chain: Chain, files: Sequence[Path]) -> None:
        self.nodes: dict[bytes, Node] = {}
        self.children: dict[bytes, list[bytes]] = {b"": []}
        self._chain = chain
        for index, file in enumerate(files):
            for member in read_members(file):
                self._note(index, member)
        if (root := self.nodes.get(b"")) is not None and root.entry.kind != DIR:
            raise RestoreError("this is the backup of a single file, which cannot be mounted", hint="asyncdup restore brings it back")
        for path in list(self.nodes):
            self._place(path)

    def sets_of(self, path: bytes) -> list[BackupSet]:
        """Those that say something of the regular file ``path``, newest first."""
        return [self._chain.sets[index] for index in reversed(self.nodes[path].sets)]

    def _note(self, index: int, member: SigMember) -> None:
        path = member.entry.path
        if member.verb == "deleted":
            self.nodes.pop(path, None)
        elif member.verb == "signature":
            before = self.nodes.get(path)
            sets = (*before.sets, index) if before else (index,) if index else _FULL
            self.nodes[path] = Node(member.entry, sets, empty=sizes_of(member) == (0, 0))
        else:
            self.nodes[path] = Node(member.entry)

    def _place(self, path: bytes) -> None:
        """Put ``path`` into its folder, which is made up if the archive does not name it."""
        while path:
            parent, _, name = path.rpartition(b"/")
            siblings = self.children.get(parent)
            if siblings is not None:
                siblings.append(name)
            else:
                self.children[parent] = [name]
            if siblings is not None or parent in self.nodes:
                return
            self.nodes[parent] = Node(_folder(parent))
            path = parent


def _folder(path: bytes) -> Entry:
    return Entry(path, DIR, 0o755, 0, 0, 0, 0, b"", b"", b"", (0, 0))
