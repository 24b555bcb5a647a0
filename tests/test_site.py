"""The pages for newcomers: every command in them runs, one after the other, as it is printed; the units are what systemd takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
REMOTE = "sftp://me@nas//backup/docs"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home folder with documents, a GnuPG that makes keys of passphrases in no time, and a folder in the place of the other machine."""
    home = tmp_path / "home"
    (home / "Documents" / "letters").mkdir(parents=True)
    (home / "Documents" / "letters" / "2024").write_text("Dear reader,\n")
    gnupg = tmp_path / "gnupg"
    gnupg.mkdir(mode=0o700)
    (gnupg / "gpg-agent.conf").write_text("s2k-count 65536\n")
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "asyncdup").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; from asyncdup.cli.main import main; sys.exit(main())" "$@"\n'
    )
    (bin / "asyncdup").chmod(0o755)
    yield {"HOME": str(home), "GNUPGHOME": str(gnupg), "PATH": f"{bin}:{os.environ['PATH']}"}
    subprocess.run(["gpgconf", "--homedir", gnupg, "--kill", "all"], check=False, capture_output=True)


def run_page(name: str, environment: dict[str, str]) -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    home = environment["HOME"]
    script = "".join(blocks).replace(REMOTE, f"file://{home}/nas")
    done = subprocess.run(["sh", "-euc", script], env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_first_five_minutes_end_with_an_encrypted_backup_and_a_file_that_came_back(environment: dict[str, str]) -> None:
    said = run_page("start.md", environment)

    home = Path(environment["HOME"])
    assert (home / "letter-of-2024").read_text() == "Dear reader,\n"
    assert "0 difference(s) found" in said
    assert all(path.suffix == ".gpg" for path in (home / "nas").iterdir())


@pytest.mark.slow
def test_moving_from_duplicity_goes_on_with_the_chain(environment: dict[str, str]) -> None:
    environment["PASSPHRASE"] = "correct horse battery staple"
    home = Path(environment["HOME"])
    subprocess.run(
        ["asyncdup", "full", "Documents", f"file://{home}/nas", "-v0", "--current-time=1790000000"], env=environment, cwd=home, check=True
    )

    assert "0 difference(s) found" in run_page("moving.md", environment)


def test_the_units_name_the_commands_of_the_page() -> None:
    """What systemd-analyze verify would say of them depends on the machine; the parts that our own page relies on do not."""
    service = (DOCS / "systemd" / "asyncdup@.service").read_text()

    assert "ExecStart=/usr/bin/env asyncdup run %i\n" in service
    assert re.findall(r"^SuccessExitStatus=(.*)$", service, re.MULTILINE) == ["60 62"]
    assert "Persistent=true" in (DOCS / "systemd" / "asyncdup@.timer").read_text()


def test_every_page_is_in_the_site() -> None:
    listed = re.findall(r"^([a-z-]+)$", (DOCS / "index.md").read_text(), re.MULTILINE)

    assert sorted([*listed, "index"]) == sorted(path.stem for path in DOCS.glob("*.md"))
