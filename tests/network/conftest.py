"""Real servers on loopback for the network tests: OpenSSH's sshd as users have it, and asyncssh's in the same process for quick faults."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import asyncssh
import psutil
import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.sftp.backend import SftpBackend
from tests.ports import free_port


@dataclass(frozen=True)
class Keys:
    """Throw-away keys: one for the servers, one for the user, and a ``known_hosts`` that trusts the server's at any address."""

    host: Path
    user: Path
    known_hosts: Path
    authorized: Path

    @classmethod
    def make(cls, folder: Path) -> Keys:
        keys = cls(folder / "host", folder / "user", folder / "known_hosts", folder / "authorized")
        for path in (keys.host, keys.user):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(path)
            path.chmod(0o600)
            key.write_public_key(path.with_suffix(".pub"))
        keys.known_hosts.write_text("* " + keys.host.with_suffix(".pub").read_text())
        keys.authorized.write_text(keys.user.with_suffix(".pub").read_text())
        return keys


@dataclass
class Place:
    """Where a server is and how to log in there; ``folder`` is its login folder."""

    port: int
    folder: Path
    keys: Keys
    user: str

    def backend(self, path: str = "target", **options: Any) -> SftpBackend:
        """The backend for ``path`` below the login folder."""
        given = {"known_hosts": self.keys.known_hosts, "ssh_options": (f"-F none -i {self.keys.user}",), "timeout": 20.0, **options}
        password = given.pop("url_password", None)
        login = self.user if password is None else f"{self.user}:{password}"
        backend = open_backend(f"sftp://{login}@127.0.0.1:{self.port}/{path}", BackendOptions(**given))
        assert isinstance(backend, SftpBackend)
        return backend


@dataclass
class Sshd(Place):
    """OpenSSH's sshd. ``lines`` come first in its configuration, where the first value of a keyword counts."""

    state: Path = field(default_factory=Path)
    lines: Sequence[str] = ()
    sftp_flags: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sshd:
        config = self.state / "sshd_config"
        config.write_text("\n".join([*self.lines, *self._settings(), ""]))
        program = shutil.which("sshd", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
        assert program
        self.process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
        for _ in range(6000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            time.sleep(0.01)
        raise RuntimeError("sshd does not listen")

    def kill(self) -> None:
        """End it and every session of it, as a power cut would."""
        if self.process is None:
            return
        sessions = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for session in sessions:
            with suppress(psutil.NoSuchProcess):
                session.send_signal(signal.SIGKILL)
        while any(map(_runs, sessions)):
            time.sleep(0.002)
        self.process = None

    def _settings(self) -> list[str]:
        return [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.keys.host}",
            "PidFile none",
            f"AuthorizedKeysFile {self.keys.authorized}",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "LogLevel QUIET",
            f"Subsystem sftp internal-sftp -d {self.folder} {self.sftp_flags}",
        ]


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # its new parent may take seconds to reap it
    return False


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(autouse=True)
def no_ssh_files_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests neither read nor write the real ``~/.ssh``, nor talk to the real agent."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture(scope="session")
def need_sshd() -> None:
    if shutil.which("sshd", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("sshd is not installed; CI must not skip this")
        pytest.skip("sshd is not installed (apt install openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation wants it


@pytest.fixture
def make_sshd(need_sshd: None, keys: Keys, tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Starts servers of one's own: ``make_sshd("MaxStartups 1", sftp_flags="-R")``."""
    servers: list[Sshd] = []

    def make(*lines: str, sftp_flags: str = "") -> Sshd:
        state = tmp_path / f"sshd{len(servers)}"
        folder = state / "login"
        folder.mkdir(parents=True)
        server = Sshd(free_port(), folder, keys, getpass.getuser(), state=state, lines=lines, sftp_flags=sftp_flags)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def shared_sshd(need_sshd: None, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One server for all tests that do nothing to it."""
    state = tmp_path_factory.mktemp("sshd")
    (state / "login").mkdir()
    server = Sshd(free_port(), state / "login", keys, getpass.getuser(), state=state).start()
    yield server
    server.kill()


@pytest.fixture
def sshd(shared_sshd: Sshd, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The shared server; backends of it use a folder of the test's own."""
    folder = shared_sshd.folder / tmp_path.name
    folder.mkdir()
    return _Below(shared_sshd.port, folder, shared_sshd.keys, shared_sshd.user)


class _Below(Place):
    def backend(self, path: str = "target", **options: Any) -> SftpBackend:
        return super().backend(path if path.startswith("/") else f"{self.folder.name}/{path}", **options)


@pytest.fixture
def serve(keys: Keys, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Place]]:
    """``async with serve() as place``: asyncssh's server in the test's own loop; see ``asyncssh_server``."""
    return partial(asyncssh_server, keys, tmp_path / "served")


# A server without any extension, as those of old storage boxes and libraries are.
_BARE = "-P posix-rename,fsync,statvfs,fstatvfs,limits,hardlink,lsetstat,expand-path,copy-data"


@pytest.fixture
def bare_sshd(make_sshd: Callable[..., Sshd]) -> Sshd:
    return make_sshd(sftp_flags=_BARE)


@pytest.fixture(params=["OpenSSH", "OpenSSH without extensions", "asyncssh"])
def any_server(request: pytest.FixtureRequest) -> Callable[[], AbstractAsyncContextManager[Place]]:
    """``async with any_server() as place``, on each kind of server."""
    if request.param == "asyncssh":
        return cast("Callable[[], AbstractAsyncContextManager[Place]]", request.getfixturevalue("serve"))
    place = request.getfixturevalue("sshd" if request.param == "OpenSSH" else "bare_sshd")
    return lambda: nullcontext(place)


@asynccontextmanager
async def asyncssh_server(
    keys: Keys,
    folder: Path,
    *,
    sftp: type[asyncssh.SFTPServer] = asyncssh.SFTPServer,
    server: type[asyncssh.SSHServer] = asyncssh.SSHServer,
    port: int = 0,
    **options: Any,
) -> AsyncIterator[Place]:
    """asyncssh's own server with ``folder`` as its root. It logs nobody in by password unless ``server`` says so."""
    folder.mkdir(exist_ok=True)

    def session(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return sftp(channel, chroot=str(folder).encode())

    accepted: set[asyncssh.SSHServerConnection] = set()
    settings = {"authorized_client_keys": str(keys.authorized), "sftp_factory": session, "server_factory": server, **options}
    listener = await asyncssh.listen("127.0.0.1", port, server_host_keys=[str(keys.host)], acceptor=accepted.add, **settings)
    try:
        yield Place(listener.get_port(), folder, keys, "someone")
    finally:
        listener.close()
        for connection in accepted:
            connection.abort()
        await listener.wait_closed()
        for connection in accepted:
            await connection.wait_closed()
