"""OpenSSH's sshd at the server's end, with throw-away keys."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.lab import SERVER, Lab

PORT = 2222
_PROGRAMS = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"


class Missing(Exception):
    """A program that the benchmark needs is not installed."""


@dataclass(frozen=True)
class Server:
    """``folder`` holds keys and configuration; ``store`` is what clients see as ``/``-absolute paths: the same files, of one machine."""

    folder: Path

    @property
    def key(self) -> Path:
        """The client's."""
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        """Trusts the server's key."""
        return self.folder / "known_hosts"

    @property
    def login(self) -> str:
        """user@address."""
        return f"{getpass.getuser()}@{SERVER}"

    @property
    def ssh_options(self) -> list[str]:
        """As words for ssh."""
        return [
            "-F",
            "none",
            "-i",
            str(self.key),
            f"-oUserKnownHostsFile={self.known_hosts}",
            "-oStrictHostKeyChecking=yes",
            f"-oPort={PORT}",
        ]

    def start(self, lab: Lab) -> subprocess.Popen[bytes]:
        """Raises Missing."""
        sshd, keygen = (shutil.which(name, path=_PROGRAMS) for name in ("sshd", "ssh-keygen"))
        if sshd is None or keygen is None:
            raise Missing("sshd is not installed (apt install openssh-server)")
        if not self.key.exists():
            self._make_keys(keygen)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation wants it
        process: subprocess.Popen[bytes] = lab.start(
            "server", [sshd, "-D", "-e", "-f", str(self._configuration())], stderr=subprocess.DEVNULL
        )
        lab.wait_port(PORT)
        return process

    def _make_keys(self, keygen: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("host", "client"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        (self.folder / "authorized").write_text((self.folder / "client.pub").read_text())
        kind, key, *_ = (self.folder / "host.pub").read_text().split()
        self.known_hosts.write_text(f"[{SERVER}]:{PORT} {kind} {key}\n")

    def _configuration(self) -> Path:
        path = self.folder / "sshd_config"
        lines = [
            f"Port {PORT}",
            f"ListenAddress {SERVER}",
            f"HostKey {self.folder / 'host'}",
            "PidFile none",
            f"AuthorizedKeysFile {self.folder / 'authorized'}",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "LogLevel QUIET",
            "Subsystem sftp internal-sftp",
            f"SetEnv HOME={self.folder}",  # rclone runs commands there: what a shell reads at its start is nobody's transfer
        ]
        path.write_text("\n".join(lines) + "\n")
        return path


def forget_connections(server: subprocess.Popen[bytes]) -> None:
    """End every session of sshd, as if a router in between had forgotten them, or the server had been started again."""
    for session in psutil.Process(server.pid).children(recursive=True):
        try:
            session.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
