"""What a restore would write, signed anew and compared with the signature archives of the chain. Synchronous; runs in the merger's thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from asyncdup.errors import FormatError
from asyncdup.formats import rdiff
from asyncdup.formats.rdiff_pure import HEADER
from asyncdup.formats.sigtar import SigMember
from asyncdup.formats.tar import REG, Entry, key

SHOWN = 20  # differences that are said one by one


class SignatureComparer:
    """A sink for the merger. ``members``: of the signature archives, in archive order; None: nothing is compared.

    ``on_difference`` is told of the first ``SHOWN`` differences, a sentence each, and of the number of the others. ``in_part``: there are
    members of other entries, too, and who looks at those tells of an archive that cannot be read.
    """

    def __init__(self, members: Iterator[SigMember] | None, on_difference: Callable[[str], None], *, in_part: bool = False) -> None:
        self._members = members
        self._on_difference = on_difference
        self._in_part = in_part
        self._next: SigMember | None = None
        self._differences = 0
        self._file: _File | None = None
        self._advance()

    def simple(self, entry: Entry) -> None:
        """A folder, symlink, fifo or device."""
        self._take(entry)

    def file(self, entry: Entry) -> _File:
        """A regular file: it is signed as the signature archive has signed it."""
        member = self._take(entry)
        self._file = _File(entry, member.signature if member is not None else None, self._differ)
        return self._file

    def finish(self) -> None:
        """There are no more entries, so there must be no more members."""
        while self._next is not None and not self._in_part:
            self._pass_over(self._next)
        if self._differences > SHOWN:
            self._on_difference(f"and {self._differences - SHOWN} more that differ from their signatures")

    def close(self) -> None:
        """Give up, if it was not finished."""
        if self._file is not None:
            self._file.close_signer()

    def _take(self, entry: Entry) -> SigMember | None:
        """The member of ``entry``, if it has one of its kind."""
        if self._members is None:
            return None
        here = key(entry.path)
        while self._next is not None and key(self._next.entry.path) < here:
            self._pass_over(self._next)
        member = self._next
        if member is None or member.entry.path != entry.path:
            self._differ(entry.path, "is in the backup, but not in the signatures")
            return None
        self._advance()
        if member.entry.kind != entry.kind or (member.verb == "signature") != (entry.kind == REG):
            self._differ(entry.path, "is of another kind in the signatures")
            return None
        return member

    def _pass_over(self, member: SigMember) -> None:
        if not self._in_part:
            self._differ(member.entry.path, "is in the signatures, but not in the backup")
        self._advance()

    def _advance(self) -> None:
        if self._members is None:
            return
        try:
            self._next = next(self._members, None)
        except FormatError as error:
            self._members = self._next = None
            if not self._in_part:
                self._on_difference(str(error))

    def _differ(self, path: bytes, message: str) -> None:
        self._differences += 1
        if self._differences <= SHOWN:
            self._on_difference(f"{os.fsdecode(path) or '.'} {message}")


class _File:
    """The content of one regular file on its way through a signer. ``wanted``: its signature; None: it is not looked at."""

    def __init__(self, entry: Entry, wanted: bytes | None, differ: Callable[[bytes, str], None]) -> None:
        self._path = entry.path
        self._differ = differ
        self._wanted = wanted
        self._made: list[bytes] = []
        self._signer: rdiff.Signer | None = None
        if wanted is not None:
            try:
                rdiff.check_signature(wanted)
            except FormatError as error:
                differ(entry.path, f"has a signature that is damaged: {error}")
                return
            self._signer = rdiff.Signer(HEADER.unpack_from(wanted)[1])

    def write(self, data: bytes) -> None:
        """The next bytes."""
        if self._signer is not None:
            self._made.append(self._signer.feed(data))

    def close(self) -> None:
        """All bytes were written: the signature must be the archived one."""
        if self._signer is None or self._wanted is None:
            return
        made = b"".join([*self._made, self._signer.finish()])
        self._signer = None
        # Another kind of strong sums (a foreign writer's) cannot be compared with ours.
        if made != self._wanted and made[: HEADER.size] == self._wanted[: HEADER.size]:
            self._differ(self._path, "is not what its signature says")

    def abort(self) -> None:
        """The content cannot be had; the merger has said so."""
        self.close_signer()

    def close_signer(self) -> None:
        """Free its memory, if it was not finished."""
        if self._signer is not None:
            self._signer.close()
            self._signer = None
