"""What signature archives tell of paths over time: the versions of each, and what differs between two backups.

A signature archive names every path that is new, changed or gone in its set. It has no sizes of files, but their blocks: a size is known up
to the last block. Synchronous; what is held grows with the paths that are asked for, not with the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

from asyncdup.errors import FormatError
from asyncdup.formats.names import SetId
from asyncdup.formats.rdiff import check_signature
from asyncdup.formats.rdiff_pure import HEADER
from asyncdup.formats.sigtar import SigMember
from asyncdup.formats.tar import Entry, key

What = Literal["new", "changed", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a set did to a path.

    Attributes:
        entry: the path as of then; None if it was gone. Its ``size`` is that of the signature and means nothing.
        sizes: the least and the most bytes that a regular file had, else None. They differ by less than a block of its signature.
    """

    set_id: SetId
    what: What
    entry: Entry | None = None
    sizes: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs between two backups at one path. ``before`` is None if it is new, ``after`` if it is deleted.

    ``content``: the signatures say that the content of a file differs. They cannot if they have other block lengths.
    """

    path: bytes
    what: What
    before: Entry | None = None
    after: Entry | None = None
    sizes_before: tuple[int, int] | None = None
    sizes_after: tuple[int, int] | None = None
    content: bool = False


class Versions:
    """Follows the paths that are ``wanted`` through the sets, which must come oldest first, each chain's in a row.

    A full set names all paths: one that was there in the chain before and is not named is gone, one that is as it was is no new version.
    """

    def __init__(self, wanted: Callable[[bytes], bool], on_version: Callable[[bytes, Version], None]) -> None:
        self._wanted = wanted
        self._on_version = on_version
        self._live: dict[bytes, _State] = {}

    @property
    def live(self) -> Iterable[bytes]:
        """The wanted paths that are there after the last set."""
        return self._live.keys()

    def read(self, set_id: SetId, members: Iterable[SigMember]) -> None:
        """The members of one set. Raises FormatError if they are damaged."""
        named = set()
        for member in members:
            path = member.entry.path
            if self._wanted(path):
                named.add(path)
                self._note(set_id, path, member)
        if set_id.is_full:
            for path in sorted(self._live.keys() - named, key=key):
                self._gone(set_id, path)

    def _note(self, set_id: SetId, path: bytes, member: SigMember) -> None:
        if member.verb == "deleted":
            self._gone(set_id, path)
            return
        state = _state(member)
        before = self._live.get(path)
        self._live[path] = state
        if before is None or state.differs(before):
            what: What = "new" if before is None else "changed"
            self._on_version(path, Version(set_id=set_id, what=what, entry=member.entry, sizes=sizes_of(member)))

    def _gone(self, set_id: SetId, path: bytes) -> None:
        if self._live.pop(path, None) is not None:
            self._on_version(path, Version(set_id=set_id, what="deleted"))


def differences(before: Iterator[SigMember], after: Iterator[SigMember]) -> Iterator[Difference]:
    """What differs between two trees, each given by its live members in archive order."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        order = _order(old, new)
        if order == 0 and old is not None and new is not None and _state(new).differs(_state(old)):
            yield _difference("changed", old, new)
        elif order < 0:
            yield _difference("deleted", old, None)
        elif order > 0:
            yield _difference("new", None, new)
        old = next(before, None) if order <= 0 else old
        new = next(after, None) if order >= 0 else new


def sizes_of(member: SigMember) -> tuple[int, int] | None:
    """The least and the most bytes that the file of a signature has; None for what is no regular file. Raises FormatError."""
    if member.verb != "signature":
        return None
    try:
        check_signature(member.signature)
    except FormatError as error:
        raise FormatError(f"the signature of {member.entry.path.decode('utf-8', 'backslashreplace')!r}: {error}") from error
    _, block_len, strong_len = HEADER.unpack_from(member.signature)
    blocks = (len(member.signature) - HEADER.size) // (4 + strong_len)
    return (max(0, blocks - 1) * block_len + bool(blocks), blocks * block_len)


class _State(NamedTuple):
    """What makes a version. Signatures are compared only if they were made alike: a chain may have other block lengths than the one before."""

    attributes: tuple[object, ...]
    form: bytes
    content: bytes

    def differs(self, other: _State) -> bool:
        return self.attributes != other.attributes or self.has_other_content(other)

    def has_other_content(self, other: _State) -> bool:
        return self.form == other.form and self.content != other.content


def _state(member: SigMember) -> _State:
    _, kind, mode, uid, gid, mtime, _, uname, gname, link, dev = member.entry
    form, content = member.signature[: HEADER.size], member.signature[HEADER.size :]
    # A symlink's time is no part of it for duplicity (format specification, section 11).
    attributes = (kind, mode, uid, gid, 0 if link else mtime, uname, gname, link, dev)
    return _State(attributes, form, blake2b(content, digest_size=16).digest())


def _order(old: SigMember | None, new: SigMember | None) -> int:
    """Whose path comes first: -1 the old one's, 1 the new one's, 0 both have it."""
    if old is None or new is None:
        return 1 if old is None else -1
    first, second = key(old.entry.path), key(new.entry.path)
    return (first > second) - (first < second)


def _difference(what: What, old: SigMember | None, new: SigMember | None) -> Difference:
    shown = new or old
    return Difference(
        path=shown.entry.path if shown else b"",
        what=what,
        before=old.entry if old else None,
        after=new.entry if new else None,
        sizes_before=sizes_of(old) if old else None,
        sizes_after=sizes_of(new) if new else None,
        content=old is not None and new is not None and _state(new).has_other_content(_state(old)),
    )
