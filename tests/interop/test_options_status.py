"""What ``collection-status`` says of changed files, beside stock duplicity."""

from __future__ import annotations

import gzip
import re

import pytest
from interop.archives import START
from interop.both import Program

pytestmark = [pytest.mark.realtime, pytest.mark.interop]

Both = tuple[Program, Program]


def status(program: Program, *words: str) -> list[str]:
    assert program("collection-status", "--no-encryption", *words, "{url}", at=START + 9 * 86_400) == 0, program.said
    (record,) = [record for record in program.records() if record.code == 3]
    assert all(line in program.said for line in record.text)
    return list(record.text)


@pytest.fixture
def chain(both: Both) -> Both:
    """Two chains; in the newer one ``a`` changes twice."""
    for program in both:
        program.backups("full", "incremental", "full", "incremental", "incremental")
    return both


@pytest.mark.parametrize("number", ["0", "1", "2", "-1"])
def test_show_changes_in_set_says_what_stock_says(number: str, chain: Both) -> None:
    ours, stocks = (status(program, "--show-changes-in-set", number) for program in chain)

    assert ours == stocks


@pytest.mark.parametrize("path", ["a", "folder/b", "not there"])
def test_file_changed_says_what_stock_says_without_pythons_quotes(path: str, chain: Both) -> None:
    ours, stocks = (status(program, "--file-changed", path) for program in chain)

    assert [line.split() for line in ours] == [re.sub(r"b'(.*?)'", r"\1", line).split() for line in stocks]


def test_a_set_that_the_chain_does_not_have_is_wrong_use(chain: Both) -> None:
    """Stock shows a traceback, and ends with 30."""
    ours, stocks = chain

    assert ours("collection-status", "--no-encryption", "--show-changes-in-set", "3", "{url}") == 23
    assert "the newest chain has 3 sets" in ours.said
    assert stocks("collection-status", "--no-encryption", "--show-changes-in-set", "3", "{url}") == 30


def test_names_are_shown_as_they_are(both: Both) -> None:
    """Stock shows them as the manifest quotes them."""
    ours, _ = both
    (ours.source / "it's odd").write_text("x")
    assert ours("full", "--no-encryption", "{source}", "{url}", at=START) == 0

    assert any(line.split("  ")[0] == "it's odd" for line in status(ours, "--show-changes-in-set", "0"))
    assert status(ours, "--file-changed", "it's odd")[2] == "Total number of backup: 1"


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"{")[:-4], gzip.compress(bytes(2 << 20))], ids=["foreign", "cut", "huge"])
def test_p4_p9_statistics_that_are_damaged_are_an_error_that_names_them(data: bytes, both: Both) -> None:
    ours, _ = both
    assert ours("full", "--no-encryption", "--jsonstat", "{source}", "{url}", at=START) == 0, ours.said
    (file,) = ours.target.glob("*.jsonstat.gz")
    file.write_bytes(data)

    assert ours("collection-status", "--no-encryption", "--show-changes-in-set", "0", "--jsonstat", "{url}") == 30
    assert file.name in ours.said
    assert "defect" not in ours.said
