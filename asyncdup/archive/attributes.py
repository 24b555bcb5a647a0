"""Owner, mode and time of what a restore makes, set through its handle; and what is kept back for safety (P8)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from asyncdup.archive.owners import Ids, Owners
from asyncdup.formats.tar import Entry

Report = Callable[[bytes, str], None]  # path (b"" is the root), what happened to it

# How a value from an archive can fail in a system call; the last two are Python's: a NUL in a name, a number out of range
FAILURES: Final = (OSError, ValueError, OverflowError)

_SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class Attributes:
    """Sets the archived attributes of entries. Failures are reported, and the other attributes are set all the same.

    Args:
        ownership: True: set owners, failing is a problem; False: never; None: as the superuser only, else count them in ``owners_left``.
        numeric_owner: believe archived numbers only, not names.
        untrusted: leave out setuid and setgid bits, and say so.
    """

    def __init__(self, *, ownership: bool | None, numeric_owner: bool, untrusted: bool, on_problem: Report, on_notice: Report) -> None:
        self.owners_left = 0
        self._attempts = ownership is True or (ownership is None and os.geteuid() == 0)
        self._counts = ownership is None
        self._untrusted = untrusted
        self._problem = on_problem
        self._notice = on_notice
        self._owner_of = Owners(numeric=numeric_owner).ids

    def apply(self, place: int | bytes, entry: Entry) -> bool:
        """Set owner, then mode (which a change of owner would cut), then time. Gives whether the owner is now the archived one.

        ``place``: a handle, or its name below /proc where the handle itself will not do. The access time becomes the modification time.
        """
        owned = self._own(place, entry)
        mode = entry[2] & 0o7777
        if mode & _SET_ID and not self._keeps_set_id(entry, owned=owned):
            mode &= ~_SET_ID
        try:
            os.chmod(place, mode)
        except FAILURES as error:
            self._problem(entry.path, f"mode {mode:o} could not be set: {reason(error)}")
        try:
            os.utime(place, (entry[5], entry[5]))
        except FAILURES as error:
            self._problem(entry.path, f"modification time could not be set: {reason(error)}")
        return owned

    def open_up(self, handle: int, path: bytes, mode: int) -> None:
        """Set the mode of a folder that the archive does not have."""
        try:
            os.chmod(handle, mode)
        except OSError as error:
            self._problem(path, f"mode {mode:o} could not be set: {reason(error)}")

    def apply_to_symlink(self, name: bytes, folder: int, entry: Entry) -> None:
        """Set the owner, which is all that a symlink gets (format specification, section 17)."""
        try:
            ids = self._owner_of(entry)
            if self._attempts:
                os.chown(name, *ids, dir_fd=folder, follow_symlinks=False)
            else:
                self._is_owned(os.stat(name, dir_fd=folder, follow_symlinks=False), ids)
        except FAILURES as error:
            self._problem(entry.path, f"owner could not be set: {reason(error)}")

    def _own(self, place: int | bytes, entry: Entry) -> bool:
        try:
            ids = self._owner_of(entry)
            if not self._attempts:
                return self._is_owned(os.stat(place), ids)
            os.chown(place, *ids)
        except FAILURES as error:
            self._problem(entry.path, f"owner could not be set: {reason(error)}")
            return False
        return True

    def _is_owned(self, status: os.stat_result, ids: Ids) -> bool:
        if (status.st_uid, status.st_gid) == ids:
            return True
        self.owners_left += self._counts
        return False

    def _keeps_set_id(self, entry: Entry, *, owned: bool) -> bool:
        if owned and not self._untrusted:
            return True
        why = "the archive is not trusted" if self._untrusted else "its owner was not restored"
        self._notice(entry.path, f"restored without its setuid and setgid bits: {why}")
        return False


def reason(error: Exception) -> str:
    """What to tell a person of one of FAILURES."""
    return getattr(error, "strerror", None) or str(error)
