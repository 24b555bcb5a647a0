"""``--exclude '**'`` as the last rule, alone and after includes: on a backup, a restore and a verify, beside stock duplicity."""

from __future__ import annotations

from pathlib import Path

import pytest
from interop.archives import START
from interop.both import Program

pytestmark = [pytest.mark.realtime, pytest.mark.interop, pytest.mark.slow]

NO = "--no-encryption"
ALL = ("--exclude", "**")
INCLUDES = [(), ("a",), ("folder",), ("folder/b",), ("a", "folder/b"), ("not-there",), ("folder/*",), ("**b",)]


def words(includes: tuple[str, ...], before: str = "") -> list[str]:
    return [word for each in includes for word in ("--include", before + each)] + list(ALL)


def tree(folder: Path) -> list[str] | None:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else None


def listed(program: Program) -> list[str]:
    assert program("list-current-files", NO, "{url}") == 0, program.said
    return [line.split()[-1] for line in program.said.splitlines() if line[:3] in ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")]


@pytest.mark.parametrize("includes", INCLUDES, ids=" ".join)
def test_a_restore_brings_back_what_is_included_and_nothing_is_exit_code_20(
    includes: tuple[str, ...], both: tuple[Program, Program]
) -> None:
    outcomes = []
    for program in both:
        program.backups("full")
        out = program.folder / "out"
        outcomes.append((program("restore", NO, *words(includes), "{url}", str(out)), tree(out)))

    assert outcomes[0] == outcomes[1], both[0].said
    assert (outcomes[0][0] == 20) == (includes in [(), ("not-there",)])


@pytest.mark.parametrize("includes", [each for each in INCLUDES if each != ("**b",)], ids=" ".join)
def test_a_backup_stores_what_is_included_and_the_folders_to_it(includes: tuple[str, ...], both: tuple[Program, Program]) -> None:
    found = []
    for program in both:
        code = program("full", NO, *words(includes, "{source}/"), "{source}", "{url}", at=START)
        found.append((code, listed(program)))

    assert found[0] == found[1]


def test_a_verify_leaves_out_on_both_sides_what_stock_takes_for_missing(both: tuple[Program, Program]) -> None:
    ours, stocks = both
    for program in both:
        program.backups("full")
    verify = ("verify", NO, "--compare-data", *words(("{source}/folder",)), "{url}", "{source}")

    assert (ours(*verify), "3 file(s) compared, 0 difference(s)" in ours.said) == (0, True), ours.said
    assert (stocks(*verify), "File a is missing" in stocks.said) == (1, True), stocks.said
