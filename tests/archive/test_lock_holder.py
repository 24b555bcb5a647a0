"""P10: who holds a lock, and whether it can be alive. Pure but for the look at a process."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from asyncdup.archive.lock import EXPIRY, Holder, birth_of, decode, lock_names, this_process, why_dead
from asyncdup.formats.names import Prefixes, parse_name

HERE = Holder(id="a", command="full", host="h", machine="m", boot="b", space="s", pid=10, birth="100", started=5.0, refreshed=5.0)
ALIVE = {20: "200"}


def judged(holder: Holder, age: float = 0.0) -> str:
    return why_dead(holder, HERE, age=age, birth=ALIVE.get)


@pytest.mark.parametrize(
    ("changes", "age", "dead"),
    [
        ({"pid": 20, "birth": "200"}, 0.0, ""),
        ({"pid": 20, "birth": "200"}, 10 * EXPIRY, ""),  # it lives, and is only slow
        ({"pid": 20, "birth": "199"}, 0.0, "its process 20 has ended"),  # the number was given to another one
        ({"pid": 21, "birth": "200"}, 0.0, "its process 21 has ended"),
        ({}, 0.0, "it was left by an earlier run of this process"),
        ({"space": "container", "pid": 21}, 0.0, ""),  # its numbers are others
        ({"boot": "before", "pid": 20}, 0.0, "this machine was started anew since"),
        ({"boot": "before", "machine": "other"}, 0.0, ""),
        ({"host": "far", "pid": 21}, EXPIRY, ""),
        ({"host": "far", "pid": 20, "birth": "200"}, EXPIRY + 1, "it gave no sign of life for 1h00m"),
        ({"host": ""}, 0.0, ""),
    ],
)
def test_a_writer_is_dead_only_if_that_is_known(changes: dict[str, object], age: float, dead: str) -> None:
    assert judged(replace(HERE, id="z", **changes), age) == dead  # type: ignore[arg-type]


def test_what_is_stored_says_who_it_is() -> None:
    assert decode(HERE.encode(), "a") == HERE
    assert HERE.describe(65.0) == "full on h (process 10, begun 1m00s ago)"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"pid": []}', b'{"pid": 1e999}', b"[" * 100_000, b"null"])
def test_what_cannot_be_understood_is_somebody_who_may_be_alive(data: bytes) -> None:
    holder = decode(data, "x")

    assert holder == Holder(id="x")
    assert judged(holder) == ""
    assert "not said who" in holder.describe(0.0)


def test_hostile_names_do_not_reach_the_terminal() -> None:
    assert decode(replace(HERE, host="\x1b[2Jh\n", command="x" * 9999).encode(), "a").describe(5.0).isprintable()


def test_this_process_is_alive_by_its_own_account() -> None:
    own = this_process("full", 7.0)

    assert (own.pid, own.birth) == (os.getpid(), birth_of(os.getpid()))
    assert birth_of(2**22 + 1) is None


def test_its_name_means_nothing_to_duplicity() -> None:
    """Observed: collection-status and cleanup --force of 3.2.1 pass over it."""
    for prefixes in (Prefixes(), Prefixes("P-")):
        name = f"{prefixes.file_prefix}asyncdup-lock-00"
        assert parse_name(name, prefixes, 0) is None
        assert lock_names([name, "duplicity-full.20231114T221320Z.manifest"], prefixes) == [name]
