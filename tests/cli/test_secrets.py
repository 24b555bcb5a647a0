"""P15: a canary wherever a secret is handed in, every command, many ways to fail; then every place where it might have come out is searched.

The commands are those of the parser's own table, so that a new one is tried as well. Searched are standard output and error at -v9, both kinds
of log, trace, figures, statistics, the flag file, the folders for the cache, the spool and the target, what the control socket answers, what
gpg and the hooks are started with, and the error with its whole chain and every object of ours in its frames.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from cli.canary import CANARY, LOGIN, WORDS, Echo, Stage, clean, named, until

from asyncdup.cli.options import COMMANDS
from asyncdup.cli.parser import parse
from asyncdup.transfer.hook import _environment

pytestmark = [pytest.mark.realtime, pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")]


@pytest.fixture
def stage(secret_stage: Stage) -> Stage:
    return secret_stage


def test_no_command_shows_a_secret_when_all_goes_well(stage: Stage) -> None:
    """P15: gpg is run for real, and what it was started with is searched as well."""
    plain = f"file://{stage.folder}/plain"
    for name in ("full", "verify", "check"):
        assert stage.run(*stage.words(named(name), stage.url)) == 0
    assert stage.run(*stage.words(named("full"), plain, "--no-encryption", "--name=plain")) == 0
    for command in COMMANDS:
        expected = (23,) if command.name == "mount" else (0, 1)  # it wants an empty folder, and would stay
        assert stage.run(*stage.words(command, plain, "--no-encryption", "--name=plain", "--force")) in expected, command.name

    assert stage.record.stat().st_size
    stage.look(stage.said())


@pytest.mark.parametrize("scheme", ["sftp", "webdav", "s3", "fsspec+ftp", "nonesuch", "unreadable"])
def test_no_command_shows_a_secret_when_there_is_nobody(scheme: str, stage: Stage) -> None:
    """P15: refused connections, schemes that nobody serves, URLs that are none; the password is in the URL where one can be."""
    urls = {
        "s3": "s3://bucket/folder",
        "nonesuch": f"nonesuch://{LOGIN}127.0.0.1/x",
        "unreadable": f"sftp://{LOGIN}127.0.0.1:port/x",
    }
    url = urls.get(scheme, f"{scheme}://{LOGIN}127.0.0.1:1/x")
    for command in COMMANDS:
        if "url" in command.arguments:
            assert stage.run(*stage.words(command, url, "--s3-endpoint-url=http://127.0.0.1:1", "--no-encryption")) not in (0, 62), (
                command.name
            )
    stage.look(stage.said())


@pytest.mark.parametrize("scheme", ["webdav", "s3"])
def test_no_command_repeats_a_secret_that_the_server_says_back(scheme: str, stage: Stage, echo: str) -> None:
    """P15: wrong password, and a server whose refusal quotes it."""
    url = f"webdav://{LOGIN}{echo}/x" if scheme == "webdav" else "s3://bucket/folder"
    for command in COMMANDS:
        if "url" in command.arguments:
            assert stage.run(*stage.words(command, url, f"--s3-endpoint-url=http://{echo}", "--no-encryption")) not in (0, 62), command.name
    assert any(CANARY in said for said in Echo.said), "it was said back"
    stage.look(stage.said())


def test_a_wrong_passphrase_is_not_shown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15."""
    monkeypatch.setenv("PASSPHRASE", "another")
    assert stage.run(*stage.words(named("full"), stage.url)) == 0
    shutil.rmtree(stage.folder / "cache")
    monkeypatch.setenv("PASSPHRASE", CANARY)
    for name in ("restore", "verify", "check", "incremental"):
        assert stage.run(*stage.words(named(name), stage.url)) not in (0, 62)
    stage.look(stage.said())


@pytest.mark.parametrize("wrong", ["--nix={}", "--volsize={}", "--ssh-options=-o {}", "--webdav-headers={}"])
def test_a_wrong_option_beside_a_url_does_not_show_its_password(wrong: str, stage: Stage) -> None:
    """P15: what was said wrong may be repeated, the URL beside it may not."""
    for command in COMMANDS:
        if "url" in command.arguments:
            stage.run(*stage.words(command, f"sftp://{LOGIN}127.0.0.1:1/x", wrong.format("x")))
    stage.look(stage.said())


def test_a_run_that_waits_and_is_killed_leaves_no_secret_behind(stage: Stage, echo: str) -> None:
    """P15, X5, N2, N3: the flag, the hook, the answers of the control socket, then SIGKILL, and everything that is left."""
    flag, hook = stage.folder / "flag", stage.folder / "hook"
    hook.write_text(f"#!/bin/sh\n(cat; env) > {stage.folder}/hooked.tmp; mv {stage.folder}/hooked.tmp {stage.folder}/hooked\n")
    hook.chmod(0o700)
    waiting = ["--retry-failure-mode=intervention", f"--retry-failure-flag={flag}", f"--on-intervention={hook}"]
    words = stage.words(named("full"), f"webdav://{LOGIN}{echo}/x", *waiting)
    run = subprocess.Popen([sys.executable, "-m", "asyncdup", *words], env=stage.environment(), stdout=1, stderr=2)
    try:
        until(lambda: flag.exists() and (stage.folder / "hooked").exists())
        assert resource.prlimit(run.pid, resource.RLIMIT_CORE)[0] == 0
        job = json.loads(flag.read_text())["job"]
        for order in (["status"], ["status", "--json"]):
            assert stage.run("job", *order, "--job", job) == 0
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    stage.look(stage.said())


def test_a_profiles_hooks_get_no_secret_of_ours(stage: Stage) -> None:
    """P15."""
    profile = stage.folder / "home" / "p.toml"
    hooked = stage.folder / "hooked"
    command = json.dumps(["sh", "-c", f"env >> {hooked}"])
    profile.write_text(
        f'source = "{stage.source}"\ntarget = "{stage.url}"\n[options]\narchive-dir = "{stage.folder}/cache"\n'
        f"[hooks]\nbefore = {command}\nafter = {command}\n"
    )
    profile.chmod(0o600)
    stage.run("run", str(profile))

    ours = ("PASSPHRASE", "SIGN_PASSPHRASE", "BACKEND_PASSWORD", "FTP_PASSWORD")
    assert not [line for line in hooked.read_text().splitlines() if line.startswith(tuple(f"{name}=" for name in ours))]


def test_an_operators_hook_gets_no_secret(stage: Stage) -> None:
    """P15, N3."""
    clean(json.dumps(_environment(stage.environment(), {"cause": "x"})), "the hook's environment")


def test_settings_show_no_password() -> None:
    """P15: of every command, as parsed."""
    for command in COMMANDS:
        given = [WORDS[kind].format(source="/x", url=f"sftp://{LOGIN}h/x") for kind in command.arguments]
        clean(repr(parse([command.name, *given, *(["--from=1D", "--to=now"] if command.name == "diff" else [])])), command.name)
