"""The contenders: how each sends the same folder to the same server, and how what has arrived is checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import SERVER
from benchmarks.unplug.server import PORT, Server

VOLUME_MIB = 2
CONCURRENCY = 16


@dataclass(frozen=True)
class Site:
    """One run of one contender: the source, the folder that it sends to, and one for all else that it writes."""

    source: Path
    target: Path
    private: Path
    server: Server

    @property
    def environment(self) -> dict[str, str]:
        """Without anything of the user's."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.private),
            "TMPDIR": str(self.private),
            "LC_ALL": "C.UTF-8",
            "RESTIC_PASSWORD": "benchmark",
        }

    @property
    def log(self) -> Path:
        """What the program printed."""
        return self.private / "log"

    @property
    def events(self) -> Path:
        """asyncdup's own record."""
        return self.private / "events"


@dataclass(frozen=True)
class Program:
    """``prepare``: run before the clock starts, over the link; ``send``: what is measured; ``check``: run on the files themselves."""

    name: str
    settings: str
    version: str
    send: Callable[[Site], list[str]]
    check: Callable[[Site], list[str]]
    prepare: Callable[[Site], list[str]] | None = None


def contenders(duplicity: Path | None, say: Callable[[str], None]) -> list[Program]:
    """Those that are installed."""
    found = [_asyncdup("asyncdup", "defaults"), _asyncdup("asyncdup, 15 s", "--timeout 15", "--timeout=15")]
    if duplicity is not None and duplicity.exists():
        found.append(_duplicity(duplicity))
    else:
        say("stock duplicity is not there (--stock says where it is)")
    for name, make in (("rclone", _rclone), ("restic", _restic)):
        path = shutil.which(name, path=os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", os.defpath))
        if path is None:
            say(f"{name} is not installed")
        else:
            found.append(make(path))
    return found


def _asyncdup(name: str, settings: str, *words: str) -> Program:
    command = [sys.executable, "-m", "asyncdup"]

    def options(site: Site) -> list[str]:
        return ["--no-encryption", f"--archive-dir={site.private / 'archive'}", "--name=unplug"]

    def send(site: Site) -> list[str]:
        url = f"sftp://{site.server.login}:{PORT}/{site.target}"
        ssh = f"--ssh-options=-F none -i {site.server.key} -oUserKnownHostsFile={site.server.known_hosts}"
        size = [f"--volsize={VOLUME_MIB}", f"--concurrency={CONCURRENCY}", f"--log-json={site.events}"]
        return [*command, "full", str(site.source), url, *options(site), ssh, *size, *words]

    def check(site: Site) -> list[str]:
        return [*command, "verify", f"file://{site.target}", str(site.source), *options(site)]

    return Program(name, f"--concurrency {CONCURRENCY}, {settings}", _version([*command, "--version"]), send, check)


def _duplicity(script: Path) -> Program:
    def options(site: Site) -> list[str]:
        return ["--no-encryption", f"--archive-dir={site.private / 'archive'}", "--name=unplug"]

    def send(site: Site) -> list[str]:
        url = f"paramiko+sftp://{site.server.login}:{PORT}/{site.target}"
        ssh = f"--ssh-options=-oIdentityFile={site.server.key} -oUserKnownHostsFile={site.server.known_hosts}"
        return [str(script), "full", str(site.source), url, *options(site), ssh, f"--volsize={VOLUME_MIB}"]

    def check(site: Site) -> list[str]:
        return [str(script), "verify", "--compare-data", f"file://{site.target}", str(site.source), *options(site)]

    return Program("duplicity", "paramiko+sftp, defaults", _version([str(script), "--version"]), send, check)


def _rclone(path: str) -> Program:
    def send(site: Site) -> list[str]:
        server = site.server
        settings = {
            "sftp-host": SERVER,
            "sftp-port": PORT,
            "sftp-user": server.login.partition("@")[0],
            "sftp-key-file": server.key,
            "sftp-known-hosts-file": server.known_hosts,
            "config": site.private / "none",
            "transfers": CONCURRENCY,
        }
        return [path, "copy", str(site.source), f":sftp:{site.target}", *(f"--{name}={value}" for name, value in settings.items())]

    def check(site: Site) -> list[str]:
        return [path, "check", f"--config={site.private / 'none'}", str(site.source), str(site.target)]

    return Program("rclone", f"copy --transfers {CONCURRENCY}", _version([path, "version"]), send, check)


def _restic(path: str) -> Program:
    def at_server(site: Site) -> list[str]:
        ssh = " ".join(["ssh", *site.server.ssh_options, site.server.login, "-s", "sftp"])
        return [path, "-r", f"sftp:{site.server.login}:{site.target}", "-o", f"sftp.command={ssh}", "--no-cache"]

    def prepare(site: Site) -> list[str]:
        return [*at_server(site), "init"]

    def send(site: Site) -> list[str]:
        return [*at_server(site), "backup", str(site.source)]

    def check(site: Site) -> list[str]:
        return [path, "-r", str(site.target), "--no-cache", "check", "--read-data"]

    return Program("restic", "defaults", _version([path, "version"]), send, check, prepare)


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0]
