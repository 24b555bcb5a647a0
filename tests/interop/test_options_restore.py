"""Options of a restore that change what comes out of it, beside stock duplicity where that does the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from interop.archives import START
from interop.both import Program

pytestmark = [pytest.mark.realtime, pytest.mark.interop]

Both = tuple[Program, Program]
NO = "--no-encryption"


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else "" for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    "names",
    [
        ["--rename", "a", "z"],
        ["--rename", "folder", "other/place"],
        ["--rename", "folder/", "x", "--rename", "folder/b", "y"],
        ["--rename", "fold", "nothing"],
    ],
)
def test_rename_restores_to_where_stock_restores_to(names: list[str], both: Both) -> None:
    restored = []
    for program in both:
        program.backups("full", "incremental")
        (program.source / "a").write_text("the same in both")
        os.utime(program.source / "a", (1_600_000_000, 1_600_000_000))
        assert program("incremental", NO, "{source}", "{url}", at=START + 5 * 86_400) == 0
        assert program("restore", NO, "{url}", str(program.folder / "out"), *names) == 0, program.said
        restored.append(tree(program.folder / "out"))

    assert restored[0] == restored[1]


@pytest.mark.parametrize("names", [("a", "../a"), ("a", "/tmp/a"), ("..", "a"), (".", "a")])
def test_p7_rename_leads_nowhere_outside_the_target(names: tuple[str, str], both: Both) -> None:
    ours, _ = both
    ours.backups("full")

    assert ours("restore", NO, "{url}", str(ours.folder / "out"), "--rename", *names) == 23
    assert "is no path inside the archive" in ours.said


def volumes(program: Program) -> None:
    """A full of three volumes: the first holds ``a`` and a part of ``big``, the last the rest."""
    (program.source / "big").write_bytes(os.urandom(2_500_000))
    assert program("full", NO, "--volsize", "1", "{source}", "{url}", at=START) == 0, program.said
    assert sum(".vol" in name for name in program.names()) == 3


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_p3_ignore_errors_restores_what_is_left_and_names_what_is_not(harm: str, both: Both) -> None:
    """Stock ends with 0 here, and ``big`` is a shorter file."""
    for program in both:
        volumes(program)
        (second,) = program.target.glob("*.vol2.*")
        if harm == "missing":
            second.unlink()
        else:
            second.write_bytes(second.read_bytes()[:-1] + b"!")
    ours, stocks = both
    out = ours.folder / "out"

    assert ours("restore", NO, "{url}", str(ours.folder / "without")) in (1, 21)
    assert ours("restore", NO, "--ignore-errors", "{url}", str(out)) == 30
    assert second.name in ours.said
    assert "big: " in ours.said
    assert tree(out) == {"a": "a", "folder": "", "folder/b": "b"}

    if harm == "damaged":
        assert stocks("restore", NO, "--ignore-errors", "{url}", str(stocks.folder / "out")) == 0
        assert (stocks.folder / "out" / "big").stat().st_size < 2_500_000


def test_p3_ignore_errors_changes_nothing_of_a_whole_archive(both: Both) -> None:
    ours, _ = both
    volumes(ours)

    assert ours("restore", NO, "--ignore-errors", "{url}", str(ours.folder / "out")) == 0, ours.said
    assert (ours.folder / "out" / "big").read_bytes() == (ours.source / "big").read_bytes()


def test_p8_an_untrusted_archive_gives_no_setuid_bits(both: Both) -> None:
    ours, _ = both
    (ours.source / "a").chmod(0o4755)
    assert ours("full", NO, "{source}", "{url}", at=START) == 0

    assert ours("restore", NO, "{url}", str(ours.folder / "trusted")) == 0
    assert ours("restore", NO, "--untrusted-archive", "{url}", str(ours.folder / "out")) == 0
    assert (ours.folder / "trusted" / "a").stat().st_mode & 0o7777 == 0o4755
    assert (ours.folder / "out" / "a").stat().st_mode & 0o7777 == 0o755
    assert "a: restored without its setuid and setgid bits: the archive is not trusted" in ours.said
