"""From a URL to a backend: which module, imported on first use, knows its scheme; and what every backend is given besides. No protocol here."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from asyncdup.backends.base import Backend
from asyncdup.backends.duplicity_find import is_installed
from asyncdup.backends.urls import FOREIGN, Location, parse_url, redact, scheme_of
from asyncdup.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What every factory is given besides the location. A backend takes what concerns it.

    Attributes:
        timeout: seconds without progress after which a call is given up (T3).
        concurrency: how many calls the engine will make at once, as a hint for sizing connections; None = not known.
        ssh_options: as given to ``ssh`` (``-oPort=22``, ``-i FILE``), in order.
        known_hosts: file with the host keys to trust; None = the usual ones.
        password: given apart from the URL.
        environ: the environment of the process, handed in so that nobody reaches for it.
        tempdir: folder for spooled bodies; None = the system's.
        backend_concurrency: how many instances of a legacy class to run at once; None = as many as it says it can.
        settings: options of single backends by stock's names with underscores (``s3_region_name``), text of the value or True for a flag.
        notify: tells the user something worth knowing once.
    """

    timeout: float = 60.0
    concurrency: int | None = None
    ssh_options: tuple[str, ...] = ()
    known_hosts: Path | None = None
    password: str | None = field(default=None, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    tempdir: Path | None = None
    backend_concurrency: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notify: Callable[[str], None] = field(default=lambda message: None, repr=False)

    def password_for(self, location: Location) -> str | None:
        """The password to log in with: the URL's, ours, ``BACKEND_PASSWORD`` or ``FTP_PASSWORD``, in this order (stock's: section 3)."""
        given = (location.password, self.password, self.environ.get("BACKEND_PASSWORD"), self.environ.get("FTP_PASSWORD"))
        return next((password for password in given if password), None)


Factory: TypeAlias = Callable[[Location, BackendOptions], Backend]

# scheme -> the factory, or "module:name" of it. The other spellings of sftp are stock's names for other programs that reach the same place.
_FACTORIES: dict[str, Factory | str] = {
    "file": "asyncdup.backends.local:from_url",
    "memory": "asyncdup.backends.memory:from_url",
    **dict.fromkeys(
        ("sftp", "scp", "ssh", "paramiko+sftp", "paramiko+scp", "pexpect+sftp", "pexpect+scp", "lftp+sftp"),
        "asyncdup.backends.sftp:from_url",
    ),
    **dict.fromkeys(("s3", "boto3+s3"), "asyncdup.backends.s3:from_url"),
    **dict.fromkeys(("webdav", "webdavs", "http", "https"), "asyncdup.backends.webdav:from_url"),
    "rclone": "asyncdup.backends.rclone:from_url",
    "gs": "asyncdup.backends.obstore_backend:from_gs_url",
    "azure": "asyncdup.backends.obstore_backend:from_azure_url",
}
# The same by what a scheme begins with: the rest of it is for the module to read.
_PREFIXES: dict[str, Factory | str] = {
    FOREIGN: "asyncdup.backends.duplicity:from_url",
    "fsspec+": "asyncdup.backends.fsspec_backend:from_url",
}


def open_backend(url: str, options: BackendOptions | None = None) -> Backend:
    """The backend that ``url`` names. Nothing is connected yet; the caller closes it with ``aclose``.

    A scheme that nobody registered goes to an installed duplicity, which is asked at the first call.

    Raises:
        UsageError: no URL, or a scheme that nobody registered.
    """
    options = options or BackendOptions()
    scheme = scheme_of(url)
    factory = _FACTORIES.get(scheme) or _by_prefix(scheme)
    if scheme and factory is None and is_installed(options.environ, options.settings.get("duplicity_python")):
        url, factory = FOREIGN + url, "asyncdup.backends.duplicity:from_bare_url"
    location = parse_url(url)
    if factory is None:
        raise UsageError(f"unknown scheme {location.scheme}:// in {redact(url)}", hint=_known_schemes(location.scheme))
    if isinstance(factory, str):
        factory = _import_factory(factory)
    return factory(location, options)


def _by_prefix(scheme: str) -> Factory | str | None:
    return next((factory for prefix, factory in _PREFIXES.items() if scheme.startswith(prefix)), None)


def register_backend(scheme: str, factory: Factory | str) -> None:
    """Let ``scheme://`` URLs be opened by ``factory``, or by ``"module:name"``, imported on first use. Replaces an earlier one."""
    if not re.fullmatch(r"[a-z0-9_+]+", scheme):
        raise UsageError(f"{scheme!r} cannot be a URL scheme: use lower-case letters, digits, _ and +")
    _FACTORIES[scheme] = factory


def known_schemes() -> tuple[str, ...]:
    """Every scheme that ``open_backend`` takes, sorted."""
    return tuple(sorted(_FACTORIES))


def _known_schemes(scheme: str) -> str:
    near = difflib.get_close_matches(scheme, known_schemes(), n=1)
    return (f"did you mean {near[0]}://? " if near else "") + f"known: {', '.join(known_schemes())}, and those of an installed duplicity"


def _import_factory(reference: str) -> Factory:
    module, _, name = reference.partition(":")
    return cast(Factory, getattr(importlib.import_module(module), name))
