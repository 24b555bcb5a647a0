"""Completion and the manual page: the shells, man and mandoc themselves take what is made from the table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from asyncdup.cli.completion import completion
from asyncdup.cli.main import main
from asyncdup.cli.manual import manual, reference
from asyncdup.cli.options import ALL, OPTIONS

ROOT = Path(__file__).parents[2]

# What is typed, and what is offered for the last word.
CASES = [
    (["ver"], ["verify"]),
    (["restore", "--overw"], ["--overwrite"]),
    (["restore", "--overwrite", ""], ["always", "never", "older"]),
    (["full", "--retry-failure-mode", "w"], ["wait"]),
    (["job", "res"], ["resume"]),
    (["completion", "f"], ["fish"]),
]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(completion(shell))
    return folder


def offered(*words: str) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=240)
    assert done.stderr == ""
    return sorted(line.partition("\t")[0] for line in done.stdout.splitlines())


def bash(script: Path, words: list[str]) -> list[str]:
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _asyncdup; printf "%s\\n" "${COMPREPLY[@]}"'
    return [line for line in offered("bash", "-c", code, "-", str(script / "bash"), "asyncdup", *words) if line]


def test_bash_offers_commands_options_and_values(script: Path) -> None:
    assert [bash(script, words) for words, _ in CASES] == [found for _, found in CASES]


def test_bash_completes_a_value_behind_an_equals_sign_and_leaves_files_to_readline(script: Path) -> None:
    assert bash(script, ["full", "--retry-failure-mode", "=", "inter"]) == ["intervention"]
    assert bash(script, ["full", "--log-file", ""]) == []
    assert "complete -o default" in completion("bash")


def test_bash_offers_only_options_of_the_command(script: Path) -> None:
    assert bash(script, ["collection-status", "--vols"]) == []
    assert bash(script, ["full", "--vols"]) == ["--volsize"]


@pytest.mark.slow
def test_zsh_reads_the_script_and_offers_the_same(script: Path) -> None:
    """zsh's own matching needs a terminal; its two entry points are replaced by ones that print what they are given."""
    code = (
        "_describe() { print -rl -- ${${(P)2}%%:*} }; _files() { : }; compdef() { : }; "
        'source "$1"; shift; words=("$@"); CURRENT=$#; _asyncdup'
    )
    for words, found in CASES:
        lines = offered("zsh", "-fc", code, "-", str(script / "zsh"), "asyncdup", *words)
        assert [line for line in lines if line.startswith(words[-1])] == found, words


@pytest.mark.slow
def test_fish_offers_the_same(script: Path, tmp_path: Path) -> None:
    asked = "; ".join(f"complete -C 'asyncdup {' '.join(words)}'; echo ---" for words, _ in CASES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script / 'fish'}; {asked}"],
        capture_output=True, text=True, check=True, timeout=240, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, cwd=tmp_path,
    )  # fmt: skip
    answers = [sorted(line.partition("\t")[0] for line in part.split("\n") if line) for part in done.stdout.split("---\n")[:-1]]
    assert answers == [found for _, found in CASES]


def test_another_shell_is_refused_with_the_three_that_are_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 23
    assert "bash, zsh or fish" in capsys.readouterr().err
    assert main(["completion"]) == main(["manual", "x"]) == 23


def test_a_folder_may_be_called_manual(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manual", "nix://x"]) != 0
    assert ".TH" not in capsys.readouterr().out


def test_the_manual_page_passes_mandoc_and_names_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manual"]) == 0
    page = tmp_path / "asyncdup.1"
    page.write_text(capsys.readouterr().out)

    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False, timeout=240)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
    shown = subprocess.run(["mandoc", "-T", "ascii", page], capture_output=True, text=True, check=True, timeout=240).stdout.replace(
        "\b", ""
    )
    assert all(f".B {name.replace('-', chr(92) + '-')}" in manual() for name in ALL)
    assert all(option.name.replace("-", "\\-") in manual() for option in OPTIONS if option.help)
    assert "ASYNCDUP(1)" in shown


def test_the_reference_page_is_fresh() -> None:
    assert (ROOT / "docs" / "reference.md").read_text() == reference(), "python scripts/reference_page.py > docs/reference.md"
