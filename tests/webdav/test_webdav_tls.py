"""webdavs://: whose certificate is trusted, by duplicity's options; and connections that are given up after a suspend."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from asyncdup.backends.base import Backend, SupportsDropConnections
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.errors import NotFound, OperatorError

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that nobody but itself has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@asynccontextmanager
async def serving(certificate: Path, *, elsewhere: str = "", **options: Any) -> AsyncGenerator[tuple[Backend, list[int]], None]:
    """A backend of a server with that certificate, and the ports that its requests came from. ``elsewhere``: where it sends everybody."""
    peers: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername")[1])
        return web.Response(status=302, headers={"Location": elsewhere}) if elsewhere else web.Response(status=404)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    backend = open_backend(f"webdavs://127.0.0.1:{runner.addresses[0][1]}/b", BackendOptions(timeout=10, **options))
    try:
        yield backend, peers
    finally:
        await backend.aclose()
        await runner.cleanup()


async def test_an_unknown_certificate_is_for_the_operator_and_nothing_is_sent(certificate: Path) -> None:
    async with serving(certificate) as (backend, peers):
        with pytest.raises(OperatorError) as raised:
            await backend.stat("x")
    assert "ssl-cacert-file" in (raised.value.hint or "") and peers == []


async def test_a_certificate_named_by_the_user_is_trusted(certificate: Path) -> None:
    async with serving(certificate, settings={"ssl_cacert_file": str(certificate)}) as (backend, _):
        with pytest.raises(NotFound):
            await backend.stat("x")


async def test_an_unchecked_certificate_is_said(certificate: Path) -> None:
    said: list[str] = []
    async with serving(certificate, settings={"ssl_no_check_certificate": True}, notify=said.append) as (backend, _):
        with pytest.raises(NotFound):
            await backend.stat("x")
    assert len(said) == 1 and "not checked" in said[0]


async def test_no_redirect_leads_out_of_tls(certificate: Path) -> None:
    """P14: not on the same host either, where somebody else may listen on the way."""
    trusted = {"ssl_cacert_file": str(certificate)}
    async with serving(certificate, elsewhere="http://127.0.0.1:1/b/x", settings=trusted) as (backend, _):
        with pytest.raises(OperatorError, match=r"redirects to http://127\.0\.0\.1"):
            await backend.stat("x")


async def test_connections_are_kept_until_they_are_dropped(certificate: Path) -> None:
    """T6: after a suspend none is dealt out again."""
    async with serving(certificate, settings={"ssl_cacert_file": str(certificate)}) as (backend, peers):
        for _ in range(2):
            with pytest.raises(NotFound):
                await backend.stat("x")
        assert isinstance(backend, SupportsDropConnections)
        backend.drop_connections()
        with pytest.raises(NotFound):
            await backend.stat("x")
    assert peers[0] == peers[1] != peers[2]
