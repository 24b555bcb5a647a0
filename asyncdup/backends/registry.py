"""From a URL to a backend: which module, imported on first use, knows its scheme. No protocol here."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import TypeAlias, cast

from asyncdup.backends.base import Backend
from asyncdup.backends.duplicity.find import is_installed
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import FOREIGN, Location, parse_url, redact, scheme_of
from asyncdup.errors import UsageError

Factory: TypeAlias = Callable[[Location, BackendOptions], Backend]

# scheme -> the factory, or "module:name" of it. The other spellings of sftp are stock's names for other programs that reach the same place.
_FACTORIES: dict[str, Factory | str] = {
    "file": "asyncdup.backends.local:from_url",
    "memory": "asyncdup.backends.memory:from_url",
    **dict.fromkeys(
        ("sftp", "scp", "ssh", "paramiko+sftp", "paramiko+scp", "pexpect+sftp", "pexpect+scp", "lftp+sftp"),
        "asyncdup.backends.sftp.opening:from_url",
    ),
    **dict.fromkeys(("s3", "boto3+s3"), "asyncdup.backends.s3.backend:from_url"),
    **dict.fromkeys(("webdav", "webdavs", "http", "https"), "asyncdup.backends.webdav.backend:from_url"),
    "rclone": "asyncdup.backends.rclone.backend:from_url",
    "gs": "asyncdup.backends.obstore_backend:from_gs_url",
    "azure": "asyncdup.backends.obstore_backend:from_azure_url",
}
# The same by what a scheme begins with: the rest of it is for the module to read.
_PREFIXES: dict[str, Factory | str] = {
    FOREIGN: "asyncdup.backends.duplicity.backend:from_url",
    "fsspec+": "asyncdup.backends.fsspec.backend:from_url",
}


def open_backend(url: str, options: BackendOptions | None = None) -> Backend:
    """The backend that ``url`` names. Nothing has logged in yet; the caller closes it with ``aclose``.

    A scheme that nobody registered goes to an installed duplicity, which is asked at the first call.

    Raises:
        UsageError: no URL, or a scheme that nobody registered.
    """
    options = options or BackendOptions()
    scheme = scheme_of(url)
    factory = _FACTORIES.get(scheme) or _by_prefix(scheme)
    if scheme and factory is None and is_installed(options.environ, options.settings.get("duplicity_python")):
        url, factory = FOREIGN + url, "asyncdup.backends.duplicity.backend:from_bare_url"
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
    import difflib  # 10 ms of each start, for an error

    near = difflib.get_close_matches(scheme, known_schemes(), n=1)
    return (f"did you mean {near[0]}://? " if near else "") + f"known: {', '.join(known_schemes())}, and those of an installed duplicity"


def _import_factory(reference: str) -> Factory:
    module, _, name = reference.partition(":")
    return cast(Factory, getattr(importlib.import_module(module), name))
