"""Where the control sockets of running jobs are, and which of them live (engine rule X1). Standard library only: a client starts fast.

A socket is named after its job's id and lies in a folder that only its owner may enter.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from asyncdup.errors import UsageError

LONGEST_PATH = 103  # bytes: Linux takes 107, the BSDs 103
SUFFIX = ".sock"
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)


def folders(environ: Mapping[str, str]) -> list[Path]:
    """Where sockets may be, the preferred one first. A job from cron has no XDG_RUNTIME_DIR, while who asks for it may have one."""
    places = [Path(f"/tmp/asyncdup-{os.getuid()}")]
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        places.insert(0, Path(runtime) / "asyncdup")
    return places


def socket_path(job: str, environ: Mapping[str, str]) -> Path:
    """Where the socket of ``job`` is to be made; its folder is there, private, and free of sockets that nobody listens at.

    Raises:
        OSError: no folder can be used.
        UsageError: nor is there one whose path is short enough, or the job's id is no name for a file.
    """
    if not _ID.fullmatch(job):
        raise UsageError(f"{job!r} is no name for a socket")
    failure: Exception = UsageError("no folder has a path that is short enough for a socket")
    for folder in folders(environ):
        if len(os.fsencode(temporary(folder / f"{job}{SUFFIX}"))) > LONGEST_PATH:
            continue
        try:
            _make_private(folder)
        except OSError as error:
            failure = error
            continue
        live_sockets([folder])
        return folder / f"{job}{SUFFIX}"
    raise failure


def temporary(path: Path) -> Path:
    """The name of a socket until somebody listens at it: else it would be taken for a stale one."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def live_sockets(places: Sequence[Path]) -> list[Path]:
    """The sockets in ``places`` that somebody listens at. Those of dead processes are removed."""
    found = []
    for folder in places:
        if _is_private(folder):
            found += [path for path in sorted(folder.glob(f"*{SUFFIX}")) if _is_live(path)]
    return found


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
            return False
        except BlockingIOError:  # it listens, and has much to do
            return True
        except OSError:
            return False
        return True


def _make_private(folder: Path) -> None:
    """Raises OSError unless ``folder`` is, or can be made, a folder of ours that nobody else may enter."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_private(folder):
        raise PermissionError(13, "is not a folder that only its owner may enter", os.fspath(folder))


def _is_private(folder: Path) -> bool:
    try:
        info = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o077
