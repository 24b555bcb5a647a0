"""What the documents say is tried: the examples run, the commands of the README do what they are there for."""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncdup
from asyncdup.backends.registry import _FACTORIES
from asyncdup.cli import orders, run_profile
from asyncdup.cli.main import main
from asyncdup.cli.options import OPTIONS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
DAY = 86400


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def run(code: str) -> None:
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})  # noqa: S102 - the documents' own code


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with documents in it, where the examples are run."""
    home = tmp_path / "home"
    (home / "Documents" / "letters").mkdir(parents=True)
    (home / "Documents" / "letters" / "2024").write_text("Dear reader,\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.chdir(home)
    return home


def test_the_application_backs_up_and_restores(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("docs/embedding.md", "python")[0])

    assert re.fullmatch(r"volume 1 is stored \(\d+ bytes\)\n2 new entries\n1 changed\nDear reader, hello\.\n", capsys.readouterr().out)
    assert sorted(path.name for path in home.iterdir()) == ["Documents", "cache", "documents", "restored", "target"]


def test_the_engine_works_by_itself(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        run(blocks("docs/embedding.md", "python")[1])
    finally:
        _FACTORIES.pop("shelf", None)

    assert capsys.readouterr().out == "it worked at attempt 3\npart1 5\npart2 10\npart3 15\n"
    assert sorted(path.name for path in (home / "shelf").iterdir()) == ["list", "part1", "part2", "part3"]


def test_no_example_is_left_out() -> None:
    found = {document.name: len(blocks(str(document.relative_to(ROOT)), "python")) for document in DOCUMENTS}

    assert {name: count for name, count in found.items() if count} == {"README.md": 1, "embedding.md": 2}


def test_the_readme_embeds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("README.md", "python")
    example = example.replace("/srv/data", str(home / "Documents")).replace("sftp://me@nas//backup/data", "file://backup")

    run("import asyncio\nasync def main():\n" + textwrap.indent(example, "    ") + "asyncio.run(main())\n")

    assert re.fullmatch(r"full\.\d{8}T\d{6}Z 3\n", capsys.readouterr().out)


def commands() -> list[list[str]]:
    text = "".join(blocks("README.md", "sh")).replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("asyncdup ")]


@pytest.fixture
def gnupg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GnuPG that has no keys, and that makes one of a passphrase in no time."""
    folder = tmp_path / "gnupg"
    folder.mkdir(mode=0o700)
    (folder / "gpg-agent.conf").write_text("s2k-count 65536\n")
    monkeypatch.setenv("GNUPGHOME", str(folder))
    monkeypatch.setenv("PASSPHRASE", "correct horse battery staple")
    yield
    subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.usefixtures("gnupg")
def test_the_commands_of_the_readme_run(home: Path) -> None:
    """One after the other, over file://, days apart: those that restore find what the first ones made."""
    places = {
        "sftp://me@nas//backup/docs": f"file://{home}/backup",
        "sftp://user@host//path": f"file://{home}/backup",
        "/path/to/dir": f"{home}/Documents",
        "/path/to/flag": f"{home}/flag",
        "~": str(home),
    }
    tried = []
    for number, words in enumerate(commands()):
        for said, meant in places.items():
            words = [word.replace(said, meant) for word in words]
        assert main([*words, f"--current-time={1_700_000_000 + number * 2 * DAY}", "-v0"]) == 0, words
        tried.append(words[0])

    assert {"backup", "full", "incremental", "restore", "verify", "collection-status", "list-current-files"} <= set(tried)
    assert (home / "restored" / "letters" / "2024").read_text() == "Dear reader,\n"
    assert (home / "old").read_text() == "Dear reader,\n"
    assert not (home / "flag").exists()


@pytest.mark.slow
def test_the_emergency_page_works_without_asyncdup(home: Path) -> None:
    """With tar, gzip and rdiff: files that fit a volume, one that does not, and one that changed."""
    big = home / "Documents" / "letters" / "long and big"
    big.write_bytes(random.Random(1).randbytes(3 << 20))
    two_days_of_backups(home)

    for block in blocks("docs/emergency.md", "sh hand"):
        subprocess.run(["sh", "-euc", block], check=True, env={"HOME": str(home), "PATH": os.environ["PATH"]}, cwd=home)

    assert (home / "by-hand/snapshot/letters/2024").read_text() == "Dear reader,\n"
    assert (home / "by-hand/snapshot/letters/long and big").read_bytes() == big.read_bytes()
    assert (home / "letter-by-hand").read_text() == "Dear reader,\nhello.\n"


def two_days_of_backups(home: Path) -> None:
    """A full of small volumes, and an incremental of one changed letter a day later."""
    words = [str(home / "Documents"), f"file://{home}/backup", "--no-encryption", "--volsize=1", "-v0"]
    assert main(["full", *words, f"--current-time={1_700_000_000}"]) == 0
    (home / "Documents" / "letters" / "2024").write_text("Dear reader,\nhello.\n")
    assert main(["incremental", *words, f"--current-time={1_700_000_000 + DAY}"]) == 0


def test_every_option_in_the_documents_is_one() -> None:
    known = {f"--{name}" for option in OPTIONS for name in (option.name, *option.aliases)}
    known |= {f"--{name}" for name in (*orders.OPTIONS, *run_profile.FLAGS)}
    for document in DOCUMENTS:
        if document.name in ("options.md", "reference.md"):
            continue  # made from the table, and from what duplicity dropped
        text = re.sub(
            r"\./scripts/\S+|nox[^\n`]*|(?:pip|gpg) [^\n`]*|(?:systemctl|journalctl) [^\n`]*|pytest[^\n`]*|benchmarks\.\w+[^\n]*",
            "",
            document.read_text(),
        )
        said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
        assert said - known - {"--help"} == set(), document.name


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), (document.name, link)


def test_every_scheme_in_the_documents_is_known() -> None:
    for document in DOCUMENTS:
        said = set(re.findall(r"\b([a-z+]+)://", document.read_text())) - {"https", "scheme", "shelf"}
        assert said <= set(asyncdup.known_schemes()), document.name


def test_help_is_what_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main(["--help", "full"]) == 0
    assert "--concurrency" in capsys.readouterr().out


def test_no_document_knows_this_machine() -> None:
    here = os.fspath(ROOT.parent)
    assert not [document.name for document in DOCUMENTS if f"{here}/" in document.read_text()]
