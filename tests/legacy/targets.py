"""Where the tests of foreign classes put their objects: a URL and what of ``BackendOptions`` it needs, for each class."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interop.conftest import missing

Fixture = Callable[[str], Any]


def legacy_file(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    return f"duplicity+file://{folder}/made/on-demand", {}


def legacy_sftp(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    url, options = _sftp(fixture, "duplicity+paramiko+sftp")
    return url, {**options, "backend_concurrency": 3}


def legacy_webdav(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    return f"duplicity+webdav://{fixture('webdav')}/{folder.name}", {}


def fsspec_memory(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    return f"fsspec+memory://{folder.name}/x", {}


def fsspec_file(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    return f"fsspec+file://{folder}/made/on-demand", {"backend_concurrency": 3}


def fsspec_s3(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    need("s3fs")
    query = f"client_kwargs.endpoint_url={fixture('s3')}&client_kwargs.region_name=us-east-1&key=testing&secret=testing"
    return f"fsspec+s3://bucket/{folder.name}?{query}", {}


def fsspec_ssh(fixture: Fixture, folder: Path) -> tuple[str, dict[str, Any]]:
    need("sshfs")
    place = fixture("sshd")
    url = f"fsspec+ssh://{place.user}@127.0.0.1:{place.port}/{place.folder}/target"
    return f"{url}?client_keys={place.keys.user}", {"known_hosts": place.keys.known_hosts, "backend_concurrency": 2}


def need(package: str) -> None:
    """Skip without it, but not in CI."""
    if importlib.util.find_spec(package) is None:
        missing(f"{package} is not here: pip install {package}")


def _sftp(fixture: Fixture, scheme: str) -> tuple[str, dict[str, Any]]:
    place = fixture("sshd")
    url = f"{scheme}://{place.user}@127.0.0.1:{place.port}/{place.folder}/target"
    known_hosts = place.folder / "known_hosts"  # paramiko takes no patterns
    known_hosts.write_text(f"[127.0.0.1]:{place.port} {place.keys.host.with_suffix('.pub').read_text()}")
    return url, {"known_hosts": known_hosts, "ssh_options": (f"-oIdentityFile={place.keys.user}",)}
