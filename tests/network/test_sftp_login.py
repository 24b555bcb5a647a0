"""Logging in: host keys are verified (P14), passwords and keys are found where stock finds them, and no secret is ever shown (P15)."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import socket
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncssh
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.sftp.backend import SftpBackend
from asyncdup.errors import OperatorError, RetryableError

pytestmark = pytest.mark.realtime
SECRET = "canary-4711"

Place = Any  # built by conftest.py, which tests cannot import


async def log_in(backend: SftpBackend) -> None:
    try:
        await backend.put("x", BytesBody(b"x"))
    finally:
        await backend.aclose()


async def refused(backend: SftpBackend) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        await log_in(backend)
    assert caught.value.scope == "lane"
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(backend) + str(caught.value.hint)
    return caught.value


class Password(asyncssh.SSHServer):
    """Lets a user in by the password only."""

    def public_key_auth_supported(self) -> bool:
        return False

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == SECRET


class Questions(asyncssh.SSHServer):
    """Asks for the password in its own words, as PAM does (keyboard-interactive)."""

    def public_key_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return list(responses) == [SECRET]


# Host keys


async def test_an_unknown_host_key_is_refused_with_the_command_that_shows_it(sshd: Place, tmp_path: Path) -> None:
    empty = tmp_path / "empty known"

    error = await refused(sshd.backend(known_hosts=empty))

    key = asyncssh.read_public_key(sshd.keys.host.with_suffix(".pub"))
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> '{empty}'" in str(error.hint)
    assert key.get_fingerprint() in str(error.hint)
    assert not empty.exists()


async def test_a_changed_host_key_is_refused_whatever_new_keys_may_do(sshd: Place, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    file = tmp_path / "known"
    file.write_text(f"[127.0.0.1]:{sshd.port} {other}")

    for policy in ("yes", "accept-new"):
        given = f"-F none -i {sshd.keys.user} -oStrictHostKeyChecking={policy}"
        error = await refused(sshd.backend(known_hosts=file, ssh_options=(given,)))
        assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}' -f {file}" in str(error.hint)


async def test_a_revoked_host_key_is_refused_even_without_checking(sshd: Place, tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_text("@revoked * " + sshd.keys.host.with_suffix(".pub").read_text())

    await refused(sshd.backend(known_hosts=file, ssh_options=(f"-F none -i {sshd.keys.user} -oStrictHostKeyChecking=no",)))


async def test_a_new_host_key_may_be_accepted_and_is_remembered(sshd: Place, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "known"
    options = f"-F none -i {sshd.keys.user} -oUserKnownHostsFile={file}"

    await log_in(sshd.backend(known_hosts=None, ssh_options=(f"{options} -oStrictHostKeyChecking=accept-new",)))
    assert file.stat().st_mode & 0o777 == 0o600
    await log_in(sshd.backend(known_hosts=None, ssh_options=(options,)))


async def test_checking_can_be_switched_off_by_name_only(sshd: Place) -> None:
    options = f"-F none -i {sshd.keys.user} -oUserKnownHostsFile=none"

    await refused(sshd.backend(known_hosts=None, ssh_options=(options,)))
    await log_in(sshd.backend(known_hosts=None, ssh_options=(f"{options} -oStrictHostKeyChecking=no",)))


async def test_lines_of_known_hosts_that_make_no_sense_are_passed_over(sshd: Place, tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_bytes(b"\xff\n@what * x y\nlonely\n|1|x|y ssh-ed25519 AAAA\n" + sshd.keys.known_hosts.read_bytes())

    await log_in(sshd.backend(known_hosts=file))


# Passwords and keys


@pytest.mark.parametrize("server", [Password, Questions])
@pytest.mark.parametrize("way", ["url", "option", "BACKEND_PASSWORD", "FTP_PASSWORD"])
async def test_the_password_is_found_where_stock_finds_it(serve: Any, server: type[asyncssh.SSHServer], way: str) -> None:
    given = {"url": {"url_password": SECRET}, "option": {"password": SECRET}}.get(way, {"environ": {way: SECRET}})
    async with serve(server=server) as place:
        await log_in(place.backend(ssh_options=("-F none",), **given))


@pytest.mark.parametrize("server", [Password, Questions])
async def test_a_wrong_password_needs_an_operator_and_is_never_shown(
    serve: Any, server: type[asyncssh.SSHServer], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(server=server) as place:
        error = await refused(place.backend(ssh_options=("-F none",), url_password=f"not-{SECRET}"))
        without = await refused(place.backend(ssh_options=("-F none",)))

    assert "someone" in str(error.hint)
    assert "BACKEND_PASSWORD" in str(without.hint)
    client_log = [record for record in caplog.records if "client" in record.getMessage()]
    assert not any(SECRET in record.getMessage() for record in client_log)
    assert SECRET not in "".join(capfd.readouterr())


async def test_a_locked_key_is_named_with_the_variable_that_unlocks_it(sshd: Place, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    asyncssh.read_private_key(sshd.keys.user).write_private_key(locked, "pkcs8-pem", passphrase=SECRET)
    options = f"-F none -i {locked}"

    error = await refused(sshd.backend(ssh_options=(options,)))
    assert str(locked) in str(error.hint)
    assert "SSH_PASSPHRASE" in str(error.hint)
    wrong = await refused(sshd.backend(ssh_options=(options,), environ={"SSH_PASSPHRASE": "wrong"}))
    assert "SSH_PASSPHRASE" in str(wrong.hint)
    await log_in(sshd.backend(ssh_options=(options,), environ={"SSH_PASSPHRASE": SECRET}))


async def test_a_locked_key_of_openssh_is_named_too(sshd: Place, tmp_path: Path) -> None:
    """ssh-keygen's own format: unlocking it needs the package bcrypt, which the hint says if it is missing."""
    locked = tmp_path / "locked"
    await anyio.run_process(["ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", SECRET, "-f", str(locked)])
    options = f"-F none -i {locked}"

    error = await refused(sshd.backend(ssh_options=(options,)))
    assert str(locked) in str(error.hint)
    if importlib.util.find_spec("bcrypt") is None:
        missing = await refused(sshd.backend(ssh_options=(options,), environ={"SSH_PASSPHRASE": SECRET}))
        assert "pip install bcrypt" in str(missing.hint)


async def test_a_key_file_that_is_not_there_is_named(sshd: Place) -> None:
    error = await refused(sshd.backend(ssh_options=("-F none -i /not/there",)))

    assert "/not/there" in str(error)


async def test_the_files_in_the_home_folder_are_used(sshd: Place, no_ssh_files_of_the_user: Path) -> None:
    folder = no_ssh_files_of_the_user / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "known_hosts").write_bytes(sshd.keys.known_hosts.read_bytes())
    (folder / "id_ed25519").write_bytes(sshd.keys.user.read_bytes())

    await log_in(sshd.backend(known_hosts=None, ssh_options=()))


async def test_the_configuration_file_names_host_port_user_and_key(sshd: Place, no_ssh_files_of_the_user: Path) -> None:
    folder = no_ssh_files_of_the_user / ".ssh"
    folder.mkdir(mode=0o700)
    config = f"Host alias\n Hostname 127.0.0.1\n Port {sshd.port}\n User {sshd.user}\n IdentityFile {sshd.keys.user}\n"
    (folder / "config").write_text(config + f" UserKnownHostsFile {sshd.keys.known_hosts}\n")
    backend = _open("sftp://alias/in-the-login-folder/" + sshd.folder.name)

    await log_in(backend)


async def test_what_ssh_options_say_wins_over_the_configuration_file(sshd: Place, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n Port 1\n User nobody\n IdentityFile /not/there\n Ciphers aes256-ctr\n")
    options = f"-F {config} -oPort={sshd.port} -oUser={sshd.user} -oIdentityFile={sshd.keys.user}"
    error = await refused(_open("sftp://127.0.0.1/x", options, sshd))
    assert "/not/there" in str(error)  # all of IdentityFile count, as in ssh

    config.write_text("Host *\n Port 1\n User nobody\n")
    await log_in(_open(f"sftp://127.0.0.1/{sshd.folder.name}/x", options, sshd))


def _open(url: str, options: str | None = None, place: Place = None) -> SftpBackend:
    known = None if place is None else place.keys.known_hosts
    backend = open_backend(url, BackendOptions(ssh_options=() if options is None else (options,), known_hosts=known))
    assert isinstance(backend, SftpBackend)
    return backend


async def test_a_jump_host_is_gone_through(sshd: Place, make_sshd: Any, no_ssh_files_of_the_user: Path) -> None:
    folder = no_ssh_files_of_the_user / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "known_hosts").write_bytes(sshd.keys.known_hosts.read_bytes())
    (folder / "id_ed25519").write_bytes(sshd.keys.user.read_bytes())

    await log_in(sshd.backend(known_hosts=None, ssh_options=(f"-J {sshd.user}@127.0.0.1:{sshd.port}",)))


async def test_the_agent_is_asked_and_never_forwarded(sshd: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = await anyio.run_process(["ssh-agent", "-a", str(tmp_path / "agent"), "-s"])
    pid = int(process.stdout.split(b"SSH_AGENT_PID=")[1].split(b";")[0])
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        await anyio.run_process(["ssh-add", "-q", str(sshd.keys.user)])
        await log_in(sshd.backend(ssh_options=("-F none -A",)))
    finally:
        os.kill(pid, 15)


async def test_gcm_comes_first_without_compression_unless_the_user_says_otherwise(serve: Any) -> None:
    async with serve() as place:
        for options, cipher in (("", "aes128-gcm@openssh.com"), ("-oCiphers=aes256-ctr -C", "aes256-ctr")):
            async with _connected(place.backend(ssh_options=(f"-F none -i {place.keys.user} {options}",))) as ssh:
                assert ssh.get_extra_info("send_cipher") == cipher
                assert ssh.get_extra_info("send_compression") == "none"


@asynccontextmanager
async def _connected(backend: SftpBackend) -> AsyncGenerator[asyncssh.SSHClientConnection, None]:
    async with backend.pool.acquire() as connection:
        yield connection.ssh
    await backend.aclose()


# Servers that are not there


async def test_a_refused_connection_concerns_the_lane_and_can_be_repeated(sshd: Place, make_sshd: Any) -> None:
    place = make_sshd()
    place.kill()
    with pytest.raises(RetryableError) as caught:
        await log_in(place.backend())

    assert (caught.value.scope, caught.value.ambiguous) == ("lane", False)
    assert not isinstance(caught.value, OperatorError)
    assert "connection refused" in str(caught.value)


@pytest.mark.slow
async def test_a_server_that_says_nothing_is_given_up(sshd: Place) -> None:
    """T3: a login has an end below asyncssh's own 120 s."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        sshd.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises(RetryableError) as caught, anyio.fail_after(60):
            await log_in(sshd.backend(timeout=1.0))

    assert caught.value.scope == "lane"


async def test_a_server_without_sftp_needs_an_operator(serve: Any) -> None:
    async with serve(sftp_factory=None) as place:
        error = await refused(place.backend())

    assert "SFTP" in str(error.hint)


@pytest.mark.parametrize("words", [b"Welcome to this machine!\n", b""])
async def test_a_shell_that_is_no_sftp_is_told_apart_from_one_that_ends(serve: Any, words: bytes) -> None:
    """What is asked for goes out before the server has said a word."""

    class Shell(asyncssh.SFTPServer):
        def __init__(self, channel: Any, **options: Any) -> None:
            if words:
                channel.write(words)
            else:
                channel.exit(1)
            super().__init__(channel, **options)

    async with serve(sftp=Shell) as place:
        with pytest.raises(RetryableError) as caught:
            await log_in(place.backend())

    assert (caught.value.scope, caught.value.ambiguous) == ("lane", False)
    assert "cannot start SFTP" in str(caught.value)
    assert ("login shell" in str(caught.value.hint)) is bool(words)


async def test_logins_go_over_the_connections_that_were_begun_early(sshd: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is dialled after them goes its own way."""
    early = []
    connect = asyncssh.connect

    async def noting(*args: Any, **kwargs: Any) -> Any:
        early.append(kwargs["sock"] is not None)
        return await connect(*args, **kwargs)

    monkeypatch.setattr(asyncssh, "connect", noting)
    for limit in ("_KEPT", "_PATIENCE"):
        monkeypatch.setattr(f"asyncdup.backends.sftp.early.{limit}", 60.0)
    backend = sshd.backend(concurrency=3)
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(backend.put, f"x{number}", BytesBody(b"x"))
    backend.drop_connections()
    await backend.put("y", BytesBody(b"y"))
    await backend.aclose()

    assert early == [True, True, True, False]


async def test_connections_that_were_begun_early_and_broke_are_not_told(sshd: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", nothing)
        backend = sshd.backend()
        assert await backend._early.take() is None
    await log_in(backend)


async def test_a_host_that_has_no_address_is_a_failure_of_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", none)
    with pytest.raises(RetryableError) as caught:
        await log_in(_open("sftp://nowhere.invalid/x"))

    assert caught.value.scope == "lane"
    assert not isinstance(caught.value, OperatorError)
