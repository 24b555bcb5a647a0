"""What the documents say is tried: the examples run, the commands of the README do what they are there for."""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncdup
from asyncdup.backends.registry import _FACTORIES
from asyncdup.cli import orders, run_profile
from asyncdup.cli.main import main
from asyncdup.cli.options import OPTIONS
from asyncdup.cli.profiles import parse_profile

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
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


# Commands of the documents that no test can run, by how they begin.
NOT_RUN = {
    "./scripts/": "sets up a machine; the pipeline runs them",
    "asyncdup job status": "asks a run that is under way: tests/cli/test_orders.py",
    "asyncdup mount": "runs until it is unmounted: tests/commands/test_mount.py",
    "export PASSPHRASE": "the fixture does",
    "loginctl": "of systemd",
    "nox": "runs these tests",
    "python -m benchmarks.": "takes minutes or hours: tests/test_benchmarks*.py",
    "systemctl": "of systemd",
}
_OURS = re.compile(r"^(?:asyncdup|python -m|nox|systemctl|sysctl|kill) ")  # how an indented line begins that is a command and no output


def lines_of(document: str) -> list[str]:
    """Every command of a page: of its ``sh`` blocks, and those on indented lines."""
    text = re.sub(r"```sh (?:stock|hand)\n.*?```", "", (ROOT / document).read_text(), flags=re.DOTALL).replace("\\\n", " ")
    found = re.findall(r"^```sh\n(.*?)^```$|^    (\S[^\n]*)$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block, single in found for line in (block.splitlines() if block else filter(_OURS.match, [single]))]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN))


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


@pytest.fixture
def evening() -> Iterator[None]:
    """The reader's clock stands at 22:13 UTC; some timetable of a page has a pause at noon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


class Reader:
    """One who types what a page says, over file://, each command two days after the one before."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._now = 1_700_000_000
        self._places = {
            "sftp://me@nas//backup/docs": f"file://{home}/backup",
            "sftp://user@host//path": f"file://{home}/backup",
            "sftp://host//path": f"file://{home}/backup",
            "URL": f"file://{home}/backup",
            "/path/to/dir": f"{home}/Documents",
            "/home/u": f"{home}/Documents",
            "/path/to/flag": f"{home}/flag",
            "/var/lib/node_exporter": str(home),
            "/tmp/trace.json": f"{home}/trace.json",
            "~": str(home),
        }

    def types(self, line: str) -> None:
        for said, meant in self._places.items():
            line = line.replace(said, meant)
        words = shlex.split(line.partition(" | ")[0], comments=True)
        if words[0] == "asyncdup":
            self._asyncdup(words[1:])
        else:
            subprocess.run(["sh", "-euc", line], check=True, cwd=self._home)

    def _asyncdup(self, words: list[str]) -> None:
        self._now += 2 * DAY
        clock = [] if words[0] == "init" else [f"--current-time={self._now}", "-v0"]
        assert main([*words, *clock]) == 0, words


@pytest.mark.slow
@pytest.mark.usefixtures("gnupg", "evening")
@pytest.mark.parametrize("document", [page for page in PAGES if any(map(is_run, lines_of(page)))])
def test_the_commands_of_a_page_run(document: str, home: Path) -> None:
    """One after the other: those that restore find what the first ones made, or what was there before."""
    reader = Reader(home)
    if document in ("docs/intervention.md", "docs/moving.md", "docs/json.md", "docs/profiles.md"):
        reader.types("asyncdup full ~/Documents URL")
    if document == "docs/profiles.md":
        reader.types("mkdir -p ~/.config/asyncdup; (umask 077; echo 'correct horse battery staple' > ~/.config/asyncdup/passphrase)")

    for line in filter(is_run, lines_of(document)):
        reader.types(line)

    if document == "README.md":
        assert (home / "restored" / "letters" / "2024").read_text() == "Dear reader,\n"
        assert (home / "old").read_text() == "Dear reader,\n"
        assert not (home / "flag").exists()


def test_no_command_is_left_out_without_a_reason() -> None:
    """And no reason is left that no page has a command for."""
    lines = [line for page in PAGES for line in lines_of(page)]

    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []
    assert sum(map(is_run, lines)) > 40


def test_every_profile_in_the_documents_is_one() -> None:
    found = [(page, block) for page in PAGES for block in blocks(page, "toml")]

    for page, block in found:
        parse_profile(block.encode(), name="docs", where=page)
    assert {page for page, _ in found} == {"README.md", "docs/profiles.md"}


def test_init_writes_what_the_page_shows(home: Path) -> None:
    (line,) = [line for line in lines_of("docs/profiles.md") if line.startswith("asyncdup init docs")]

    assert main(shlex.split(line.replace("~", "/home/me"))[1:]) == 0

    assert (home / ".config" / "asyncdup" / "docs.toml").read_text() == blocks("docs/profiles.md", "toml")[0]


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
    here = os.fspath(ROOT)
    assert not [document.name for document in DOCUMENTS if f"{here}/" in document.read_text()]
