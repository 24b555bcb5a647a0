"""A ``fsspec+PROTOCOL://…`` URL as fsspec understands it: the class, its storage options, the path. Nothing is connected here."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.backends.legacy_calls import is_name
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location, redact
from asyncdup.errors import BadRequest, NotFound, OperatorError, UsageError

PREFIX = "fsspec+"
INSTALL = "pip install 'asyncdup[fsspec]'"

# Where a rename replaces its target in one step (read in fsspec 2026.9.0, sshfs 2026.8.0), so that a put can be all or nothing.
_RENAMING = frozenset({"file", "local", "sftp", "ssh"})
# Where an object appears when its last byte is there, and folders are no things of their own.
_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "ocilake", "oss", "r2"})
_REFUSED = frozenset(
    {"AuthenticationException", "HostKeyNotVerifiable", "NoCredentialsError", "PartialCredentialsError", "PermissionDenied"}
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """One location.

    Attributes:
        cls: fsspec's class. ``arguments``: what to make it with; they may hold secrets.
        root: the folder as the class writes it, without a slash at its end.
    """

    protocol: str
    cls: Any
    root: str
    description: str
    arguments: Mapping[str, Any] = field(repr=False)

    @property
    def renames(self) -> bool:
        """Puts go by a temporary name."""
        return self.protocol in _RENAMING

    @property
    def holds_objects(self) -> bool:
        """Puts are all or nothing by themselves; there are no folders to be made."""
        return self.protocol in _OBJECTS

    @property
    def is_native(self) -> bool:
        """Its methods can be awaited. sshfs has such methods, too, but connects when it is made, which blocks."""
        return bool(self.cls.async_impl) and self.cls.__module__.partition(".")[0] != "sshfs"

    def open(self, **more: Any) -> Any:
        """A filesystem of its own, shared with nobody. It may connect."""
        made = self.cls(**self.arguments, **more, skip_instance_cache=True)
        if hasattr(made, "retries"):
            made.retries = 1  # ours is the only retry
        return made

    def path(self, name: str) -> str:
        """Of the object ``name``. Raises BadRequest for one that is not text."""
        try:
            name.encode()
        except UnicodeEncodeError as exc:
            raise BadRequest(f"{name!r} is not UTF-8, which is all that fsspec has names for") from exc
        return f"{self.root}/{name}" if self.root else name

    def infos(self, entries: Iterable[Mapping[str, Any]]) -> list[ObjectInfo]:
        """Of a listing, without folders, the root itself (some classes list a marker for it), and names that could not be asked for (P16)."""
        root = self.root.strip("/")
        files = (entry for entry in entries if entry["type"] != "directory" and str(entry["name"]).strip("/") != root)
        return [info for info in map(self.info, files) if is_name(info.name)]

    def info(self, found: Mapping[str, Any]) -> ObjectInfo:
        """An entry of a listing, or what there is to know of one object."""
        size, mtime = found.get("size"), found.get("mtime")
        name = str(found["name"]).rstrip("/").rpartition("/")[2]
        return ObjectInfo(name, UNKNOWN_SIZE if size is None else int(size), float(mtime) if isinstance(mtime, (int, float)) else None)

    def stat(self, name: str, found: Mapping[str, Any]) -> ObjectInfo:
        """Of a single object. Raises NotFound for a folder."""
        if found.get("type") == "directory":
            raise NotFound(f"{name!r} in {self.description} is a folder")
        return ObjectInfo(name, self.info(found).size)


def place_of(location: Location, options: BackendOptions) -> Place:
    """What the URL, its query, ``--fsspec-options`` and the environment (``FSSPEC_…``, read by fsspec itself) say; the first counts.

    Raises:
        UsageError: fsspec, or the package of the protocol, is not installed; the protocol is unknown; the table is none.
    """
    protocol = location.scheme.removeprefix(PREFIX)
    cls = _class_of(protocol)
    url = _without_query(location.url[len(PREFIX) :])
    arguments = dict(_table(options.settings.get("fsspec_options"), protocol))
    arguments |= {name: value for name, value in cls._get_kwargs_from_urls(url).items() if value is not None}
    if location.user and "password" not in arguments and (password := options.password_for(location)):
        arguments["password"] = password
    for name, text in location.query.items():
        _set(arguments, name, _value(text))
    _keep_safe(cls, protocol, arguments, options)
    root = str(cls._strip_protocol(url))
    return Place(protocol=protocol, cls=cls, arguments=arguments, root=root.rstrip("/") or root, description=redact(location.url))


def refusal(exc: BaseException, action: str) -> OperatorError | None:
    """``exc`` as an OperatorError, if it is a library's way to say that a person must act; the libraries need not be imported to know them."""
    if type(exc).__name__ in _REFUSED:
        return OperatorError(f"{action}: {str(exc) or type(exc).__name__}", hint="check the credentials, and that the host's key is known")
    return None


def _class_of(protocol: str) -> Any:
    try:
        return importlib.import_module("fsspec").get_filesystem_class(protocol)
    except ModuleNotFoundError as exc:
        if exc.name == "fsspec":
            raise UsageError(f"fsspec+{protocol}:// needs the package fsspec", hint=INSTALL) from exc
        raise UsageError(f"fsspec+{protocol}:// needs the package {exc.name}", hint=f"pip install {exc.name}") from exc
    except ImportError as exc:  # fsspec's own words: "Install s3fs to access S3"
        raise UsageError(f"fsspec+{protocol}://: {exc}", hint="pip install the package that it names") from exc
    except ValueError as exc:
        raise UsageError(
            f"fsspec knows no protocol {protocol}", hint="python -c 'import fsspec; print(fsspec.available_protocols())'"
        ) from exc


def _without_query(url: str) -> str:
    """``?`` in a login is part of a password."""
    login, at, place = url.rpartition("@")
    return login + at + place.partition("?")[0]


def _table(file: Any, protocol: str) -> Mapping[str, Any]:
    """The table ``[protocol]`` of the file, or all of a file without tables for protocols."""
    if file is None:
        return {}
    try:
        table = tomllib.loads(Path(str(file)).read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"--fsspec-options {file}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"--fsspec-options {file} is not TOML: {exc}") from exc
    own = table.get(protocol, table)
    if not isinstance(own, dict):
        raise UsageError(f"--fsspec-options {file}: {protocol} is not a table", hint=f"write [{protocol}] and the options below it")
    return own


def _value(text: str) -> Any:
    """Of a query: true, false, whole numbers and JSON are what they look like; anything else is text."""
    if re.fullmatch(r"true|false|0|[1-9][0-9]{0,8}|\{.*\}|\[.*\]", text, re.DOTALL):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _set(arguments: dict[str, Any], name: str, value: Any) -> None:
    """``client_kwargs.endpoint_url`` is a key of a table."""
    table, dot, rest = name.partition(".")
    if not dot:
        arguments[name] = value
        return
    inner = dict(arguments.get(table) or {})
    _set(inner, rest, value)
    arguments[table] = inner


def _keep_safe(cls: Any, protocol: str, arguments: dict[str, Any], options: BackendOptions) -> None:
    """Both of fsspec's ways to SSH trust any host key unless told else (read in sshfs 2026.8.0, fsspec 2026.9.0)."""
    if cls.__module__.partition(".")[0] == "sshfs":
        arguments.setdefault(
            "known_hosts", str(options.known_hosts) if options.known_hosts else ()
        )  # (): asyncssh's default, the user's file
    elif protocol in ("sftp", "ssh"):
        options.notify(f"fsspec+{protocol}:// trusts any host key: sftp:// checks it, and so does fsspec with the package sshfs")
