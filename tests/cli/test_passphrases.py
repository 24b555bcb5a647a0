"""P15: where passphrases come from, and that they go nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncdup.cli.parser import parse
from asyncdup.cli.passphrases import Secrets, find_secrets
from asyncdup.errors import UsageError

URL = "file:///there"


def typing(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    asked: list[str] = []
    left = iter(answers)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(left)

    return ask, asked


def test_the_environment_comes_first() -> None:
    ask, asked = typing()

    secrets = find_secrets(parse(["src", URL]), {"PASSPHRASE": "p", "BACKEND_PASSWORD": "b"}, ask)

    assert (secrets.passphrase, secrets.sign_passphrase, secrets.backend_password) == ("p", None, "b")
    assert asked == []


def test_a_backup_asks_twice_and_again_after_a_slip() -> None:
    ask, asked = typing("one", "other", "right", "right")

    assert find_secrets(parse(["src", URL]), {}, ask).passphrase == "right"
    assert len(asked) == 4


def test_a_backup_gives_up_after_three_slips() -> None:
    ask, _ = typing("a", "b", "c", "d", "")

    with pytest.raises(UsageError, match="3 tries"):
        find_secrets(parse(["src", URL]), {}, ask)


@pytest.mark.parametrize("command", ["restore", "verify"])
def test_reading_asks_once(command: str) -> None:
    ask, asked = typing("p")

    assert find_secrets(parse([command, URL, "dst"]), {}, ask).passphrase == "p"
    assert len(asked) == 1


@pytest.mark.parametrize("words", [["src", URL], [URL, "dst"], ["verify", URL, "dst"], ["inc", "src", URL]])
def test_without_a_terminal_the_ways_out_are_named(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        find_secrets(parse(words), {}, None)

    assert caught.value.exit_code == 23
    assert all(way in (caught.value.hint or "") for way in ("PASSPHRASE", "--encrypt-key", "--no-encryption"))


@pytest.mark.parametrize("option", ["--no-encryption", "--encrypt-key=A", "--hidden-encrypt-key=A", "--use-agent"])
def test_nobody_is_asked_where_no_passphrase_is_needed(option: str) -> None:
    ask, asked = typing()

    assert find_secrets(parse(["src", URL, option]), {}, ask).passphrase is None
    assert asked == []


@pytest.mark.parametrize("words", [["collection-status", URL], ["ls", URL]])
def test_listing_needs_no_passphrase_where_nobody_can_be_asked(words: list[str]) -> None:
    assert find_secrets(parse(words), {}, None).passphrase is None


def test_an_empty_passphrase_encrypts_nothing() -> None:
    with pytest.raises(UsageError, match="empty"):
        find_secrets(parse(["src", URL]), {"PASSPHRASE": ""}, None)


def test_no_encryption_hands_no_passphrase_on() -> None:
    assert find_secrets(parse(["src", URL, "--no-encryption"]), {"PASSPHRASE": "p"}, None).passphrase is None


@pytest.mark.parametrize(
    ("options", "environ", "answers", "expected"),
    [
        (["--sign-key=S", "--encrypt-key=A"], {"SIGN_PASSPHRASE": "s"}, [], "s"),
        (["--encrypt-sign-key=S"], {"PASSPHRASE": "p"}, [], "p"),
        (["--encrypt-sign-key=S"], {"PASSPHRASE": "p", "SIGN_PASSPHRASE": "s"}, [], "s"),
        (["--sign-key=S", "--encrypt-key=A"], {}, ["typed"], "typed"),
        (["--sign-key=S", "--encrypt-key=A"], {}, [""], None),
        (["--sign-key=S", "--encrypt-key=A", "--use-agent"], {}, [], None),
    ],
)
def test_the_passphrase_of_the_signing_key(options: list[str], environ: dict[str, str], answers: list[str], expected: str | None) -> None:
    ask, _ = typing(*answers)

    assert find_secrets(parse(["src", URL, *options]), environ, ask).sign_passphrase == expected


def test_secrets_do_not_show() -> None:
    assert "geheim" not in repr(Secrets(passphrase="geheim", sign_passphrase="geheim", backend_password="geheim"))
