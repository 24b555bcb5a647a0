"""What gs:// and azure:// are told by URL and environment."""

from __future__ import annotations

import pytest

from asyncdup.backends.obstore_backend import ObstoreBackend, parse_connection_string
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.errors import BadRequest, UsageError

pytest.importorskip("obstore", reason="pip install obstore")

KEY = "c2VjcmV0"


def test_a_connection_string_is_read_as_azures_portal_shows_it() -> None:
    cloud = f"DefaultEndpointsProtocol=https;AccountName=me;AccountKey={KEY}==;EndpointSuffix=core.windows.net"
    local = f"DefaultEndpointsProtocol=http;AccountName=me;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:1/me;"

    assert parse_connection_string(cloud) == {
        "account_name": "me",
        "account_key": f"{KEY}==",
        "endpoint": "https://me.blob.core.windows.net",
    }
    assert parse_connection_string(local)["endpoint"] == "http://127.0.0.1:1/me"
    assert parse_connection_string("SharedAccessSignature=sv=1&sig=x") == {"sas_key": "sv=1&sig=x"}
    assert parse_connection_string("") == {}


def test_a_url_without_a_container_or_an_account_is_refused_before_anything_is_asked() -> None:
    for url in ("gs:///x", "azure:///x", "azure://container/x"):
        with pytest.raises(UsageError):
            open_backend(url, BackendOptions())


async def test_no_secret_is_shown_and_what_azure_would_rename_is_refused() -> None:
    """P15; Azure makes a slash of a backslash."""
    environ = {"AZURE_CONNECTION_STRING": f"AccountName=me;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:1/me"}

    backend = open_backend("azure://container/a//b/", BackendOptions(environ=environ))

    assert isinstance(backend, ObstoreBackend)
    assert KEY not in repr(backend) + backend.description
    with pytest.raises(BadRequest):
        await backend.stat("a\\b")
