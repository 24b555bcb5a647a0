"""Servers that answer in their own ways: a server in the test's own loop that says what it is told to."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from asyncdup.backends.base import Backend
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.errors import NotFound, OperatorError, RetryableError, UsageError

pytestmark = pytest.mark.realtime

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FOLDER = (
    '<d:multistatus xmlns:d="DAV:"><d:response><d:href>%s</d:href><d:propstat><d:prop>%s</d:prop></d:propstat></d:response></d:multistatus>'
)


def multistatus(href: str, properties: str = "<d:resourcetype><d:collection/></d:resourcetype>") -> web.Response:
    return web.Response(status=207, text=FOLDER % (href, properties))


@asynccontextmanager
async def serving(handler: Handler, login: str = "", **options: Any) -> AsyncGenerator[Backend, None]:
    """A backend for the folder ``/b`` of a server that answers by ``handler``."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    backend = open_backend(f"webdav://{login}127.0.0.1:{port}/b", BackendOptions(timeout=10, **options))
    try:
        yield backend
    finally:
        await backend.aclose()
        await runner.cleanup()


async def read(backend: Backend, start: int = 0, length: int | None = None) -> bytes:
    async with backend.get("x", start=start, length=length) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_server_that_ignores_ranges_is_read_up_to_what_was_asked_for() -> None:
    data = bytes(range(256)) * 4096

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data)

    async with serving(handler) as backend:
        assert await read(backend) == data and backend.capabilities().ranged_get
        assert await read(backend, 300_000, 1000) == data[300_000:301_000]
        assert not backend.capabilities().ranged_get, "nobody asks it for ranges side by side again"
        assert await read(backend, len(data) - 5) == data[-5:]


async def test_another_range_than_the_one_asked_for_is_never_taken() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=206, body=b"abc", headers={"Content-Range": "bytes 0-2/9"})

    async with serving(handler) as backend:
        with pytest.raises(RetryableError):
            await read(backend, 3, 3)


async def test_a_body_that_ends_early_is_retryable() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(handler) as backend:
        with pytest.raises(RetryableError) as raised:
            await read(backend)
    assert raised.value.__cause__ is not None


async def test_a_login_by_digest_costs_one_question_and_sends_no_password() -> None:
    """The challenge comes on the look at the folder, before a body is sent; bodies are sent once."""
    seen: list[str] = []
    bodies: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        seen.append(f"{request.method} {given.split(' ')[0]}")
        assert "secret" not in str(request.headers)
        if not re.search(r'uri="/b/[^"]*", .*nc=\d{8}', given):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'})
        if request.method == "PUT":
            bodies.append(await request.read())
            return web.Response(status=201)
        if request.method == "PROPFIND":
            return multistatus(request.path, "<d:getcontentlength>4</d:getcontentlength>" if "asyncdup" in request.path else "")
        return web.Response(status=201)

    said: list[str] = []
    async with serving(handler, "user@", environ={"BACKEND_PASSWORD": "secret"}, notify=said.append) as backend:
        info = await backend.put("x", BytesBody(b"data"))

    assert info.size == 4 and bodies == [b"data"]
    assert seen == ["PROPFIND ", "PROPFIND Digest", "PUT Digest", "PROPFIND Digest", "MOVE Digest"]
    assert said == []


async def test_a_password_over_plain_http_is_not_sent_unasked_nor_unsaid() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        if not seen[-1]:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return web.Response(body=b"x")

    said: list[str] = []
    async with serving(handler, "user:secret@", notify=said.append) as backend:
        assert await read(backend) == b"x"
        assert "secret" not in repr(backend) + backend.description

    assert seen == ["", "Basic dXNlcjpzZWNyZXQ="]
    assert len(said) == 1 and "webdavs://" in said[0] and "secret" not in said[0]


async def test_a_wrong_password_is_for_the_operator() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    async with serving(handler, "user:wrong@") as backend:
        with pytest.raises(OperatorError) as raised:
            await read(backend)
    assert "wrong" not in str(raised.value)


async def test_a_redirect_within_the_server_is_followed_and_remembered() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        if request.path.startswith("/b/"):
            return web.Response(status=301, headers={"Location": request.path.replace("/b/", "/remote.php/dav/")})
        return web.Response(body=b"x")

    async with serving(handler) as backend:
        assert await read(backend) == b"x"
        assert await read(backend) == b"x"
    assert seen == ["/b/x", "/remote.php/dav/x", "/remote.php/dav/x"]


async def test_no_redirect_leads_to_another_host() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://elsewhere.invalid/b/x"})

    async with serving(handler, "user:secret@") as backend:
        with pytest.raises(OperatorError) as raised:
            await read(backend)
    assert "elsewhere.invalid" in str(raised.value)


async def test_a_folder_that_vanishes_is_made_again_and_the_body_sent_again() -> None:
    made: list[str] = []
    bodies: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "PROPFIND":
            if "asyncdup" in request.path:
                return multistatus(request.path, "<d:getcontentlength>4</d:getcontentlength>")
            return multistatus("/b/") if not bodies or made else web.Response(status=404)
        if request.method == "MKCOL":
            made.append(request.path)
            return web.Response(status=201)
        if request.method == "PUT":
            bodies.append(await request.read())
            return web.Response(status=201 if made else 409)
        return web.Response(status=204)

    async with serving(handler) as backend:
        await backend.put("x", BytesBody(b"data"))
    assert made == ["/b/"] and bodies == [b"data", b"data"]


async def test_a_full_server_is_named_before_the_body_is_through_and_nothing_is_left() -> None:
    """P5; the class says that there is no space, whatever was sent by then."""
    deleted: list[str] = []
    peers: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername")[1])
        if request.method == "PUT":
            return web.Response(status=507)
        if request.method == "DELETE":
            deleted.append(request.path)
            return web.Response(status=204)
        return multistatus("/b/")

    async with serving(handler) as backend:
        with pytest.raises(OperatorError) as raised:
            await backend.put("x", BytesBody(bytes(8 << 20)))
    assert raised.value.space and len(deleted) == 1 and deleted[0].startswith("/b/.asyncdup-")
    assert peers[-1] != peers[-2]  # the connection with half a body on it is not used again


async def test_a_server_that_is_faster_than_the_end_of_the_body_is_believed() -> None:
    """The last byte is there, so the answer may come before the body has been closed."""

    class SlowToClose(BytesBody):
        @asynccontextmanager
        async def open(self, start: int = 0) -> AsyncGenerator[AsyncIterator[bytes], None]:  # type: ignore[override]
            async with super().open(start) as chunks:
                yield chunks
            await anyio.sleep(0.2)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "PUT":
            await request.read()
            return web.Response(status=201)
        length = "<d:getcontentlength>4</d:getcontentlength>" if "asyncdup" in request.path else ""
        return multistatus(request.path, length) if request.method == "PROPFIND" else web.Response(status=201)

    async with serving(handler) as backend:
        assert (await backend.put("x", SlowToClose(b"data"))).size == 4


async def test_names_in_a_list_stay_inside_the_folder() -> None:
    """P16: what a server makes up is left out."""
    hrefs = ["/b/", "/b/ok", "/b/a%2Fb", "/b/%2E%2E", "http://host/b/absolute", "/b/nul%00"]

    async def handler(request: web.Request) -> web.StreamResponse:
        entries = "".join(f"<d:response><d:href>{href}</d:href></d:response>" for href in hrefs)
        return web.Response(status=207, text=f'<d:multistatus xmlns:d="DAV:">{entries}</d:multistatus>')

    async with serving(handler) as backend, backend.list() as infos:
        assert [info.name async for info in infos] == ["ok", "absolute"]


async def test_a_page_that_is_no_webdav_answer_says_so() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=207, text="<html><p>Welcome</html>")

    async with serving(handler) as backend:
        with pytest.raises(RetryableError) as raised:
            await backend.stat("x")
    assert "WebDAV" in (raised.value.hint or "")


async def test_a_server_that_is_not_there_holds_the_lane_and_an_absent_object_does_not() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    async with serving(handler) as backend:
        with pytest.raises(NotFound):
            await read(backend)
    backend = open_backend("webdav://127.0.0.1:1/b", BackendOptions())
    with pytest.raises(RetryableError) as raised:
        await read(backend)
    await backend.aclose()
    assert raised.value.scope == "lane" and not raised.value.ambiguous


def test_a_certificate_file_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(UsageError):
        open_backend("webdavs://host/b", BackendOptions(settings={"ssl_cacert_file": "/nowhere/ca.pem"}))
