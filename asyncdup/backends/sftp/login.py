"""Logging in by SSH: with the user's ``~/.ssh`` files, which host keys are trusted, and what to tell who is refused."""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import asyncssh

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.sftp.early import EarlyDial
from asyncdup.backends.sftp.ssh_options import HostKeys, SshOptions
from asyncdup.backends.urls import Location
from asyncdup.errors import OperatorError
from asyncdup.threads import in_thread

# GCM first: asyncssh prefers chacha20, which costs 39 % more processor time on a put (dependencies, section 2a). The last file of a chain
# of configurations: whatever the user said earlier wins. T4: 15 s, 4 times.
_DEFAULTS = """
Host *
Ciphers ^aes128-gcm@openssh.com,aes256-gcm@openssh.com
ServerAliveInterval 15
ServerAliveCountMax 4
ConnectTimeout {connect_timeout:d}
GlobalKnownHostsFile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2
UserKnownHostsFile ~/.ssh/known_hosts ~/.ssh/known_hosts2
"""
_MAX_CONNECT_TIMEOUT = 30.0  # seconds for TCP, key exchange and login together
_MAX_KNOWN_HOSTS = 64 << 20  # bytes; a file larger than this is not one

PASSPHRASE_VARIABLE = "SSH_PASSPHRASE"
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


def quiet_asyncssh() -> None:
    """Keep the library's log messages from the terminal, unless the embedding program has set a level: errors reach the user as errors."""
    logger = logging.getLogger("asyncssh")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Login:
    """All that is needed to log in to one place, again and again. Passwords never leave it but to asyncssh (P15).

    The files of the user are read once, at the first ``connect``.
    """

    location: Location
    options: BackendOptions
    ssh: SshOptions
    early: EarlyDial | None = None
    _prepared: _Prepared | None = field(default=None, repr=False)
    _preparing: anyio.Lock = field(default_factory=anyio.Lock, repr=False)

    async def connect(self) -> asyncssh.SSHClientConnection:
        """A connection that is logged in.

        Raises:
            OperatorError: the configuration or a key file cannot be used.
            asyncssh.Error, OSError: whatever else went wrong, to be translated by the caller.
        """
        async with self._preparing:  # of many that are dialled at once, the first reads the files
            if self._prepared is None:
                self._prepared = await self._prepare()
        prepared = self._prepared
        guard = HostKeyGuard(self.ssh.host_keys, prepared.known_hosts)
        prepared.guard = guard
        sock = await self.early.take() if self.early is not None else None
        try:
            connection = await asyncssh.connect(
                prepared.options.host, options=prepared.options, known_hosts=prepared.known_hosts, client_factory=lambda: guard, sock=sock
            )
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        if guard.accepted:
            await in_thread(_remember, prepared.known_hosts_files[0], guard.accepted)
        return connection

    async def hint(self, error: BaseException) -> str | None:
        """What a person can do about ``error`` of ``connect``."""
        prepared = self._prepared
        if prepared is None:
            return None
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return _host_key_hint(prepared)
        if isinstance(error, asyncssh.PermissionDenied):
            locked = await in_thread(_encrypted_keys, self._key_files(prepared.options))
            return _refused_hint(prepared.options.username, self.options.password_for(self.location) is not None, locked)
        return None

    async def _prepare(self) -> _Prepared:
        try:
            with tempfile.TemporaryDirectory(prefix="asyncdup-ssh-", dir=self.options.tempdir) as folder:
                files = await in_thread(self._config_files, Path(folder))
                options = await asyncssh.SSHClientConnectionOptions.construct(**self._arguments(files))
        except (OSError, ValueError) as error:  # a file of the user's that is not there or says nothing sensible
            raise OperatorError(f"cannot prepare the login to {self.location.host}: {error}", hint=_preparation_hint(error)) from error
        trusted = [self.options.known_hosts] if self.options.known_hosts else [Path(name) for name in _file_names(options.known_hosts)]
        files = [path.expanduser() for path in trusted] or [Path(os.devnull)]
        return _Prepared(options, await in_thread(_read_known_hosts, files), files)

    def _config_files(self, folder: Path) -> list[Path]:
        first, last = folder / "first", folder / "last"
        first.write_text("".join(f"{key} {_quoted(key, value)}\n" for key, value in self.ssh.settings))
        last.write_text(_DEFAULTS.format(connect_timeout=max(1, round(min(self.options.timeout, _MAX_CONNECT_TIMEOUT)))))
        own = self.ssh.own_file
        return [first, last] if own is None else [first, own, last]

    def _arguments(self, config: Sequence[Path]) -> dict[str, Any]:
        location = self.location
        return {
            "host": location.host,
            "port": location.port or (),
            "username": location.user or (),
            "password": self.options.password_for(location),
            "passphrase": self.options.environ.get(PASSPHRASE_VARIABLE) or None,
            "config": list(config),
            "login_timeout": min(self.options.timeout, _MAX_CONNECT_TIMEOUT),
            "compression_algs": None,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "command": None,
            "env": None,
            "send_env": None,
            "request_pty": False,
        }

    def _key_files(self, options: asyncssh.SSHClientConnectionOptions) -> list[Path]:
        named = cast("list[str]", options.config.get("IdentityFile", []))
        return [Path(name).expanduser() for name in named] or [Path("~/.ssh", name).expanduser() for name in _DEFAULT_KEYS]


@dataclass(slots=True)
class _Prepared:
    options: asyncssh.SSHClientConnectionOptions
    known_hosts: asyncssh.SSHKnownHosts
    known_hosts_files: Sequence[Path]
    guard: HostKeyGuard | None = None  # of the latest attempt


class HostKeyGuard(asyncssh.SSHClient):
    """Decides about a host key that is not among the trusted ones; asyncssh has let the trusted ones pass and refused revoked ones.

    Attributes:
        offered: the key that was refused, with the host and port it was offered for.
        accepted: the line for the file of known hosts, if a new key was taken.
    """

    def __init__(self, policy: HostKeys, known_hosts: asyncssh.SSHKnownHosts) -> None:
        self._policy = policy
        self._known_hosts = known_hosts
        self.offered: tuple[str, int, asyncssh.SSHKey] | None = None
        self.changed = False
        self.accepted = b""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """True to go on. Unknown: only if new keys may come in; other than the known one: only with ``StrictHostKeyChecking=no``."""
        host_keys, ca_keys, *_ = self._known_hosts.match(host, addr, None if port == asyncssh.DEFAULT_PORT else port)
        self.offered, self.changed = (host, port, key), bool(host_keys or ca_keys)
        if self._policy == "accept-new" and not self.changed:
            self.accepted = f"{_known_hosts_name(host, port)} ".encode() + key.export_public_key("openssh").strip() + b"\n"
            return True
        return self._policy == "no"


def _known_hosts_name(host: str, port: int) -> str:
    return host if port == asyncssh.DEFAULT_PORT else f"[{host}]:{port}"


def _host_key_hint(prepared: _Prepared) -> str:
    guard = prepared.guard
    if guard is None or guard.offered is None:
        return "the key has been revoked or is of another host: ask the administrator of the server"
    host, port, key = guard.offered
    file = shlex.quote(str(prepared.known_hosts_files[0]))
    scan = f"ssh-keyscan -p {port} {shlex.quote(host)} >> {file}"
    shown = f"it shows {key.algorithm.decode()} {key.get_fingerprint()}"
    if guard.changed:
        forget = f"ssh-keygen -R {shlex.quote(_known_hosts_name(host, port))} -f {file}"
        return (
            f"{shown}, not the key in {file}: either the server was set up anew or somebody stands in between. "
            f"If its administrator confirms the change: {forget}; {scan}"
        )
    return f"{shown}. If its administrator confirms that: {scan} (or log in once: ssh -p {port} {shlex.quote(host)})"


def _refused_hint(user: str, has_password: bool, locked: Sequence[Path]) -> str:
    tried = (
        "the agent's keys, the key files and the password" if has_password else "the agent's keys and the key files (no password was given)"
    )
    text = f"tried for user {user}: {tried}; name a key with --ssh-options='-i FILE' or set BACKEND_PASSWORD"
    if locked:
        text += f"; {', '.join(map(str, locked))} has a passphrase: set {PASSPHRASE_VARIABLE} or load it with ssh-add"
    return text


def _preparation_hint(error: Exception) -> str | None:
    if "bcrypt" in str(error):  # asyncssh's optional dependency for ssh-keygen's own format of locked keys
        return "pip install bcrypt, or load the key with ssh-add"
    if isinstance(error, (asyncssh.KeyEncryptionError, asyncssh.KeyImportError)):
        return f"a key with a passphrase needs {PASSPHRASE_VARIABLE}, or load it with ssh-add"
    return None


def _encrypted_keys(files: Sequence[Path]) -> list[Path]:
    return [file for file in files if _is_encrypted(file)]


def _is_encrypted(file: Path) -> bool:
    try:
        asyncssh.read_private_key(file)
    except asyncssh.KeyImportError as error:
        return str(error).startswith("Passphrase")
    except (OSError, ValueError):
        return False
    return False


def _file_names(known_hosts: object) -> list[str]:
    return [str(name) for name in known_hosts] if isinstance(known_hosts, list) else []


def _read_known_hosts(files: Sequence[Path]) -> asyncssh.SSHKnownHosts:
    """What the files that exist say. A line that makes no sense is passed over, as OpenSSH does; it can only make fewer keys trusted."""
    known = asyncssh.SSHKnownHosts()
    for path in files:
        try:
            with path.open("rb") as file:
                lines = file.read(_MAX_KNOWN_HOSTS).decode(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                known.load(line)
            except ValueError:
                continue
    return known


def _remember(path: Path, line: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(handle, "ab") as file:
        file.write(line)


def _quoted(key: str, value: str) -> str:
    # Two keywords take the rest of the line as it is, lists are words; a path may have blanks (ssh_config(5)).
    words_of_their_own = {"proxycommand", "remotecommand", "userknownhostsfile", "globalknownhostsfile"}
    return value if key.lower() in words_of_their_own else shlex.quote(value)
