"""The command line as stock's users type it: shapes, prefixes, values, and errors that say what would be right."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from asyncdup.cli.options import ALL, COMMANDS, DROPPED, MAKING, OPTIONS
from asyncdup.cli.parser import is_url, parse
from asyncdup.cli.settings import Settings
from asyncdup.errors import UsageError

URL = "file:///there"


def wrong(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert caught.value.exit_code == 23
    return caught.value


@pytest.mark.parametrize(
    "words",
    [
        ["inc", "src", URL, "--volsize=5"],
        ["--volsize=5", "inc", "src", URL],
        ["inc", "src", "--volsize=5", URL],
        ["inc", "src", "--volsize", "5", URL],
        ["inc", "--volsize", "5", "--", "src", URL],
        ["--volsize", "5", "--", "inc", "src", URL],
        ["incremental", "src", URL, "--vols", "5"],
    ],
)
def test_options_may_stand_anywhere(words: list[str]) -> None:
    settings = parse(words)

    assert (settings.command, settings.path, settings.url, settings.volsize) == ("incremental", "src", URL, 5 << 20)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["src", URL, "--name=x"], "backup"),
        (["--name", "x", "src", URL], "backup"),
        (["src", "--name", "x", URL], "backup"),
        ([URL, "dst", "--name=x"], "restore"),
        (["--name=x", "--", URL, "dst"], "restore"),
    ],
)
def test_the_order_of_path_and_url_implies_the_command(words: list[str], command: str) -> None:
    settings = parse(words)

    assert (settings.command, settings.implied, settings.name, settings.url) == (command, True, "x", URL)


@pytest.mark.parametrize("word", [word for command in COMMANDS if command.served for word in (command.name, *command.aliases)])
def test_every_command_and_alias_is_understood(word: str) -> None:
    (command,) = [each for each in COMMANDS if word in (each.name, *each.aliases)]
    words = {"path": "p", "url": URL, "time": "3D", "count": "2", "pattern": "*.c"}

    settings = parse([word, *(words[name] for name in command.arguments)])

    assert settings.command == command.name
    assert settings.path == ("p" if "path" in command.arguments else "")
    assert not settings.implied


def test_include_and_exclude_keep_their_order_among_each_other() -> None:
    settings = parse(
        ["--include", "a", "--exclude-other-filesystems", "src", "--exclude=**", "--filter-regexp", URL, "--include-filelist", "f"]
    )

    assert settings.selection == (
        ("include", "a"),
        ("exclude-other-filesystems", ""),
        ("exclude", "**"),
        ("filter-regexp", ""),
        ("include-filelist", "f"),
    )


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--no-encrypt"], "encryption", False),
        (["--no-encryption", "--encryption"], "encryption", True),
        (["--no-comp"], "compression", False),
        (["--no-res"], "restore_ownership", False),
        (["--restore-own"], "restore_ownership", True),
        (["--num-ret=2"], "num_retries", 2),
        (["--volsize", "1"], "volsize", 1 << 20),
        (["-v9"], "verbosity", 9),
        (["-v", "w"], "verbosity", 2),
        (["-v=5"], "verbosity", 5),
        (["--verb", "DEBUG"], "verbosity", 9),
        (["-t", "3D12h"], "restore_time", "3D12h"),
        (["--time=2023-11-14"], "restore_time", "2023-11-14"),
        (["--restore-t", "now"], "restore_time", "now"),
        (["-r", "a b"], "path_to_restore", ("a b",)),
        (["-ra=b"], "path_to_restore", ("a=b",)),
        (["--path", "x"], "path_to_restore", ("x",)),
        (["--full-if-o", "30D"], "full_if_older_than", "30D"),
        (["--max-blocksize", "1000"], "max_blocksize", 1024),
        (["--spool", "2G"], "spool", 2 << 30),
        (["--memory=64M"], "memory", 64 << 20),
        (["--grace", "1m"], "grace", 60.0),
        (["--intervention-timeout", "2h"], "intervention_timeout", 7200.0),  # G8
        (["--on-intervention", "mail -s 'it waits' me"], "on_intervention", ("mail", "-s", "it waits", "me")),  # N3
        (["--timeout", "5"], "timeout", 5.0),
        (["--concurrency", "0"], "concurrency", 0),
        (["--concurrency", "auto"], "concurrency", "auto"),
        (["--compression-l", "9"], "compression_level", 9),
        (["--retry-failure-m=wait"], "retry_failure_mode", "wait"),
        (["--log-json", "-"], "log_json", "-"),
        (["--file-prefix="], "file_prefix", ""),
        (["--current-time", "1700000000"], "current_time", 1700000000),
        (["--encrypt-key", "A", "--encrypt-key=B"], "encrypt_keys", ("A", "B")),
        (["--encrypt-sign-key", "A"], "encrypt_keys", ("A",)),
        (["--encrypt-sign-key", "A"], "sign_key", "A"),
        (["--hidden", "H"], "hidden_encrypt_keys", ("H",)),
        (["--gpg-options=--homedir=/x y", "--gpg-options", "--a --b"], "gpg_options", ("--homedir=/x", "y", "--a", "--b")),
        (["--ssh-options", "-oPort=22 -i 'my key'"], "ssh_options", ("-oPort=22", "-i", "my key")),
        (["--exclude", "-9"], "selection", (("exclude", "-9"),)),
        (["--compare-data", "--check-remote", "--files-changed"], "notices", ()),
    ],
)
def test_options_and_their_prefixes(words: list[str], field: str, value: Any) -> None:
    assert getattr(parse([*words, "src", URL]), field) == value


def test_the_last_of_a_repeated_option_counts() -> None:
    assert parse(["src", URL, "--volsize=1", "--volsize=2"]).volsize == 2 << 20


@pytest.mark.parametrize(
    ("prefix", "named"),
    [
        ("--comp", "--compare-data, --compression"),  # not --compression-level: ours never enters stock's choice
        ("--num=2", "--num-retries, --numeric-owner"),
        ("--lo", "--log-fd, --log-file, --log-timestamp"),
        ("--re", "--rename, --restore-ownership, --restore-time"),
        ("--ti", "--time, --time-separator, --timeout"),
        ("--retry-failure-", "--retry-failure-flag, --retry-failure-mode"),
    ],
)
def test_an_ambiguous_prefix_names_what_it_could_be(prefix: str, named: str) -> None:
    error = wrong(prefix, "src", URL)

    assert "is ambiguous" in str(error)
    assert error.hint == f"it could be {named}"


def test_what_is_unique_in_stock_stays_so_beside_our_options() -> None:
    assert parse(["--compress", "src", URL]).compression is True
    assert parse(["--me=full", "src", URL]).metadata_sync_mode == "full"


def test_settings_of_backends_are_collected_under_their_own_names() -> None:
    words = ["--s3-use-glacier", "--s3-region=eu-1", "--ssl-no-check", "--s3-region-name=eu-2", "--mp-segment-size=5"]

    assert parse([*words, "src", URL]).backend_settings == (
        ("s3-use-glacier", ""),
        ("s3-region-name", "eu-1"),
        ("ssl-no-check-certificate", ""),
        ("s3-region-name", "eu-2"),
        ("mp-segment-size", "5"),
    )


def test_all_of_stocks_options_are_known() -> None:
    """121 options and 3 hidden ones (duplicity-cli.md, section 2), and the help of its commands."""
    stock = [option for option in OPTIONS if not option.ours]
    helps = [option for option in stock if option.action == "help"]

    assert len(stock) - len(helps) == 124
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.action == "refuse"], ids=lambda option: option.name)
def test_what_is_not_served_is_refused_with_a_reason(option: Any) -> None:
    error = wrong(f"--{option.name}", "src", URL)

    assert str(error) == f"--{option.name} is not supported"
    assert error.hint == option.why and option.why


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_what_duplicity_dropped_gets_its_successor(name: str) -> None:
    assert wrong(f"--{name}=x", "src", URL).hint == DROPPED[name]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--concurency=5", "src", URL], "unknown option --concurency", "did you mean --concurrency?"),
        (["--exlude=x", "src", URL], "unknown option --exlude", "did you mean --exclude?"),
        (["--zzzzzz", "src", URL], "unknown option --zzzzzz", "asyncdup help lists the options"),
        (["--=x", "src", URL], "unknown option --", "asyncdup help lists the options"),
        (["-x", "src", URL], "unknown option -x", "asyncdup help lists the options"),
        (["--progress=1", "src", URL], "--progress takes no value", None),
        (["src", URL, "--volsize"], "--volsize wants a value: MIB", None),
        (["src", URL, "--exclude", "-x"], "--exclude wants a value: GLOB", "a value that begins with - is written --exclude=-x"),
        (["src", URL, "--exclude", "--force"], "--exclude wants a value: GLOB", "a value that begins with - is written --exclude=--force"),
        (["src", URL, "--exclude="], "--exclude wants something that is not empty, not ''", None),
        (["src", URL, "--volsize=50M"], "--volsize wants a whole number of MiB, 1 or more, not '50M'", None),
        (["src", URL, "--volsize=0"], "--volsize wants a whole number of MiB, 1 or more, not '0'", None),
        (["src", URL, "--compression-level=10"], "--compression-level wants a whole number, 0 to 9, not '10'", None),
        (["src", URL, "-v", "10"], "--verbosity wants 0 to 9 or one of error, warning, notice, info, debug, not '10'", None),
        (["src", URL, "--retry-failure-mode=skip"], "--retry-failure-mode wants one of fail, intervention, wait, not 'skip'", None),
        (["src", URL, "--ssh-options='"], '--ssh-options wants options quoted as in a shell, not "\'"', None),
        (["src", URL, "--timeout=0"], "--timeout wants a duration above zero, not '0'", None),
        ([], "nothing to do", "asyncdup backup PATH URL, asyncdup restore URL PATH, or asyncdup help"),
        (["bakcup", "src", URL], "'bakcup' is no command", "did you mean backup?"),
        (["a", "b"], "'a' is no command", "asyncdup PATH URL backs up; a URL is written scheme://place"),
        (
            ["ro", URL],
            "remove-older-than wants TIME URL, and got 1 argument",
            "asyncdup remove-older-than TIME URL; a folder of that name is written ./ro",
        ),
        (
            ["ra", URL, "2"],
            "remove-all-but-n-full wants COUNT URL, and file://... is no count",
            "the other way round: asyncdup remove-all-but-n-full COUNT URL",
        ),
        (["full", "src"], "full wants PATH URL, and got 1 argument", "asyncdup full PATH URL"),
        (["restore", "dst", URL], "restore wants URL PATH, and 'dst' is no url", "the other way round: asyncdup restore URL PATH"),
        (["full", "a", "b"], "full wants PATH URL, and 'b' is no url", "a URL is written scheme://place, a local one file:///folder"),
        (["full", "", URL], "full wants PATH URL, and one of them is empty", None),
        (["", URL], "an argument is empty", "asyncdup backup PATH URL, asyncdup restore URL PATH, or asyncdup help"),
    ],
)
def test_wrong_use_says_what_would_be_right(words: list[str], message: str, hint: str | None) -> None:
    error = wrong(*words)

    assert (str(error), error.hint) == (message, hint)


@pytest.mark.parametrize("option", ["--restore-time=32D1", "--full-if-older-than=soon", "--exclude-older-than=2023-02-30"])
def test_a_time_that_is_none_is_refused_at_once(option: str) -> None:
    error = wrong("src", URL, option)

    assert str(error).startswith(option.partition("=")[0])
    assert "now" in (error.hint or "")


def test_a_folder_named_like_a_command_is_told_how_to_be_written() -> None:
    assert "./full" in (wrong("full", URL).hint or "")
    assert parse(["./full", URL]).command == "backup"


def test_a_path_that_begins_with_a_dash_stands_behind_two_dashes() -> None:
    assert parse(["backup", "--", "-x", URL]).path == "-x"


def test_no_message_and_no_repr_shows_a_password_of_a_url() -> None:
    """P15."""
    url = "sftp://u:geheim@host/d"

    errors = [wrong("full", url, "dst"), wrong(url, url), wrong("nix", url, url), wrong(url), wrong("restore", "x", url)]

    assert not [error for error in errors if "geheim" in f"{error}{error.hint}"]
    assert "geheim" not in repr(parse(["src", url]))


def test_restore_of_one_path_and_selection_exclude_each_other() -> None:
    assert "exclude each other" in str(wrong("restore", URL, "dst", "-r", "a", "--exclude", "b"))


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--asynchronous-upload"], "--asynchronous-upload"),
        (["--on-intervention=true"], "--on-intervention"),
        (["--intervention-timeout=1", "--retry-failure-mode=wait"], "--intervention-timeout"),
        (["--retry-failure-flag=f"], "--retry-failure-flag"),  # N2: in mode fail accepted and unused, with a notice
        (["--no-encryption", "--encrypt-key=A"], "plain"),
    ],
)
def test_options_without_effect_are_remarked_on(words: list[str], word: str) -> None:
    (notice,) = parse(["src", URL, *words]).notices

    assert word in notice


@pytest.mark.parametrize(
    ("words", "command", "topic"),
    [
        (["--help"], "help", ""),
        (["-h"], "help", ""),
        (["help"], "help", ""),
        (["help", "restore"], "help", "restore"),
        (["restore", "--help"], "help", "restore"),
        (["--help", "restore"], "help", "restore"),
        (["full", "src", URL, "-h"], "help", "full"),
        (["--help-inc"], "help", "inc"),
        (["--help-verify"], "help", "verify"),
        (["--version"], "version", ""),
        (["-V", "restore"], "version", "restore"),
        (["--vers"], "version", ""),
        (["help", URL], "backup", ""),
    ],
)
def test_help_and_version_are_found_wherever_they_stand(words: list[str], command: str, topic: str) -> None:
    settings = parse(words)

    assert (settings.command, settings.topic) == (command, topic)


def test_settings_and_table_name_the_same_fields() -> None:
    """One default for each field, and it stands in the table."""
    arguments = {"command", "topic", "path", "url", "implied", "notices", "time", "count", "pattern"}

    fields = {field.name for field in dataclasses.fields(Settings)}

    assert {option.field for option in OPTIONS if option.field} == fields - arguments
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(Settings))


def test_options_of_one_field_agree_on_its_default() -> None:
    defaults: dict[str, set[Any]] = {}
    for option in OPTIONS:
        if option.field:
            defaults.setdefault(option.field, set()).add(option.default)

    assert [field for field, values in defaults.items() if len(values) > 1] == []


def test_commands_of_the_table_exist() -> None:
    assert set(MAKING) < set(ALL)
    assert all(set(option.commands) <= set(ALL) for option in OPTIONS)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("file:///x", True), ("paramiko+sftp://h", True), ("/a/b", False), ("a://", True), ("./x://y", False), ("", False)],
)
def test_what_is_a_url(word: str, expected: bool) -> None:
    assert is_url(word) is expected
