"""What a backend URL says. No protocol is known here but for where its path begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

from asyncdup.errors import UsageError

_URL = re.compile(r"^([\w+]+)://", re.ASCII)
# Those without a host: all that follows "://" is a path (command line specification, section 3), of rclone one in its words, "remote:/folder".
_PATH_ONLY = frozenset({"file", "rclone"})
# Those whose URLs have a query. In any other, a bare ? is most likely meant as part of a name, which stock cuts off.
_WITH_QUERY = re.compile(r"s3|boto3\+s3|gs|azure|fsspec\+.*|duplicity\+.*", re.ASCII)
FOREIGN = "duplicity+"  # what follows is for an installed duplicity to read
_QUERY_VALUE = re.compile(r"(?<=[?&])([^=&]*)=[^&]*")
_HIDDEN = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """What a backend URL says, percent-decoded.

    Attributes:
        scheme: in lower case, without ``://``.
        path: ``file://``: absolute, or relative to the working folder; others: relative to the login folder unless it begins with ``/``,
            ``""`` for that folder itself.
        query: what follows ``?``, for schemes that take settings in the URL.
        password: never shown by ``repr`` or ``description``.
        url: the whole as it was given, for backends that hand it on; it may hold the password.
    """

    scheme: str
    path: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    password: str | None = field(default=None, repr=False)
    url: str = field(default="", repr=False, compare=False)

    @property
    def description(self) -> str:
        """The URL without its password, for people and logs."""
        if self.scheme in _PATH_ONLY:
            return f"{self.scheme}://{self.path}"
        user = f"{quote(self.user, safe='')}@" if self.user is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        return f"{self.scheme}://{user}{host}{port}/{self.path}"


def is_url(text: str) -> bool:
    """Whether ``text`` is a backend URL and not a local path."""
    return _URL.match(text) is not None


def scheme_of(url: str) -> str:
    """In lower case; empty if ``url`` is none."""
    match = _URL.match(url)
    return match[1].lower() if match else ""


def parse_url(url: str) -> Location:
    """Take a URL apart.

    ``scheme://[user[:password]@]host[:port]/path``; one slash after the host is relative to the login folder, two are absolute. User,
    password and path are percent-decoded (observed: duplicity 3.2.1). A bare ``#``, and ``?`` in a scheme that has no query, which stock
    would cut off silently with what follows, is refused.

    Raises:
        UsageError: the URL says nothing sensible; the message never shows its password.
    """
    match = _URL.match(url)
    if match is None:
        shown = re.sub(r"(?s):(?!//).*@", f":{_HIDDEN}@", url)  # perhaps a URL with a typing error, password and all
        raise UsageError(f"{shown!r} is not a URL", hint="a folder is written file:///absolute/path or file://relative/path")
    scheme, rest = match[1].lower(), url[match.end() :]
    if scheme.startswith(FOREIGN):
        return _foreign(scheme, rest, url)
    if scheme in _PATH_ONLY:
        return Location(scheme=scheme, path=_decode_path(rest, url), url=url)
    rest, query = _split_query(rest) if _WITH_QUERY.fullmatch(scheme) else (rest, {})
    authority, _, path = rest.partition("/")
    login, _, server = authority.rpartition("@")
    user, _, password = login.partition(":")
    host, port = _split_server(server, url)
    return Location(
        scheme=scheme,
        path=_decode_path(path, url),
        host=host,
        port=port,
        query=query,
        user=unquote(user) or None,
        password=unquote(password) or None,
        url=url,
    )


def redact(url: str) -> str:
    """``url`` with its password and the values of its query replaced (P15); text that is no URL comes back as it is."""
    match = _URL.match(url)
    if match is None or match[1].lower() in _PATH_ONLY:
        return url
    rest = url[match.end() :]
    authority = rest.partition("/")[0]
    if "@" not in authority and not re.fullmatch(r"[^:@]*(:[0-9]*)?|\[[^\]]*\](:[0-9]*)?", authority):
        authority = rest  # "user:pa/ss@host": a password with a slash that should have been %2F
    login, at, _ = authority.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{match[0]}{user}:{_HIDDEN}{url[match.end() + len(login) :]}" if at and colon else url
    return _QUERY_VALUE.sub(rf"\1={_HIDDEN}", shown) if _WITH_QUERY.fullmatch(match[1].lower()) else shown


def _foreign(scheme: str, rest: str, url: str) -> Location:
    """A URL for somebody else to read, in whom another syntax may be right (``rsync://host::/module``): nothing is refused."""
    place, query = _split_query(rest)
    login, at, _ = place.partition("/")[0].rpartition("@")
    user, _, password = login.partition(":")
    return Location(
        scheme=scheme,
        path=unquote(place[len(login + at) :].removeprefix("/"), errors="surrogateescape"),
        user=unquote(user) or None,
        password=unquote(password) or None,
        query=query,
        url=url,
    )


def _split_query(rest: str) -> tuple[str, dict[str, str]]:
    """What comes before the query, and the query. ``?`` in a login is part of a password, ``@`` in a query part of a value."""
    login, at, _ = rest.partition("/")[0].rpartition("@")
    place, _, query = rest[len(login + at) :].partition("?")
    return login + at + place, dict(parse_qsl(query, keep_blank_values=True))


def _decode_path(path: str, url: str) -> str:
    if "?" in path or "#" in path:
        raise UsageError(f"{redact(url)}: a path has ? or #", hint="write %3F for ? and %23 for #")
    decoded = unquote(path, errors="surrogateescape")  # bytes that are no UTF-8 are a legal file name
    if "\0" in decoded:
        raise UsageError(f"{redact(url)}: a path cannot have a NUL byte")
    return decoded


def _split_server(server: str, url: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]?#]*))(?::([0-9]*))?", server)
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
