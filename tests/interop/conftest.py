"""What the interop tests need: stock duplicity, the fixtures' key ring, archives to be written and read by both programs.

The modules beside this one are imported as ``interop.…``: test folders are no packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from interop.archives import PASSPHRASE, PLAIN, Archive, Form
from interop.both import Program
from interop.stock import Stock, find_python, is_version

MakeArchive = Callable[..., Archive]


def missing(what: str) -> None:
    """Skip the test; but a run that is to prove something must not leave it out."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """Stock duplicity 3.2.1, once a worker."""
    python = find_python(TESTS.parent, os.environ)
    if python is None:
        missing("stock duplicity 3.2.1 is not here: scripts/test installs it in .stock; ASYNCDUP_STOCK may name another python that has it")
        return
    program = Stock(python, tmp_path_factory.mktemp("stock"))
    try:
        if not is_version(version := program("--version")):
            missing(f"ASYNCDUP_STOCK is not stock duplicity 3.2.1, but {version}")
        yield program
    finally:
        program.close()


@pytest.fixture(scope="session")
def keyring() -> Iterator[Path]:
    """A GNUPGHOME with the fixtures' TEST key, for gpg as we and as stock call it. Its agent ends with the session."""
    if shutil.which("gpg") is None:
        missing("gpg is not here")
    folder = Path(tempfile.mkdtemp(prefix="k"))  # a short path: the names of sockets are at most 107 bytes
    (folder / "gpg-agent.conf").write_text("s2k-count 65536\n")  # the least: a key is then unlocked in no time
    key = TESTS / "fixtures/pubkey-signed/TEST-KEY-do-not-trust.secret.asc"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(folder))
        gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase-fd", "0", "--import", str(key)]
        subprocess.run(gpg, input=PASSPHRASE, text=True, check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=True, capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def archive(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Archive]:
    """Make an archive below the test's folder, with the program and the keys that it needs."""

    def make(form: Form = PLAIN, *, one_cache: bool = False, with_stock: bool = True, source: Path | None = None) -> Archive:
        if "encryption" in form.options:
            request.getfixturevalue("keyring")
        program = request.getfixturevalue("stock") if with_stock else None
        return Archive(tmp_path / "archive", program, form, one_cache=one_cache, source=source)

    return make


@pytest.fixture
def fixture_archive(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Archive]:
    """A copy of a folder of ``fixtures`` as an archive."""

    def make(name: str, form: Form = PLAIN, *, with_stock: bool = False) -> Archive:
        if "encryption" in form.options:
            request.getfixturevalue("keyring")
        program = request.getfixturevalue("stock") if with_stock else None
        made = Archive(tmp_path / name, program, form)
        shutil.copytree(TESTS / "fixtures" / name / "remote", made.target)
        return made

    return make


@pytest.fixture
def both(tmp_path: Path, stock: Stock) -> tuple[Program, Program]:
    """asyncdup and stock duplicity, with targets and caches of their own and one source, which has the file ``a`` and a folder."""
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "a").write_text("a")
    (source / "folder" / "b").write_text("b")
    for path in (source / "a", source / "folder" / "b", source / "folder", source):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    return Program(tmp_path / "us", source), Program(tmp_path / "stock", source, stock)


@pytest.fixture
def fixtures() -> Path:
    """Archives made by stock, with what they restore to."""
    return TESTS / "fixtures"


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local times are UTC, as they were for ``stock-output``."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()
