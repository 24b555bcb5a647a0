"""From a URL to a backend: what a URL says, and which module (imported on first use) knows its scheme. No protocol is known here."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast
from urllib.parse import quote, unquote

from asyncdup.backends.base import Backend
from asyncdup.errors import UsageError

_URL = re.compile(r"^([\w+]+)://", re.ASCII)
# Those without a host: all that follows "://" is a path (command line specification, section 3).
_PATH_ONLY = frozenset({"file"})
_HIDDEN = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """What a backend URL says, percent-decoded.

    Attributes:
        scheme: in lower case, without ``://``.
        path: ``file://``: absolute, or relative to the working folder; others: relative to the login folder unless it begins with ``/``,
            ``""`` for that folder itself.
        password: never shown by ``repr`` or ``description``.
    """

    scheme: str
    path: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def description(self) -> str:
        """The URL without its password, for people and logs."""
        if self.scheme in _PATH_ONLY:
            return f"{self.scheme}://{self.path}"
        user = f"{quote(self.user, safe='')}@" if self.user is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        return f"{self.scheme}://{user}{host}{port}/{self.path}"


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
    """

    timeout: float = 60.0
    concurrency: int | None = None
    ssh_options: tuple[str, ...] = ()
    known_hosts: Path | None = None
    password: str | None = field(default=None, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    tempdir: Path | None = None

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
}


def open_backend(url: str, options: BackendOptions | None = None) -> Backend:
    """The backend that ``url`` names. Nothing is connected yet; the caller closes it with ``aclose``.

    Raises:
        UsageError: no URL, or a scheme that nobody registered.
    """
    location = parse_url(url)
    factory = _FACTORIES.get(location.scheme)
    if factory is None:
        raise UsageError(f"unknown scheme {location.scheme}:// in {redact(url)}", hint=_known_schemes(location.scheme))
    if isinstance(factory, str):
        factory = _import_factory(factory)
    return factory(location, options or BackendOptions())


def register_backend(scheme: str, factory: Factory | str) -> None:
    """Let ``scheme://`` URLs be opened by ``factory``, or by ``"module:name"``, imported on first use. Replaces an earlier one."""
    if not re.fullmatch(r"[a-z0-9_+]+", scheme):
        raise UsageError(f"{scheme!r} cannot be a URL scheme: use lower-case letters, digits, _ and +")
    _FACTORIES[scheme] = factory


def known_schemes() -> tuple[str, ...]:
    """Every scheme that ``open_backend`` takes, sorted."""
    return tuple(sorted(_FACTORIES))


def is_url(text: str) -> bool:
    """Whether ``text`` is a backend URL and not a local path."""
    return _URL.match(text) is not None


def parse_url(url: str) -> Location:
    """Take a URL apart.

    ``scheme://[user[:password]@]host[:port]/path``; one slash after the host is relative to the login folder, two are absolute. User,
    password and path are percent-decoded (observed: duplicity 3.2.1). A bare ``?`` or ``#``, which stock would cut off silently with
    what follows, is refused.

    Raises:
        UsageError: the URL says nothing sensible; the message never shows its password.
    """
    match = _URL.match(url)
    if match is None:
        shown = re.sub(r":[^:@]*@", f":{_HIDDEN}@", url)  # perhaps a URL with a typing error, password and all
        raise UsageError(f"{shown!r} is not a URL", hint="a folder is written file:///absolute/path or file://relative/path")
    scheme, rest = match[1].lower(), url[match.end() :]
    if scheme in _PATH_ONLY:
        return Location(scheme=scheme, path=_decode_path(rest, url))
    authority, _, path = rest.partition("/")
    login, _, server = authority.rpartition("@")
    user, _, password = login.partition(":")
    host, port = _split_server(server, url)
    return Location(
        scheme=scheme,
        path=_decode_path(path, url),
        host=host,
        port=port,
        user=unquote(user) or None,
        password=unquote(password) or None,
    )


def redact(url: str) -> str:
    """``url`` with its password replaced (P15); text that is no URL comes back as it is."""
    match = _URL.match(url)
    if match is None or match[1].lower() in _PATH_ONLY:
        return url
    rest = url[match.end() :]
    authority = rest.partition("/")[0]
    if "@" not in authority and not re.fullmatch(r"[^:@]*(:[0-9]*)?|\[[^\]]*\](:[0-9]*)?", authority):
        authority = rest  # "user:pa/ss@host": a password with a slash that should have been %2F
    login, at, _ = authority.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{match[0]}{user}:{_HIDDEN}{url[match.end() + len(login) :]}" if at and colon else url


def _decode_path(path: str, url: str) -> str:
    if "?" in path or "#" in path:
        raise UsageError(f"{redact(url)}: a path has ? or #", hint="write %3F for ? and %23 for #")
    decoded = unquote(path, errors="surrogateescape")  # bytes that are no UTF-8 are a legal file name
    if "\0" in decoded:
        raise UsageError(f"{redact(url)}: a path cannot have a NUL byte")
    return decoded


def _split_server(server: str, url: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]]*))(?::([0-9]*))?", server)
    if match is None:
        raise UsageError(
            f"{redact(url)}: {'what follows @' if '@' in url else 'this'} is not host[:port]",
            hint="in a password, write %2F for / and %40 for @",
        )
    host, port = match[1] or match[2], int(match[3]) if match[3] else None
    if host.startswith("-") or not host.isprintable() or " " in host:
        raise UsageError(f"{redact(url)}: {host!r} cannot be a host name")
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"{redact(url)}: there is no port {port}")
    return host, port


def _known_schemes(scheme: str) -> str:
    near = difflib.get_close_matches(scheme, known_schemes(), n=1)
    return (f"did you mean {near[0]}://? " if near else "") + f"known: {', '.join(known_schemes())}"


def _import_factory(reference: str) -> Factory:
    module, _, name = reference.partition(":")
    return cast(Factory, getattr(importlib.import_module(module), name))
