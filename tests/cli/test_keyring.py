"""``--keyring``: what is looked for, in which order, and what is said when there is none (P15)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from asyncdup.cli.keyring_secrets import with_keyring
from asyncdup.cli.main import main
from asyncdup.errors import UsageError

URL = "sftp://me:typed@nas//backup"


class Ring:
    """Holds secrets by (service, name)."""

    def __init__(self, **kept: str) -> None:
        self.kept = {("asyncdup", name): secret for name, secret in kept.items()}
        self.asked: list[tuple[str, str]] = []

    def get_password(self, service_name: str, username: str) -> str | None:
        self.asked.append((service_name, username))
        return self.kept.get((service_name, username))


def test_what_the_environment_has_is_not_asked_for() -> None:
    ring = Ring(PASSPHRASE="kept", BACKEND_PASSWORD="too")

    assert with_keyring({"PASSPHRASE": "given", "HOME": "/"}, URL, ring) == {"PASSPHRASE": "given", "HOME": "/", "BACKEND_PASSWORD": "too"}
    assert "PASSPHRASE" not in [name for _, name in ring.asked]


def test_what_is_kept_for_the_place_comes_first_and_no_password_is_in_its_name() -> None:
    ring = Ring(PASSPHRASE="of all")
    ring.kept["asyncdup sftp://me:***@nas//backup", "PASSPHRASE"] = "of this"

    assert with_keyring({}, URL, ring) == {"PASSPHRASE": "of this"}
    assert "typed" not in str(ring.asked)


def test_a_keyring_that_does_not_answer_is_an_error_with_a_way_out() -> None:
    class Locked:
        def get_password(self, service_name: str, username: str) -> str | None:
            raise RuntimeError("no session bus")

    with pytest.raises(UsageError, match="no session bus") as caught:
        with_keyring({}, URL, Locked())
    assert "PASSPHRASE" in str(caught.value.hint)


def test_without_the_package_the_command_for_it_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert main(["--keyring", "collection-status", "file:///nowhere"]) == 23
    assert "pip install 'asyncdup[keyring]'" in capsys.readouterr().err


def test_a_backup_is_encrypted_with_what_the_keyring_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole command line; the restore takes the same passphrase from the environment."""
    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=Ring(PASSPHRASE="kept").get_password))
    monkeypatch.delenv("PASSPHRASE", raising=False)
    (tmp_path / "file").write_text("content")
    words = ["-v0", f"--archive-dir={tmp_path}/cache"]
    assert main(["full", f"{tmp_path}/file", f"file://{tmp_path}/target", "--keyring", *words]) == 0

    monkeypatch.setenv("PASSPHRASE", "kept")
    assert main(["restore", f"file://{tmp_path}/target", f"{tmp_path}/back", *words]) == 0
    assert (tmp_path / "back").read_text() == "content"
