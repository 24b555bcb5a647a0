"""Users and groups: numbers <-> names, looked up once each.

An archived owner is the user of that name where there is one here, else the number (format specification, section 11).
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final, TypeVar

from asyncdup.formats.tar import Entry

LARGEST_ID: Final = 2**32 - 2  # 2**32 - 1 is -1, which tells the kernel to leave the owner as it is
_REMEMBERED: Final = 4096  # owners; a hostile archive may name a new one in each entry

Ids = tuple[int, int]
K = TypeVar("K")
V = TypeVar("V")


class Owners:
    """Translates owners for one run. ``numeric``: numbers only; names are neither written nor believed."""

    def __init__(self, *, numeric: bool = False) -> None:
        self._numeric = numeric
        self._names: dict[Ids, tuple[bytes, bytes]] = {}
        self._ids: dict[tuple[int, int, bytes, bytes], Ids] = {}

    def names(self, uid: int, gid: int) -> tuple[bytes, bytes]:
        """The names of a user and a group here; empty where there is none."""
        names = self._names.get((uid, gid))
        if names is None:
            names = (b"", b"") if self._numeric else (_user_name(uid), _group_name(gid))
            _remember(self._names, (uid, gid), names)
        return names

    def ids(self, entry: Entry) -> Ids:
        """User and group id here of the archived owner of ``entry``.

        Raises:
            ValueError: the archive holds a number that cannot be an id.
        """
        wanted = entry[3], entry[4], entry[7], entry[8]
        ids = self._ids.get(wanted)
        if ids is None:
            ids = self._look_up(entry)
            _remember(self._ids, wanted, ids)
        return ids

    def same(self, archived: Entry, live: Entry) -> bool:
        """Whether ``live``, an entry just walked over, has the owner that ``archived`` had."""
        return self.ids(archived) == (live.uid, live.gid)

    def _look_up(self, entry: Entry) -> Ids:
        uid, gid = entry.uid, entry.gid
        if not self._numeric:
            uid = _user_id(entry.uname, uid) if entry.uname else uid
            gid = _group_id(entry.gname, gid) if entry.gname else gid
        if not (0 <= uid <= LARGEST_ID and 0 <= gid <= LARGEST_ID):
            raise ValueError(f"the archived owner {uid}:{gid} cannot be")
        return uid, gid


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


def _user_name(uid: int) -> bytes:
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return b""


def _group_name(gid: int) -> bytes:
    try:
        return os.fsencode(grp.getgrgid(gid).gr_name)
    except KeyError:
        return b""


def _user_id(name: bytes, otherwise: int) -> int:
    try:
        return pwd.getpwnam(os.fsdecode(name)).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return otherwise


def _group_id(name: bytes, otherwise: int) -> int:
    try:
        return grp.getgrnam(os.fsdecode(name)).gr_gid
    except (KeyError, ValueError):
        return otherwise
