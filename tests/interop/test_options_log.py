"""The log for programs (``--log-fd``, ``--log-file``) beside stock duplicity's: the same records for the same runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.archives import START
from interop.both import Program, Record, parse_log

pytestmark = [pytest.mark.realtime, pytest.mark.interop]

Both = tuple[Program, Program]
NO = "--no-encryption"
DAY = 86_400


def of_codes(program: Program, *codes: int, level: str = "INFO") -> list[Record]:
    """Without what stock says twice: it goes through the source once more for ``--progress``, and we do not."""
    return [record for record in program.records() if record.code in codes and record.level == level]


def with_two_sets(program: Program, *words: str) -> None:
    (program.source / "a").write_text("a")
    os.utime(program.source / "a", (1_500_000_000, 1_500_000_000))
    (program.source / "gone soon").write_text("x")
    os.utime(program.source / "gone soon", (1_500_000_000, 1_500_000_000))
    (program.source / "it's \\ é\n").write_text("odd")
    os.utime(program.source / "it's \\ é\n", (1_500_000_000, 1_500_000_000))
    os.utime(program.source, (1_500_000_000, 1_500_000_000))
    assert program("full", NO, *words, "{source}", "{url}", at=START) == 0, program.said


def test_each_entry_of_a_backup_is_told_of_as_stock_does(both: Both) -> None:
    told = []
    for program in both:
        with_two_sets(program, "-v5")
        first = of_codes(program, 4, 5, 6)
        (program.source / "gone soon").unlink()
        (program.source / "a").write_text("changed")
        os.utime(program.source / "a", (1_600_000_000, 1_600_000_000))
        (program.source / "new").symlink_to("a")
        os.utime(program.source, (1_600_000_000, 1_600_000_000))
        assert program("incremental", NO, "-v5", "{source}", "{url}", at=START + DAY) == 0
        told.append((first, of_codes(program, 4, 5, 6)))
        (program.source / "new").unlink()

    (our_full, our_inc), (stocks_full, stocks_inc) = told
    assert [record.extra for record in our_full] == [record.extra for record in stocks_full]
    assert our_inc == stocks_inc
    assert {record.code for record in our_inc} == {4, 5, 6}


def test_a_file_list_is_told_of_as_stock_does(both: Both) -> None:
    lists = []
    for program in both:
        with_two_sets(program)
        assert program("list-current-files", NO, "{url}", at=START + DAY) == 0
        lists.append([record.extra for record in of_codes(program, 10)])

    assert lists[0] == lists[1]
    assert any("\\x27" in extra for extra in lists[0])


def test_the_entries_of_a_restore_and_its_progress_are_told_of_as_stock_does(both: Both) -> None:
    told = []
    for program in both:
        with_two_sets(program)
        assert program("restore", NO, "-v5", "{url}", str(program.folder / "out")) == 0, program.said
        told.append(({record.extra for record in of_codes(program, 7)}, of_codes(program, 2)[-1].extra))

    (ours, our_progress), (stocks, stocks_progress) = told
    assert stocks <= ours  # we name folders, too
    assert our_progress == stocks_progress == "1 1"


def test_the_chains_are_told_of_as_stock_does(both: Both) -> None:
    told = []
    for program in both:
        program.backups("full", "incremental", "full", "incremental")
        assert program("collection-status", NO, "{url}", at=START + 9 * DAY) == 0
        (record,) = of_codes(program, 3)
        told.append([line for line in record.extra.splitlines() if not line.startswith(("backend", "archive-dir"))])

    assert told[0][-8:] == told[1][-8:]
    assert "chain-complete" in told[0]


def test_the_statistics_are_one_record_with_stocks_names(both: Both) -> None:
    names = []
    for program in both:
        with_two_sets(program)
        (record,) = [each for each in program.records() if each.text and "Backup Statistics" in each.text[0]]
        assert (record.level, record.code) == ("NOTICE", 1)
        names.append([line.split()[0] for line in record.text if line.strip()])

    assert names[0] == names[1]


def fails_without_source(program: Program) -> None:
    program("full", NO, str(program.folder / "nothing"), "{url}")


def fails_for_want_of_a_chain(program: Program) -> None:
    program("incremental", NO, "{source}", "{url}")


def fails_for_what_is_in_the_way(program: Program) -> None:
    program.backups("full")
    program("restore", NO, "{url}", str(program.source))


def fails_for_want_of_the_path(program: Program) -> None:
    program.backups("full")
    program("restore", NO, "--path-to-restore", "not/there", "{url}", str(program.folder / "out"))


def fails_on_a_redundant_rule(program: Program) -> None:
    program("full", NO, "--include", "{source}/a", "{source}", "{url}")


def fails_on_an_unknown_option(program: Program) -> None:
    program("full", NO, "--nonsense", "{source}", "{url}")


@pytest.mark.parametrize(
    ("fails", "code"),
    [
        (fails_without_source, 23),
        (fails_for_want_of_a_chain, 17),
        (fails_for_what_is_in_the_way, 11),
        (fails_for_want_of_the_path, 19),
        (fails_on_a_redundant_rule, 16),
        (fails_on_an_unknown_option, 23),
    ],
)
def test_an_error_has_stocks_level_code_and_extra(fails: Callable[[Program], None], code: int, both: Both) -> None:
    errors = []
    for program in both:
        fails(program)
        errors.append([(record.code, record.extra) for record in program.records() if record.level == "ERROR"])

    assert errors[0] == errors[1]
    assert [each[0] for each in errors[0]] == [code]


def test_the_log_goes_to_the_descriptor_that_a_front_end_opened(both: Both) -> None:
    ours, _ = both
    ours.backups("full")
    reading, writing = os.pipe()
    words = ["collection-status", NO, f"file://{ours.target}", "--archive-dir", str(ours.cache), f"--log-fd={writing}"]
    subprocess.run([sys.executable, "-m", "asyncdup", *words], pass_fds=[writing], check=True, capture_output=True)
    os.close(writing)

    with open(reading, encoding="utf-8") as log:
        assert [record.code for record in parse_log(log.read()) if record.level == "INFO"] == [3]


def test_v2_a_front_end_that_is_gone_ends_no_backup(both: Both) -> None:
    ours, _ = both
    reading, writing = os.pipe()
    os.close(reading)
    words = ["full", NO, "-v5", str(ours.source), f"file://{ours.target}", "--archive-dir", str(ours.cache), f"--log-fd={writing}"]
    done = subprocess.run([sys.executable, "-m", "asyncdup", *words], pass_fds=[writing], capture_output=True, text=True, check=False)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("option", ["--log-fd=99", "--log-file=/not/there/log"])
def test_a_log_that_cannot_be_written_is_wrong_use(option: str, both: Both) -> None:
    ours, _ = both

    assert ours("full", NO, "{source}", "{url}", option) == 23
    assert option.split("=")[0] in ours.said
    assert not ours.target.exists()


def test_log_timestamp_puts_time_and_level_before_each_line(both: Both) -> None:
    beginnings = []
    for program in both:
        assert program("full", NO, "--log-timestamp", "{source}", "{url}", at=START) == 0, program.said
        line = next(line for line in program.said.splitlines() if "Backup Statistics" in line)
        beginnings.append("".join("0" if char.isdigit() else char for char in line.split("---")[0]))

    assert beginnings[0] == beginnings[1] == "0000-00-00 00:00:00,000 NOTICE "


def test_the_log_file_is_for_its_owner_only_and_grows(both: Both, tmp_path: Path) -> None:
    ours, _ = both
    log = tmp_path / "log of mine"

    assert ours("full", NO, "{source}", "{url}", "--log-file", str(log), at=START) == 0, ours.said
    once = len(parse_log(log.read_text()))
    assert ours("collection-status", NO, "{url}", "--log-file", str(log)) == 0, ours.said

    assert len(parse_log(log.read_text())) > once
    assert log.stat().st_mode & 0o777 == 0o600
