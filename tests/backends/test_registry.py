"""URLs mean what they mean to stock duplicity, never show a password, and open the backend that is registered for their scheme."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from asyncdup.backends.local import LocalBackend
from asyncdup.backends.memory import MemoryBackend
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import known_schemes, open_backend, register_backend
from asyncdup.backends.urls import Location, is_url, parse_url, redact
from asyncdup.errors import UsageError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///tmp/a%20b", {"path": "/tmp/a b"}),
        ("file://relative/x", {"path": "relative/x"}),
        ("file:////tmp/x", {"path": "//tmp/x"}),
        ("file:///user:x@host", {"path": "/user:x@host"}),
        ("sftp://host", {"host": "host", "path": ""}),
        ("sftp://host/", {"host": "host", "path": ""}),
        ("sftp://host/relative/x", {"host": "host", "path": "relative/x"}),
        ("sftp://host//absolute/x", {"host": "host", "path": "/absolute/x"}),
        ("sftp://u@host:2222/x", {"host": "host", "port": 2222, "user": "u", "path": "x"}),
        ("sftp://u:pw@host/x", {"host": "host", "user": "u", "password": "pw", "path": "x"}),
        ("sftp://u%2Fv:p%40%3A%2Fw@host/x%3Fy", {"host": "host", "user": "u/v", "password": "p@:/w", "path": "x?y"}),
        ("sftp://u:p@w@host/x", {"host": "host", "user": "u", "password": "p@w", "path": "x"}),
        ("sftp://u:@host/x", {"host": "host", "user": "u", "path": "x"}),
        ("sftp://u:p?#w@host/x", {"host": "host", "user": "u", "password": "p?#w", "path": "x"}),
        ("sftp://[::1]:22/x", {"host": "::1", "port": 22, "path": "x"}),
        ("SFTP://Host/X", {"scheme": "sftp", "host": "Host", "path": "X"}),
        ("sftp://host/a@b:c", {"host": "host", "path": "a@b:c"}),
        ("paramiko+sftp://host/x", {"host": "host", "path": "x"}),
        ("memory://name", {"host": "name", "path": ""}),
        ("file:///%ff", {"path": "/\udcff"}),
        ("s3:///bucket/a/b", {"path": "bucket/a/b"}),
        ("boto3+s3://bucket/a?region=x%26y&path-style=", {"host": "bucket", "path": "a", "query": {"region": "x&y", "path-style": ""}}),
        ("s3://key:se?cret@bucket", {"host": "bucket", "user": "key", "password": "se?cret", "path": ""}),
    ],
)
def test_a_url_is_taken_apart_and_decoded(url: str, expected: dict[str, Any]) -> None:
    assert parse_url(url) == Location(**{"scheme": url.partition(":")[0], **expected})


@pytest.mark.parametrize(
    "url",
    [
        "/tmp/x",
        "file:x",
        "sftp:/u:secret@host/x",
        "sftp://host:port/x",
        "sftp://host:0/x",
        "sftp://host:65536/x",
        "sftp://u:sec/ret@host/x",
        "sftp://u:secret@-oProxyCommand=x/x",
        "sftp://u:secret@ho st/x",
        "sftp://u:secret@[::1/x",
        "sftp://u:secret@host/a?b",
        "file:///a#b",
        "file:///a%00b",
    ],
)
def test_what_is_no_good_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(url)

    assert caught.value.exit_code == 23
    assert "secret" not in str(caught.value) and "sec/ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://u:secret@host/x", "sftp://u:***@host/x"),
        ("sftp://u:se@cr:et@host:22/x", "sftp://u:***@host:22/x"),
        ("sftp://u:sec/ret@host/x", "sftp://u:***@host/x"),
        ("sftp://:secret@host", "sftp://:***@host"),
        ("sftp://u@host/a:b@c", "sftp://u@host/a:b@c"),
        ("sftp://host:22/a:b@c", "sftp://host:22/a:b@c"),
        ("sftp://[::1]:22/a:b@c", "sftp://[::1]:22/a:b@c"),
        ("file:///a:b@c", "file:///a:b@c"),
        ("fsspec+ftp://u:secret@h/x?token=secret&a=b=c", "fsspec+ftp://u:***@h/x?token=***&a=***"),
        ("/a:b@c", "/a:b@c"),
    ],
)
def test_redact_hides_the_password_and_nothing_else(url: str, shown: str) -> None:
    """P15."""
    assert redact(url) == shown


def test_no_password_in_repr_or_description() -> None:
    """P15."""
    location = parse_url("sftp://u:secret@[fe80::1]:22//x")
    options = BackendOptions(password="secret", environ={"FTP_PASSWORD": "secret"})

    assert "secret" not in repr(location) + location.description + repr(options)
    assert location.description == "sftp://u@[fe80::1]:22//x"
    assert parse_url(location.description) == parse_url("sftp://u@[fe80::1]:22//x")


def test_the_password_comes_from_the_url_the_options_or_the_environment_in_this_order() -> None:
    bare, full = parse_url("sftp://u@h/x"), parse_url("sftp://u:url@h/x")
    environ = {"BACKEND_PASSWORD": "backend", "FTP_PASSWORD": "ftp"}

    assert BackendOptions(password="given", environ=environ).password_for(full) == "url"
    assert BackendOptions(password="given", environ=environ).password_for(bare) == "given"
    assert BackendOptions(environ=environ).password_for(bare) == "backend"
    assert BackendOptions(environ={"FTP_PASSWORD": "ftp"}).password_for(bare) == "ftp"
    assert BackendOptions().password_for(bare) is None


def test_is_url_tells_urls_from_paths() -> None:
    assert [text for text in ("file:///x", "a+b://x", "/a://b", "c:\\x", "x", "", "file:/x") if is_url(text)] == ["file:///x", "a+b://x"]


async def test_each_scheme_opens_its_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    relative = open_backend("file://some/where")

    assert isinstance(relative, LocalBackend)
    assert relative.description == f"file://{tmp_path}/some/where"
    assert isinstance(open_backend("memory://x"), MemoryBackend)
    with pytest.raises(UsageError, match="without a path"):
        open_backend("file://")


def test_an_unknown_scheme_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown scheme sfpt:// in sfpt://u:\*\*\*@h/x") as caught:
        open_backend("sfpt://u:secret@h/x")

    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean sftp://? known: ")
    assert {"file", "memory", "scp", "sftp"} <= set(known_schemes())


def test_a_registered_factory_is_given_the_location_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdup.backends.registry._FACTORIES", {})
    given: list[object] = []
    register_backend("mine+x", lambda location, options: given.extend((location, options)) or MemoryBackend())  # type: ignore[func-returns-value]
    options = BackendOptions(timeout=5)

    open_backend("mine+x://h/p", options)

    assert given == [Location(scheme="mine+x", host="h", path="p"), options]
    assert known_schemes() == ("mine+x",)
    for scheme in ("", "no-dash", "UPPER", "x://"):
        with pytest.raises(UsageError):
            register_backend(scheme, lambda location, options: MemoryBackend())


def test_a_module_is_imported_on_first_use_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdup.backends.registry._FACTORIES", {})
    monkeypatch.delitem(sys.modules, "asyncdup.backends.memory")

    register_backend("later", "asyncdup.backends.memory:from_url")

    assert "asyncdup.backends.memory" not in sys.modules
    assert open_backend("later://x").description == "memory://x"
