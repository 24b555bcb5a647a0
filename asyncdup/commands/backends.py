"""Which places can be written to: schemes, what each can do, and what has to be installed for it. Imports no backend and asks no server."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncdup.backends.registry import known_schemes

CONCURRENCY, RANGES, PARTS, CONDITIONAL, CHECKSUMS = "concurrency", "ranges", "parts", "conditional put", "checksums"
ABILITIES = (CONCURRENCY, RANGES, PARTS, CONDITIONAL, CHECKSUMS)


@dataclass(frozen=True, slots=True)
class BackendKind:
    """Schemes of one backend.

    Attributes:
        place: what they reach, in a few words.
        abilities: of ``ABILITIES``; what depends on the server is not among them.
        missing: the package or program that has to be installed first; "" = nothing.
        install: the command that does it.
    """

    schemes: tuple[str, ...]
    place: str
    abilities: tuple[str, ...] = ()
    missing: str = ""
    install: str = ""


@dataclass(frozen=True, slots=True)
class _Need:
    """A module that must be there (looked for, not imported), or a program."""

    module: str = ""
    program: str = ""
    install: str = ""

    def is_met(self, environ: Mapping[str, str]) -> bool:
        if self.module:
            return importlib.util.find_spec(self.module) is not None
        places = f"{environ.get('PATH', '')}:{Path(sys.executable).parent}"
        return not self.program or shutil.which(self.program, path=places) is not None


_NOTHING = _Need()
_OBSTORE = _Need(module="obstore", install="pip install 'asyncdup[objstore]'")
# What the modules say of themselves, written down so that none of them has to be imported; a test compares both.
_KINDS: tuple[tuple[BackendKind, _Need], ...] = (
    (BackendKind(("file",), "a folder of this machine", (CONCURRENCY, RANGES, CONDITIONAL)), _NOTHING),
    (
        BackendKind(
            ("sftp", "scp", "ssh", "paramiko+sftp", "paramiko+scp", "pexpect+sftp", "pexpect+scp", "lftp+sftp"),
            "a server with SSH",
            (CONCURRENCY, RANGES),
        ),
        _NOTHING,
    ),
    (
        BackendKind(("s3", "boto3+s3"), "Amazon S3 and what speaks its protocol", ABILITIES),
        _Need(module="aiobotocore", install="pip install aiobotocore"),
    ),
    (BackendKind(("webdav", "webdavs", "http", "https"), "a WebDAV server: Nextcloud, Apache, NAS", (CONCURRENCY, RANGES)), _NOTHING),
    (
        BackendKind(("rclone",), "what rclone reaches, about 70 services", (CONCURRENCY, RANGES)),
        _Need(program="rclone", install="apt install rclone, or pip install 'asyncdup[rclone]'"),
    ),
    (BackendKind(("gs",), "Google Cloud Storage", (CONCURRENCY, RANGES, CONDITIONAL)), _OBSTORE),
    (BackendKind(("azure",), "Azure Blob Storage", (CONCURRENCY, RANGES, CONDITIONAL)), _OBSTORE),
    (BackendKind(("memory",), "the memory of this process, for tests", ABILITIES), _NOTHING),
)
_FAMILIES: tuple[tuple[BackendKind, _Need], ...] = (
    (
        BackendKind(("fsspec+PROTOCOL",), "what has a class for fsspec", (RANGES,)),
        _Need(module="fsspec", install="pip install 'asyncdup[fsspec]'"),
    ),
    (
        BackendKind(("duplicity+SCHEME",), "what an installed duplicity has a class for"),
        _Need(module="duplicity", program="duplicity", install="pip install --no-deps duplicity fasteners"),
    ),
)


def list_backends(environ: Mapping[str, str]) -> list[BackendKind]:
    """Every scheme that is registered, also by the application; one row for schemes that mean the same.

    Args:
        environ: its PATH is where programs are looked for.
    """
    known = set(known_schemes())
    rows = []
    for kind, need in _KINDS:
        if set(kind.schemes) & known:
            known -= set(kind.schemes)
            rows.append(_looked_at(kind, need, environ))
    rows += [BackendKind((scheme,), "registered by the application") for scheme in sorted(known)]
    rows += [_looked_at(kind, need, environ) for kind, need in _FAMILIES]
    return rows


def _looked_at(kind: BackendKind, need: _Need, environ: Mapping[str, str]) -> BackendKind:
    met = need.is_met(environ) or (need.module and need.program and _Need(program=need.program).is_met(environ))
    if met:
        return kind
    return BackendKind(kind.schemes, kind.place, kind.abilities, need.module or need.program, need.install)
