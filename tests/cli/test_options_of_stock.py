"""Options of stock duplicity that need more of the parser than a name and a value."""

from __future__ import annotations

import pytest

from asyncdup.cli.dispatch import options_of
from asyncdup.cli.parser import parse
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.settings import Settings
from asyncdup.commands.options import Options
from asyncdup.errors import UsageError

URL = "file:///there"


def options(*words: str) -> Options:
    return options_of(parse([*words, "src", URL]), Secrets())


def status(*words: str) -> Settings:
    return parse(["collection-status", *words, URL])


def test_rename_takes_two_words_and_may_be_repeated() -> None:
    given = parse(["restore", "--rename", "a", "b c", URL, "--rename=d", "e", "to"])

    assert given.rename == (("a", "b c"), ("d", "e"))
    assert options_of(given, Secrets()).rename == ((b"a", b"b c"), (b"d", b"e"))


@pytest.mark.parametrize("words", [["--rename", "a"], ["--rename"], ["--rename", "a", "--force"], ["--rename", "a", ""]])
def test_rename_without_its_second_word_is_wrong_use(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--rename wants"):
        parse(["restore", URL, "to", *words])


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("--full-if-n-inc=7", "full_if_n_inc", 7),
        ("--skip-if-no-change", "skip_if_no_change", True),
        ("--copy-links", "copy_links", True),
        ("--no-files-changed", "files_changed", False),
        ("--jsonstat", "jsonstat", True),
        ("--metadata-sync-mode=full", "sync_all", True),
        ("--metadata-sync-mode=partial", "sync_all", False),
        ("--ignore-errors", "ignore_errors", True),
        ("--untrusted-archive", "untrusted", True),
        ("-v5", "list_entries", True),
        ("-v4", "list_entries", False),
    ],
)
def test_an_option_reaches_the_command(word: str, field: str, value: object) -> None:
    assert getattr(options(word), field) == value


def test_without_them_nothing_changes() -> None:
    given = options()

    assert (given.full_if_n_inc, given.skip_if_no_change, given.copy_links, given.files_changed) == (None, False, False, True)
    assert (given.jsonstat, given.sync_all, given.ignore_errors, given.untrusted, given.rename) == (False, False, False, False, ())


def test_null_separator_is_a_rule_for_the_lists_that_are_given() -> None:
    assert [rule.option for rule in options("--exclude-filelist=x", "--null-separator").rules] == ["null-separator", "exclude-filelist"]
    assert options("--null-separator").rules == ()


def test_the_full_of_a_chain_is_set_minus_one_as_in_stock() -> None:
    assert status("--show-changes-in-set", "-1").show_changes_in_set == -1
    with pytest.raises(UsageError, match="a whole number, -1 or more"):
        status("--show-changes-in-set=-2")


def test_an_option_that_has_nothing_to_do_here_is_taken_and_said_once() -> None:
    assert parse(["--no-check-remote", "src", URL]).notices == ("--no-check-remote has no effect: one listing shows what is at the URL",)
    assert parse(["--check-remote", "--time-separator=:", "src", URL]).notices == ()


def test_rename_says_that_verify_does_not_mind_it() -> None:
    assert parse(["verify", "--rename", "a", "b", URL, "src"]).notices[0].startswith("--rename has no effect on verify")
    assert parse(["restore", "--rename", "a", "b", URL, "to"]).notices == ()


@pytest.mark.parametrize(("word", "why"), [("--time-separator=_", "the only separator"), ("--skip-volume=2", "is not supported")])
def test_what_cannot_be_served_is_refused_by_name(word: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse([word, "src", URL])
