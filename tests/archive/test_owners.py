"""Owners by name and number, as duplicity understands them (format specification, section 11)."""

from __future__ import annotations

import grp
import pwd

import pytest

from asyncdup.archive import owners
from asyncdup.archive.owners import Owners
from asyncdup.formats.tar import REG, Entry

USER, GROUP = pwd.getpwuid(0), grp.getgrgid(0)
UNKNOWN = b"nobody has this name"


def entry(uid: int, gid: int, uname: bytes = b"", gname: bytes = b"") -> Entry:
    return Entry(b"a", REG, 0, uid, gid, 0, 0, uname, gname, b"", (0, 0))


@pytest.mark.parametrize(
    ("uname", "gname", "ids"),
    [
        (b"", b"", (70, 71)),
        (USER.pw_name.encode(), b"", (0, 71)),
        (b"", GROUP.gr_name.encode(), (70, 0)),
        (UNKNOWN, UNKNOWN, (70, 71)),
        (b"\0", b"\xff", (70, 71)),
    ],
)
def test_a_name_known_here_wins_over_the_number(uname: bytes, gname: bytes, ids: tuple[int, int]) -> None:
    assert Owners().ids(entry(70, 71, uname, gname)) == ids
    assert Owners(numeric=True).ids(entry(70, 71, uname, gname)) == (70, 71)


def test_names_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Owners()
    first = known.names(0, 0)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pytest.fail("asked again"))

    assert known.names(0, 0) == first == (USER.pw_name.encode(), GROUP.gr_name.encode())


def test_a_live_entry_has_the_same_owner_by_name_or_number() -> None:
    known = Owners()

    assert known.same(entry(70, 71), entry(70, 71))
    assert known.same(entry(70, 71, USER.pw_name.encode()), entry(0, 71))
    assert not known.same(entry(70, 71), entry(70, 72))


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**64])
def test_a_number_that_would_mean_something_else_to_the_kernel_is_refused(number: int) -> None:
    """P8: -1 leaves the owner as it is."""
    with pytest.raises(ValueError):
        Owners().ids(entry(number, 0))
    with pytest.raises(ValueError):
        Owners().ids(entry(0, number))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: a hostile archive may name a new owner in each entry."""
    monkeypatch.setattr(owners, "_REMEMBERED", 10)
    known = Owners(numeric=True)

    assert [known.ids(entry(n, n)) for n in range(100)] == [(n, n) for n in range(100)]
    assert len(known._ids) <= 10
