"""Profiles: ``asyncdup run`` and ``asyncdup init``, their hooks, their retention, and what is said of a wrong one (P15, P16)."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import time
from pathlib import Path

import pytest

from asyncdup.cli import run_profile
from asyncdup.cli.hooks import run_hook
from asyncdup.cli.invocation import parse_invocation
from asyncdup.cli.main import main
from asyncdup.cli.profiles import parse_profile
from asyncdup.errors import AsyncdupError, UsageError
from asyncdup.units import format_local_time

Output = pytest.CaptureFixture[str]

BASE = 'source = "/src"\ntarget = "file:///there"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with documents; profiles are in its ``.config``."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "letter").write_text("Dear reader,\n")
    (tmp_path / "docs" / "cache").write_text("junk")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(home: Path, more: str = "", options: str = "", name: str = "docs") -> Path:
    """A profile without encryption."""
    path = home / ".config" / "asyncdup" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'source = "{home}/docs"\ntarget = "file://{home}/backup"\nrules = ["exclude {home}/docs/cache"]\n{more}\n'
        f'[options]\nno-encryption = true\narchive-dir = "{home}/archive"\n{options}\n'
    )
    path.chmod(0o600)
    return path


def noting(home: Path, word: str) -> str:
    return f'import os; print(\\"{word}\\", os.environ[\\"ASYNCDUP_EXIT_CODE\\"], file=open(\\"{home}/noted\\", \\"a\\"))'


def toml_hooks(home: Path, *names: str, before: str = "") -> str:
    rows = [f'{name} = ["{sys.executable}", "-c", "{noting(home, name)}"]' for name in names]
    rows += [f"before = {before}"] if before else []
    return "[hooks]\n" + "\n".join(rows) + "\n"


def noted(home: Path) -> list[str]:
    return (home / "noted").read_text().splitlines() if (home / "noted").exists() else []


# Running.


def test_a_profile_backs_up_and_restores_by_its_name(home: Path, capsys: Output) -> None:
    write(home)

    assert main(["run", "docs"]) == 0
    assert main(["run", "docs", "restore", str(home / "new"), "-v2"]) == 0
    assert [path.name for path in (home / "new").iterdir()] == ["letter"]
    assert main(["run", "docs", "verify"]) == 0


def test_arguments_and_options_follow_the_command(home: Path, capsys: Output) -> None:
    profile = write(home)
    main(["run", "docs"])
    capsys.readouterr()

    assert main(["run", str(profile), "history", "letter", "--json"]) == 0
    assert '"path": "letter"' in capsys.readouterr().out
    assert main(["run", "docs", "restore"]) == 23
    assert "asyncdup run docs restore PATH" in capsys.readouterr().err


def test_options_alone_belong_to_a_backup(home: Path, capsys: Output) -> None:
    write(home)

    assert main(["run", "docs", "--dry-run"]) == 0
    assert not list(home.glob("backup/*"))


def test_the_retention_is_kept_after_a_backup(home: Path, capsys: Output) -> None:
    write(home, "[retention]\nkeep-daily = 2")
    for day in range(4):
        assert main(["run", "docs", "full", f"--current-time={1_700_000_000 + day * 86400}"]) == 0

    assert len(list(home.glob("backup/*manifest*"))) == 2


def test_a_retention_that_has_nothing_to_take_away_is_one_line(home: Path, capsys: Output) -> None:
    write(home, "[retention]\nkeep-daily = 2")

    assert main(["run", "docs", "--no-print-statistics", "--current-time=1700000000"]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == "prune: nothing deleted, 1 backup kept"


def test_a_restore_says_what_it_restored_unless_it_is_to_be_quiet(home: Path, capsys: Output) -> None:
    write(home)
    main(["run", "docs", "-v2", "--no-print-statistics", "--current-time=1700000000"])

    assert main(["run", "docs", "restore", str(home / "new")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"restoring the backup of {format_local_time(1_700_000_000)}"
    assert re.fullmatch(r"restored: 2 files and folders, [0-9]+ B in [0-9.]+s", said[1])
    assert main(["run", "docs", "restore", str(home / "again"), "-v2"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [["restore", "new"], ["list-current-files"], ["collection-status", "--show-changes-in-set=0"]])
def test_a_target_without_a_backup_is_named(command: list[str], home: Path, capsys: Output) -> None:
    write(home)

    assert main(["run", "docs", *command]) == 1
    said = capsys.readouterr().err
    assert "there is no complete backup at file://" in said and "is the URL right? collection-status shows what is there" in said


def test_an_incremental_without_a_backup_names_the_target(home: Path, capsys: Output) -> None:
    write(home)

    assert main(["run", "docs", "incremental"]) == 17
    said = capsys.readouterr().err
    assert "there is no complete backup at file://" in said and "is the URL right?" in said


def test_a_quiet_run_says_nothing(home: Path, capsys: Output) -> None:
    """Under cron only what is wrong is worth a mail."""
    write(home, "[retention]\nkeep-daily = 1")
    main(["run", "docs", "full", "-v2", "--current-time=1700000000"])

    assert main(["run", "docs", "full", "-v2", "--no-print-statistics", "--current-time=1700100000"]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(list(home.glob("backup/*manifest*"))) == 1


def test_the_passphrase_comes_from_its_file_and_is_gone_afterwards(home: Path, capsys: Output) -> None:
    secret = home / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    profile = write(home, f'passphrase-file = "{secret}"')
    before = dict(os.environ)
    seen: list[str] = []

    def serve(words: object) -> int:
        seen.append(os.environ["PASSPHRASE"])
        return 0

    invocation = parse_invocation(["run", "docs"])
    assert invocation is not None
    assert run_profile.run_profile(invocation, serve) == 0

    assert seen == ["open sesame"] and dict(os.environ) == before
    assert profile.exists()


@pytest.mark.parametrize(
    ("text", "mode", "complaint"), [("x\n", 0o644, "others than you"), ("\n", 0o600, "no passphrase"), (None, 0, "cannot be read")]
)
def test_a_passphrase_file_that_does_not_do_is_refused(home: Path, capsys: Output, text: str | None, mode: int, complaint: str) -> None:
    if text is not None:
        (home / "secret").write_text(text)
        (home / "secret").chmod(mode)
    write(home, f'passphrase-file = "{home}/secret"')

    assert main(["run", "docs"]) == 23
    assert complaint in capsys.readouterr().err


def test_the_environment_of_a_profile_does_not_replace_what_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "mine")
    write(home, '[environment]\nFIRST = "its"\nSECOND = "its"\n')
    seen: list[tuple[str, str]] = []
    invocation = parse_invocation(["run", "docs", "check"])
    assert invocation is not None

    run_profile.run_profile(invocation, lambda words: seen.append((os.environ["FIRST"], os.environ["SECOND"])) or 0)

    assert seen == [("mine", "its")] and "SECOND" not in os.environ


# Hooks.


@pytest.mark.realtime
def test_hooks_run_before_and_after_a_backup_and_around_nothing_else(home: Path, capsys: Output) -> None:
    write(home, toml_hooks(home, "before", "after", "failure"))

    assert main(["run", "docs"]) == 0
    assert noted(home) == ["before 0", "after 0"]
    assert main(["run", "docs", "collection-status"]) == 0
    assert main(["run", "docs", "backup", "--dry-run"]) == 0
    assert noted(home) == ["before 0", "after 0"]


@pytest.mark.realtime
def test_a_failed_backup_runs_after_and_failure_and_keeps_its_exit_code(home: Path, capsys: Output) -> None:
    write(home, toml_hooks(home, "before", "after", "failure"))
    (home / "backup").write_text("no folder")

    code = main(["run", "docs", "--num-retries=1"])

    assert code not in (0, 62)
    assert noted(home) == ["before 0", f"after {code}", f"failure {code}"]


@pytest.mark.realtime
def test_without_its_before_hook_there_is_no_backup(home: Path, capsys: Output) -> None:
    write(home, toml_hooks(home, "after", "failure", before='["false"]'))

    assert main(["run", "docs"]) == 30
    assert noted(home) == ["after 30", "failure 30"]
    assert not list(home.glob("backup/*"))
    assert "the hook before failed with exit code 1: false" in capsys.readouterr().err


@pytest.mark.realtime
def test_an_after_hook_that_fails_makes_the_run_fail(home: Path, capsys: Output) -> None:
    write(home, '[hooks]\nafter = ["false"]\n')

    assert main(["run", "docs"]) == 30
    assert "the hook after failed" in capsys.readouterr().err
    assert list(home.glob("backup/*manifest*"))


@pytest.mark.realtime
def test_a_hook_sees_no_passphrase_and_no_shell(tmp_path: Path) -> None:
    """P15, P16."""
    out = tmp_path / "out; touch injected"
    code = f"import os; open({str(out)!r}, 'w').write(str('PASSPHRASE' in os.environ) + os.environ['KEPT'])"

    run_hook("before", [sys.executable, "-c", code], timeout=60, environ={"PASSPHRASE": "x", "KEPT": "yes"})

    assert out.read_text() == "Falseyes"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.realtime
def test_a_hook_that_does_not_end_is_killed_with_its_children() -> None:
    began = time.monotonic()

    with pytest.raises(AsyncdupError, match="the hook before had not ended after .* and was killed: sh"):
        run_hook("before", ["sh", "-c", "sleep 600 & sleep 600"], timeout=0.2, environ=dict(os.environ))

    assert time.monotonic() - began < 60


def test_a_hook_that_is_not_there_is_named() -> None:
    with pytest.raises(AsyncdupError, match="the hook after cannot be started: no-such-program: No such file"):
        run_hook("after", ["no-such-program"], timeout=1, environ={"PATH": "/nowhere"})


# What is wrong with a profile.


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ("source = ", "is no TOML: Invalid value (at end of document)", None),
        ('source = "/x"\nsource = "/y"\n', "line 2", None),
        ("", "source is missing or empty", None),
        ('source = "rel"\ntarget = "file:///t"\n', "source wants an absolute path", None),
        ('source = "/x"\ntarget = "/t"\n', "target wants a URL", None),
        (BASE + "sources = 1\n", "sources is unknown", "did you mean source?"),
        (BASE + "colour = 1\n", "colour is unknown", "known there: source, target"),
        (BASE + "[options]\nconcurency = 5\n", "options.concurency is unknown", "did you mean concurrency?"),
        (BASE + '[options]\nconcurrency = "many"\n', "[options] or rules: --concurrency wants", None),
        (BASE + "[options]\nforce = 1\n", "options.force is a switch", None),
        (BASE + "[options]\nname = true\n", "options.name wants a value: NAME", None),
        (BASE + '[options]\nconfig-dir = "x"\n', "options.config-dir is unknown", None),
        (BASE + '[options]\nexclude = "x"\n', "options.exclude is unknown", None),
        (BASE + 'rules = "exclude x"\n', "rules wants a list", None),
        (BASE + 'rules = ["exclude /a", "skip /b"]\n', "rules, number 2, wants a kind of rule", "kinds: "),
        (BASE + 'rules = ["exclude"]\n', "rules, number 1,", None),
        (BASE + "[retention]\nkeep-hourly = 3\n", "retention.keep-hourly is unknown", "did you mean keep-"),
        (BASE + "[retention]\nkeep-daily = 0\n", "[retention]: --keep-daily wants", None),
        (BASE + '[hooks]\nbefore = "systemctl stop db"\n', "hooks.before wants a command as a list of words", None),
        (BASE + "[hooks]\nafter = []\n", "hooks.after wants a command", None),
        (BASE + "[hooks]\ntimeout = 0\n", "hooks.timeout wants seconds above zero", None),
        (BASE + "[hooks]\non-failure = ['x']\n", "hooks.on-failure is unknown", "did you mean failure?"),
        (BASE + "hooks = 3\n", "hooks wants a table", None),
        (BASE + "[environment]\nX = 3\n", "environment.X wants a text", None),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(text: str, complaint: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_profile(text.encode(), name="p", where="/etc/p.toml")

    assert str(caught.value).startswith("/etc/p.toml") and complaint in str(caught.value)
    assert hint is None or hint in (caught.value.hint or "")


def test_lists_switches_and_durations_become_words() -> None:
    text = BASE + '[options]\nencrypt-key = ["A", "B"]\nforce = true\nconcurrency = 5\n[hooks]\nfailure = ["x", "$HOME"]\ntimeout = "10m"\n'

    profile = parse_profile(text.encode(), name="p", where="p")

    assert profile.options == ("--encrypt-key=A", "--encrypt-key=B", "--force", "--concurrency=5")
    assert (profile.hooks, profile.hook_timeout) == ({"failure": ("x", "$HOME")}, 600)


def test_rules_keep_their_order_and_are_for_the_source_only() -> None:
    profile = parse_profile(
        (BASE + 'rules = ["include /src/a b", "exclude **", "exclude-other-filesystems"]\n').encode(), name="p", where="p"
    )

    rules = ["--include=/src/a b", "--exclude=**", "--exclude-other-filesystems"]
    assert profile.words("full", ["-v9"]) == ["full", "/src", "file:///there", *rules, "-v9"]
    assert profile.words("verify", []) == ["verify", "file:///there", "/src", *rules]
    assert profile.words("restore", ["/new"]) == ["restore", "file:///there", "/new"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run"], "run wants PROFILE"),
        (["init", "--force"], "init wants PROFILE"),
        (["run", "none"], "cannot be read"),
        (["run", "docs", "bakcup"], "no command"),
    ],
)
def test_wrong_use_is_told(home: Path, capsys: Output, words: list[str], complaint: str) -> None:
    write(home)

    assert main(words) == 23
    assert complaint in capsys.readouterr().err


def test_a_profile_with_secrets_that_others_can_read_is_refused(home: Path, capsys: Output) -> None:
    write(home, '[environment]\nAWS_SECRET_ACCESS_KEY = "canary"\n').chmod(0o644)

    assert main(["run", "docs"]) == 23
    said = capsys.readouterr().err
    assert "chmod 600" in said and "canary" not in said
    assert "canary" not in repr(parse_profile((BASE + '[environment]\nX = "canary"\n').encode(), name="p", where="p"))


def test_a_folder_called_run_can_still_be_backed_up() -> None:
    assert parse_invocation(["run", "file:///there"]) is None
    assert parse_invocation(["run", "--help"]) is None
    assert parse_invocation(["backup", "run", "file:///there"]) is None


# Writing one.


def test_init_writes_what_was_said_for_its_owner_alone_and_run_takes_it(home: Path, capsys: Output) -> None:
    words = [f"--source={home}/docs", "--target", f"file://{home}/backup", "--no-encryption", "--keep-daily=7", "--keep-monthly", "12"]

    assert main(["init", "new", *words]) == 0
    path = home / ".config" / "asyncdup" / "new.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["new.toml"]
    assert "asyncdup run new" in capsys.readouterr().out
    assert main(["run", "new", f"--archive-dir={home}/archive"]) == 0
    assert parse_profile(path.read_bytes(), name="new", where="x").retention == ("--keep-daily=7", "--keep-monthly=12")


def test_init_does_not_write_over_a_profile_unasked(home: Path, capsys: Output) -> None:
    path = write(home)
    before = path.read_text()
    words = ["init", "docs", "--source=docs", f"--target=file://{home}/other", "--no-encryption"]

    assert main(words) == 23
    assert path.read_text() == before and "--force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert f'source = "{home}/docs"' in path.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--source=docs"], "init wants --target"),
        (["--source=docs", "--target=/plain"], "target wants a URL"),
        (["--source=docs", "--target=file:///x", "--keep-daily=few"], "--keep-daily wants a whole number"),
        (["--source"], "--source wants a value"),
        (["--volsize=5"], "init does not know --volsize\n"),
    ],
)
def test_init_without_a_terminal_says_what_is_missing_and_writes_nothing(
    home: Path, capsys: Output, words: list[str], complaint: str
) -> None:
    assert main(["init", "new", *words]) == 23
    assert complaint in capsys.readouterr().err
    assert not (home / ".config").exists()


def test_init_asks_the_few_questions(home: Path) -> None:
    answers = {
        "What": f'{home}/with "quotes"',
        "Where": "sftp://me@nas//backup",
        "A file": "~/secret",
        "Daily": "7",
        "Weekly": "",
        "Monthly": "12",
    }
    invocation = parse_invocation(["init", str(home / "p.toml")])
    assert invocation is not None

    run_profile.make_profile(
        invocation, os.environ, lambda question: answers[question.split(" ")[0] if " file" not in question else "A file"], io.StringIO()
    )

    profile = parse_profile((home / "p.toml").read_bytes(), name="p", where="p")
    assert (profile.source, profile.target) == (f'{home}/with "quotes"', "sftp://me@nas//backup")
    assert profile.passphrase_file == home / "secret"
    assert profile.retention == ("--keep-daily=7", "--keep-monthly=12")


def test_the_profile_of_the_readme_is_one() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

    profile = parse_profile(example.encode(), name="home", where="README.md")

    assert profile.words("backup", [])[:3] == ["backup", "/home/me", "sftp://me@nas//backup/home"]
    assert set(profile.hooks) == {"before", "after", "failure"}
