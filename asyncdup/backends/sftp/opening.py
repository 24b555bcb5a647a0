"""From a URL to the backend: TCP is dialled while asyncssh is loaded, which takes as long as two round trips of a far link."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.sftp.early import EarlyDial
from asyncdup.backends.sftp.ssh_options import SshOptions, parse_ssh_options
from asyncdup.backends.sftp.ssh_pool import connections_for
from asyncdup.backends.urls import Location
from asyncdup.errors import UsageError

if TYPE_CHECKING:
    from asyncdup.backends.sftp.backend import SftpBackend

_PORT = 22


def from_url(location: Location, options: BackendOptions) -> SftpBackend:
    """The factory for the registry. TCP may be connected at once, ssh is at the first call.

    Raises:
        UsageError: no host, or ``--ssh-options`` makes no sense.
    """
    if not location.host:
        raise UsageError(f"{location.description} names no host", hint="write sftp://[user@]host[:port]/folder")
    ssh = parse_ssh_options(options.ssh_options)
    early = _dial_early(location, options, ssh)
    backend = importlib.import_module("asyncdup.backends.sftp.backend")
    return cast("SftpBackend", backend.SftpBackend(location, options, ssh, early))


def _dial_early(location: Location, options: BackendOptions, ssh: SshOptions) -> EarlyDial | None:
    """None where the login may go to another place, or there by another way."""
    if ssh.may_lead_elsewhere():
        return None
    return EarlyDial(location.host, location.port or _PORT, connections_for(options.expected or options.concurrency or 1)[0])
