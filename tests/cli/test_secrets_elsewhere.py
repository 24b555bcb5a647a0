"""P15, where it is easily forgotten: hosts that are not found, retries, a kill in the middle, other programs that are started, secrets in files and
in what was mistyped. The search itself is ``cli.canary``."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from cli.canary import CANARY, LOGIN, Echo, Stage, clean, named, until
from network.conftest import Sshd, keys, make_sshd, need_sshd  # noqa: F401 - fixtures are used by being here

pytestmark = [pytest.mark.realtime, pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")]

FEW = ("full", "restore", "collection-status")  # one of each kind: that makes, that reads, that lists
OURS_ALONE = {"PASSPHRASE", "SIGN_PASSPHRASE"}  # what no helper of a backend has any business with


@pytest.fixture
def stage(secret_stage: Stage) -> Stage:
    return secret_stage


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder in which secrets may stand: it is not searched."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


def run_few(stage: Stage, url: str, *more: str) -> None:
    for name in FEW:
        assert stage.run(*stage.words(named(name), url, "--no-encryption", *more)) not in (0, 62), name


@pytest.mark.parametrize("scheme", ["sftp", "webdav", "s3"])
def test_a_host_that_is_not_found(scheme: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: no name server is asked; the answer is what one says of names that there are not."""

    def not_found(host: object, *rest: object, **options: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host!r}")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    url = "s3://bucket/folder" if scheme == "s3" else f"{scheme}://{LOGIN}nowhere.invalid/x"
    run_few(stage, url, "--s3-endpoint-url=http://nowhere.invalid")
    said = stage.said()

    assert "nowhere.invalid" in said
    stage.look(said)


@pytest.mark.parametrize("scheme", ["webdav", "s3"])
def test_retries_that_are_exhausted(scheme: str, stage: Stage, echo: str) -> None:
    """P15: each failure is told, with what the server says; stock's log goes to a file descriptor."""
    Echo.status = 503
    url = f"webdav://{LOGIN}{echo}/x" if scheme == "webdav" else "s3://bucket/folder"
    with (stage.folder / "log-fd").open("wb") as log:
        words = [f"--s3-endpoint-url=http://{echo}", "--num-retries=3", f"--log-fd={log.fileno()}"]
        made = [word for word in stage.words(named("full"), url, "--no-encryption", *words) if not word.startswith("--log-file")]
        assert stage.run(*made) == 50
    said = stage.said()

    assert Echo.count >= 3 and "3 attempts" in said
    assert (stage.folder / "log-fd").stat().st_size
    stage.look(said)


def test_killed_with_volumes_in_the_spool(stage: Stage, make_sshd: Callable[..., Sshd]) -> None:  # noqa: F811 - the fixture
    """P15: encrypted volumes that wait to be sent, the journal and the cache; and what all children were started with meanwhile."""
    server = make_sshd()
    (stage.source / "noise").write_bytes(os.urandom(3 << 20))
    login = f"--ssh-options=-F none -i {server.keys.user} -oUserKnownHostsFile={server.keys.known_hosts}"
    url = f"sftp://{LOGIN.replace('user', server.user)}127.0.0.1:{server.port}/x"
    words = stage.words(named("full"), url, login, "--volsize=1", "--concurrency=2", "--upload-limit=20k", "--timeout=60")
    run = subprocess.Popen([sys.executable, "-m", "asyncdup", *words], env=stage.environment())
    started: set[str] = set()

    def volumes() -> list[Path]:
        started.update(map(_command_line, psutil.Process(run.pid).children(recursive=True)))
        return [path for path in (stage.folder / "tmp").rglob("*") if path.is_file() and path.stat().st_size > 500_000]

    try:
        until(lambda: len(volumes()) >= 2 and any("gpg" in words for words in started))
    finally:
        run.kill()
        run.wait()

    for folder in ("cache", "tmp"):
        assert any(path.is_file() for path in (stage.folder / folder).rglob("*")), f"nothing to search in {folder}"
    clean("\n".join(started), "what children were started with")
    stage.look(stage.said())


def _command_line(process: psutil.Process) -> str:
    try:
        return "\0".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def test_a_login_that_sshd_refuses(stage: Stage, make_sshd: Callable[..., Sshd]) -> None:  # noqa: F811 - the fixture
    """P15: the password is sent, and refused."""
    server = make_sshd("PasswordAuthentication yes")
    options = f"--ssh-options=-F none -oUserKnownHostsFile={server.keys.known_hosts} -oPreferredAuthentications=password"
    for user in (getpass.getuser(), "nobody-of-that-name"):
        run_few(stage, f"sftp://{LOGIN.replace('user', user)}127.0.0.1:{server.port}/x", options)
    said = stage.said()

    assert "password" in said.lower() or "login" in said.lower() or "permission" in said.lower()
    stage.look(said)


@pytest.fixture
def recorder(private: Path) -> Iterator[tuple[Path, Path, Path]]:
    """A program that ends at once: it, what it was started with, and the names in its environment."""
    program, words, names = (private / name for name in ("rclone", "words", "names"))
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {words}\nenv | cut -d= -f1 >> {names}\necho no such thing >&2\nexit 3\n')
    program.chmod(0o700)
    yield program, words, names


@pytest.mark.parametrize("url", ["rclone://remote:/x", f"duplicity+ftp://{LOGIN}127.0.0.1:1/x"])
def test_what_programs_of_backends_are_started_with(url: str, stage: Stage, recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: no secret among their words; of the environment not what is for gpg."""
    program, words, names = recorder
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    run_few(stage, url, f"--duplicity-python={program}")

    clean(words.read_text(), f"what {program.name} was started with")
    assert not OURS_ALONE & set(names.read_text().split())
    stage.look(stage.said())


def test_secrets_from_the_keyring(stage: Stage, echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: none is in the environment; the keyring gives the passphrase, which gpg takes, and a password, which the server says back."""
    for name in ("PASSPHRASE", "SIGN_PASSPHRASE", "BACKEND_PASSWORD", "FTP_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=lambda service, name: CANARY))
    assert stage.run(*stage.words(named("full"), stage.url, "--keyring")) == 0
    run_few(stage, f"webdav://user@{echo}/x", "--keyring")

    assert any(CANARY in said for said in Echo.said) and stage.record.stat().st_size
    stage.look(stage.said())


@pytest.mark.parametrize(
    "text", ["password = {}\nacct = {}\n", "[ftp]]\npassword = {}\n", "password = {}{}\n"], ids=["right", "table", "value"]
)
def test_secrets_in_storage_options_of_fsspec(text: str, stage: Stage, private: Path) -> None:
    """P15: also if the file cannot be read as TOML."""
    options = private / "fsspec.toml"
    options.write_text(text.replace("{}", json.dumps(CANARY)))
    options.chmod(0o600)
    run_few(stage, "fsspec+ftp://user@127.0.0.1:1/x", f"--fsspec-options={options}")
    stage.look(stage.said())


def test_secrets_in_the_environment_of_a_profile(stage: Stage, echo: str, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: as those of the real one; a line in it that is wrong is not repeated."""
    for name in ("PASSPHRASE", "BACKEND_PASSWORD", "FTP_PASSWORD"):
        monkeypatch.delenv(name)
    profile, secret = private / "p.toml", json.dumps(CANARY)
    options = f'archive-dir = "{stage.folder}/cache"\nnum-retries = 1\nverbosity = "9"\nlog-json = "{stage.folder}/log-json"\n'
    whole = f'source = "{stage.source}"\ntarget = "webdav://user@{echo}/x"\n[options]\n{options}[environment]\n'
    given = f"PASSPHRASE = {secret}\nBACKEND_PASSWORD = {secret}\n"
    for text in (
        whole + given,
        f"{whole}{given}PASSPHRASE = {secret}\n",
        f"{whole}BACKEND_PASSWORD = [{secret}]\n",
        f"{whole}X = {secret[:-1]}\n",
    ):
        profile.write_text(text)
        profile.chmod(0o600)
        assert stage.run("run", str(profile)) not in (0, 62)

    assert any(CANARY in said for said in Echo.said)
    stage.look(stage.said())


MISTYPED = [
    f"sftp//{LOGIN}host/x",
    f"sftp:/{LOGIN}host/x",
    f"sftp:{LOGIN}host/x",
    f"stfp://{LOGIN}host/x",
    f"sftp://{LOGIN}host:22:22/x",
    f"sftp://{LOGIN}[host/x",
    f" sftp://{LOGIN}host/x",
    f"webdav://user:{CANARY}@host/x",
    f"--{LOGIN}host",
]


@pytest.mark.parametrize("url", MISTYPED)
def test_a_url_that_is_mistyped_is_not_repeated_with_its_password(url: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: whatever is taken for the password by the eye is left out."""
    monkeypatch.chdir(stage.folder)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *words, **options: (_ for _ in ()).throw(socket.gaierror(socket.EAI_NONAME, "not known"))
    )
    assert stage.run(*stage.words(named("collection-status"), url)) not in (0, 62)
    stage.look(stage.said())


@pytest.mark.parametrize(
    "option", ["--webdav-headers=Authorization,Bearer {},odd", "--webdav-header=X-Key,{}", "--passphrase={}", "--password={}"]
)
def test_a_secret_in_an_option_that_is_wrong_or_not_there_is_not_repeated(option: str, stage: Stage) -> None:
    """P15."""
    run_few(stage, "webdav://user@127.0.0.1:1/x", option.format(CANARY))
    stage.look(stage.said())
