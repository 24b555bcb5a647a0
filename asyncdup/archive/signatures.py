"""The signature archives of a chain -> the live members as of its last set, in archive order. Synchronous, one member at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from asyncdup.codecs.gzip import inflate_file
from asyncdup.formats.sigtar import SigMember, SigtarReader
from asyncdup.formats.tar import key

__all__ = ["SigMember", "live_members", "read_members"]


def live_members(sigtars: Sequence[Path], *, start: bytes = b"") -> Iterator[SigMember]:
    """Members that are not deleted as of the newest of ``sigtars`` (cached, gzip, oldest first), those of the newest file winning.

    ``start``: leave out what comes before this key (a resumed run).
    """
    members = _merged([read_members(path) for path in sigtars])
    if start:
        members = (member for member in members if key(member.entry.path) >= start)
    return (member for member in members if member.verb != "deleted")


def read_members(path: Path) -> Iterator[SigMember]:
    """All members of one cached signature archive. Raises FormatError, naming the file, if it is damaged."""
    reader = SigtarReader(where=str(path))
    for data in inflate_file(path):
        yield from reader.feed(data)
    yield from reader.finish()


def _merged(sources: Sequence[Iterator[SigMember]]) -> Iterator[SigMember]:
    if len(sources) == 1:
        yield from _first_of_each(sources[0])
        return
    keyed: list[Iterable[tuple[bytes, int, SigMember]]] = [_keyed(source, -age) for age, source in enumerate(sources)]
    # Equal keys come out newest first, as the age of newer files is the lower number; SigMembers are never compared.
    yield from _first_of_each(member for _, _, member in heapq.merge(*keyed))


def _keyed(source: Iterator[SigMember], age: int) -> Iterator[tuple[bytes, int, SigMember]]:
    for member in source:
        yield member.entry.path.replace(b"/", b"\0"), age, member


def _first_of_each(members: Iterable[SigMember]) -> Iterator[SigMember]:
    last: bytes | None = None
    for member in members:
        path = member.entry.path
        if path != last:  # a restarted or older writer may have put the root twice
            last = path
            yield member
