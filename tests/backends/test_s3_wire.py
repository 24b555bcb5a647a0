"""Requests to a scripted S3 server in this process: what is sent, what is mended, what is bounded, and what is left behind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncdup.backends.base import Part, SupportsDropConnections, SupportsParts, SupportsPutIfAbsent
from asyncdup.backends.bodies import BytesBody, FileBody, PipedBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.s3.backend import S3Backend
from asyncdup.backends.s3.options import read_options
from asyncdup.backends.urls import parse_url
from asyncdup.errors import IntegrityError, NotFound, OperatorError, Precondition, RetryableError

pytestmark = pytest.mark.realtime

NOW = 1700000000.0
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/nowhere"}


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def region(self) -> str:
        return self.headers["authorization"].split("/")[2]


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    early: bool = False  # before the body of the request was read
    length: int | None = None  # as the header says, if that is not the truth


def fault(status: int, code: str, more: str = "", **headers: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>m</Message>{more}</Error>".encode()
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


Handler = Callable[[Request], Answer]


class Server:
    """Answers as the handler says; ``requests`` are those whose body came whole, ``cut`` is how the others ended, ``opened`` connections."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[Request] = []
        self.cut: list[Exception] = []
        self.opened = 0
        self.before_body: Callable[[], Awaitable[None]] | None = None
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while await self._one(reader, writer):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode() if not reader.at_eof() else ""
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        request = Request(method, path, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)})
        answer = self.handler(request)
        if not answer.early:
            if self.before_body:
                await self.before_body()
            try:
                request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
            except (asyncio.IncompleteReadError, ConnectionError) as exc:
                self.cut.append(exc)
                return False
        self.requests.append(request)
        headers = {"Content-Length": str(len(answer.body) if answer.length is None else answer.length), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        if method != "HEAD":
            writer.write(answer.body)
        await writer.drain()
        return not answer.early and answer.length is None


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    server = Server(handler)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await server.serve(reader, writer)
        except (asyncio.IncompleteReadError, ValueError):
            pass  # the client is gone

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server


@asynccontextmanager
async def opened(
    server: Server, *, environ: dict[str, str] | None = None, notify: Callable[[str], None] = lambda text: None, **settings: Any
) -> AsyncGenerator[S3Backend, None]:
    options = BackendOptions(environ=KEYS | (environ or {}), settings={"s3_endpoint_url": server.url, **settings}, notify=notify, timeout=5)
    backend = S3Backend(read_options(parse_url("s3://bucket/prefix"), options), options, now=lambda: NOW)
    try:
        yield backend
    finally:
        await backend.aclose()


def always(answer: Answer) -> Handler:
    return lambda request: answer


async def read(backend: S3Backend, name: str, **where: Any) -> bytes:
    async with backend.get(name, **where) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_the_backend_has_the_optional_methods() -> None:
    async with serving(always(Answer())) as server, opened(server) as backend:
        for kind in (SupportsParts, SupportsPutIfAbsent, SupportsDropConnections):
            assert isinstance(backend, kind)
        assert repr(backend) == "S3Backend('s3://bucket/prefix')"


async def test_a_put_is_one_request_with_the_digest_that_the_body_has() -> None:
    """P5: no second look at the body, no body in the signature, no round trip for 100-continue."""
    data = b"volume"
    sha1 = hashlib.sha1(data)
    header = base64.b64encode(sha1.digest()).decode()

    async with serving(always(Answer(headers={"x-amz-checksum-sha1": header}))) as server, opened(server) as backend:
        info = await backend.put("vol 1", BytesBody(data, {"sha1": sha1.hexdigest()}))

    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("PUT", "/bucket/prefix/vol%201", data)
    assert request.headers["x-amz-checksum-sha1"] == header
    assert request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert "x-amz-checksum-sha1" in request.headers["authorization"]
    assert "expect" not in request.headers and "transfer-encoding" not in request.headers
    assert (info.size, info.digests) == (6, {"sha1": sha1.hexdigest()})


async def test_the_strongest_digest_that_both_sides_have_goes_with_the_object() -> None:
    """Q3: of those that a body brings, S3 is told the SHA-256; one that S3 does not know is left out."""
    data = b"volume"
    digests = {kind: hashlib.new(kind, data).hexdigest() for kind in ("sha512", "sha1", "sha256")}

    async with serving(always(Answer())) as server, opened(server) as backend:
        await backend.put("a", BytesBody(data, digests))

    sent = {name: value for name, value in server.requests[0].headers.items() if name.startswith("x-amz-checksum-")}
    assert sent == {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(data).digest()).decode()}


async def test_a_sha256_is_signed_since_it_costs_nothing() -> None:
    digest = hashlib.sha256(b"x").hexdigest()

    async with serving(always(Answer())) as server, opened(server) as backend:
        await backend.put("a", BytesBody(b"x", {"sha256": digest}))

    assert server.requests[0].headers["x-amz-content-sha256"] == digest


async def test_a_body_without_a_digest_is_sent_with_a_crc32(tmp_path: Path) -> None:
    """P5."""
    path = tmp_path / "file"
    path.write_bytes(bytes(300_000) + b"part" + bytes(9))
    slice_ = FileBody(path, 5, offset=299_999)

    async with serving(always(Answer(headers={"ETag": '"e"'}))) as server, opened(server) as backend:
        await backend.put("a", slice_)
        part = await backend.put_part("a", "u/1", 3, slice_)

    crc32 = base64.b64encode(zlib.crc32(b"\0part").to_bytes(4, "big")).decode()
    assert [request.headers["x-amz-checksum-crc32"] for request in server.requests] == [crc32, crc32]
    assert [request.body for request in server.requests] == [b"\0part", b"\0part"]
    assert server.requests[1].path == "/bucket/prefix/a?partNumber=3&uploadId=u%2F1"
    assert part == Part(3, 5, '"e"')


async def test_an_answer_with_another_checksum_is_no_success() -> None:
    """P5: the put is made again."""
    answer = Answer(headers={"x-amz-checksum-crc32": "AAAAAA=="})

    async with serving(always(answer)) as server, opened(server) as backend:
        with pytest.raises(RetryableError, match="another x-amz-checksum-crc32"):
            await backend.put("a", BytesBody(b"x"))


async def test_an_etag_that_is_not_the_md5_is_no_success_where_checksums_are_ignored() -> None:
    """P5."""
    right, wrong = (Answer(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'}) for data in (b"x" * 100_000, b"y"))
    async with serving(always(right)) as server, opened(server) as backend:
        await backend.put("a", BytesBody(b"x" * 100_000))
        server.handler = always(wrong)
        with pytest.raises(RetryableError, match="ETag"):
            await backend.put("a", BytesBody(b"x" * 100_000))


async def test_a_put_if_absent_says_so_and_is_refused_with_its_class() -> None:
    async with serving(always(fault(412, "PreconditionFailed"))) as server, opened(server) as backend:
        with pytest.raises(Precondition):
            await backend.put_if_absent("lock", BytesBody(b"x"))

    assert server.requests[0].headers["if-none-match"] == "*"


async def test_the_storage_class_and_the_encryption_go_with_each_way_to_put() -> None:
    body = BytesBody(b"x", {"sha1": "ab" * 20})

    def handler(request: Request) -> Answer:
        return Answer(body=b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")

    settings = {"s3_use_glacier": True, "s3_use_server_side_encryption": True}
    async with serving(handler) as server, opened(server, **settings) as backend:
        await backend.put("duplicity-full.20231114T221320Z.vol1.difftar", body)
        assert await backend.begin_parts("duplicity-full.20231114T221320Z.vol2.difftar", body) == "u"
        await backend.put("duplicity-full.20231114T221320Z.manifest", body)

    assert [request.headers.get("x-amz-storage-class") for request in server.requests] == ["GLACIER", "GLACIER", None]
    assert {request.headers["x-amz-server-side-encryption"] for request in server.requests} == {"AES256"}
    assert server.requests[1].headers["x-amz-meta-asyncdup-sha1"] == "ab" * 20
    assert server.requests[1].headers["x-amz-checksum-algorithm"] == "CRC32"


async def test_an_anonymous_request_is_not_signed() -> None:
    async with serving(always(Answer(body=b"x"))) as server, opened(server, s3_anonymous=True) as backend:
        assert await read(backend, "a") == b"x"

    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("status", [301, 400])
async def test_the_bucket_is_followed_to_its_region_once_and_for_all(status: int) -> None:
    def handler(request: Request) -> Answer:
        if request.region != "eu-west-1":
            return fault(status, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")
        return Answer()

    async with serving(handler) as server, opened(server) as backend:
        await backend.put("a", BytesBody(b"whole"))
        await backend.put("b", BytesBody(b"whole"))

    assert [request.region for request in server.requests] == ["us-east-1", "eu-west-1", "eu-west-1"]
    assert server.requests[1].body == b"whole"


async def test_a_region_that_leads_nowhere_is_for_the_operator() -> None:
    def handler(request: Request) -> Answer:
        return fault(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1" if request.region == "us-east-1" else "us-east-1")

    async with serving(handler) as server, opened(server) as backend:
        with pytest.raises(OperatorError, match="PermanentRedirect"):
            await backend.put("a", BytesBody(b"x"))

    assert len(server.requests) == 2


async def test_a_wrong_clock_is_told_and_corrected_once() -> None:
    told: list[str] = []

    def handler(request: Request) -> Answer:
        if request.headers["x-amz-date"] == "20231114T221320Z":
            return fault(403, "RequestTimeTooSkewed", Date=formatdate(NOW + 3600, usegmt=True))
        return Answer()

    async with serving(handler) as server, opened(server, notify=told.append) as backend:
        await backend.delete("a")
        await backend.delete("b")

    assert [request.headers["x-amz-date"] for request in server.requests] == ["20231114T221320Z", "20231114T231320Z", "20231114T231320Z"]
    assert len(told) == 1 and "3600 s behind" in told[0]


@pytest.mark.parametrize(("unchecked", "url", "told"), [(True, "https", 1), (False, "https", 0), (True, "http", 0)])
async def test_an_unchecked_certificate_is_said(unchecked: bool, url: str, told: int) -> None:
    """P14."""
    said: list[str] = []
    nobody = Server(always(Answer()))
    nobody.url = f"{url}://127.0.0.1:1"

    async with opened(nobody, notify=said.append, ssl_no_check_certificate=unchecked) as backend:
        with pytest.raises(RetryableError):
            await backend.delete("a")

    assert [text for text in said if "not checked" in text] == said and len(said) == told


async def test_a_clock_that_stays_wrong_is_for_the_operator() -> None:
    answer = fault(403, "RequestTimeTooSkewed", Date=formatdate(NOW + 3600, usegmt=True))

    async with serving(always(answer)) as server, opened(server) as backend:
        with pytest.raises(OperatorError) as caught:
            await backend.delete("a")

    assert len(server.requests) == 2 and "clock" in str(caught.value.hint)


async def test_expired_credentials_are_renewed_once_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K1: the file has new ones by now."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "credentials"
    lines = "[default]\naws_access_key_id = {}\naws_secret_access_key = s\naws_session_token = t\n"
    path.write_text(lines.format("old"))
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_CONFIG_FILE": str(tmp_path / "none")}

    def handler(request: Request) -> Answer:
        return Answer(204) if "Credential=new" in request.headers["authorization"] else fault(400, "ExpiredToken")

    async with serving(handler) as server:
        settings = {"s3_endpoint_url": server.url}
        options = BackendOptions(environ=environ, settings=settings)
        backend = S3Backend(read_options(parse_url("s3://bucket"), options), options, now=lambda: NOW)
        with pytest.raises(OperatorError, match="ExpiredToken"):
            await backend.delete("a")
        path.write_text(lines.format("new"))
        await backend.delete("a")
        await backend.aclose()


async def test_a_refused_head_says_why() -> None:
    """Its answer has no body, so the question is put again with GET."""
    async with serving(always(fault(403, "InvalidAccessKeyId"))) as server, opened(server) as backend:
        with pytest.raises(OperatorError, match="InvalidAccessKeyId"):
            await backend.stat("a")

    assert [request.method for request in server.requests] == ["HEAD", "GET"]


async def test_an_error_in_an_answer_of_status_200_does_not_complete_an_upload() -> None:
    def handler(request: Request) -> Answer:
        return Answer(body=b"<ListPartsResult/>" if request.method == "GET" else b"  <Error><Code>InternalError</Code></Error>")

    async with serving(handler) as server, opened(server) as backend:
        with pytest.raises(RetryableError, match="InternalError"):
            await backend.complete_parts("a", "u", [Part(1, 1, '"e"')], BytesBody(b"x"))

    assert [request.method for request in server.requests] == ["GET", "POST"]


async def test_an_upload_that_another_process_began_is_completed_with_the_checksums_that_the_server_keeps() -> None:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>1</Size><ETag>e{number}</ETag><ChecksumCRC32>crc{number}</ChecksumCRC32></Part>"
        for number in (1, 2)
    )

    def handler(request: Request) -> Answer:
        listing = f"<ListPartsResult>{parts}</ListPartsResult>".encode()
        return Answer(body=listing if request.method == "GET" else b"", headers={"ETag": "e2"})

    async with serving(handler) as server, opened(server) as backend:
        second = await backend.put_part("a", "u", 2, BytesBody(b"y"))
        await backend.complete_parts("a", "u", [Part(1, 1, "e1"), second], BytesBody(b"xy"))

    (completion,) = [request for request in server.requests if request.method == "POST"]
    crc32 = base64.b64encode(zlib.crc32(b"y").to_bytes(4, "big"))
    assert b"<ETag>e1</ETag><ChecksumCRC32>crc1</ChecksumCRC32>" in completion.body
    assert b"<ETag>e2</ETag><ChecksumCRC32>" + crc32 + b"</ChecksumCRC32>" in completion.body


async def test_parts_that_are_not_as_long_as_the_body_are_no_object() -> None:
    async with serving(always(Answer())) as server, opened(server) as backend:
        with pytest.raises(IntegrityError, match="3 bytes and not 4"):
            await backend.complete_parts("a", "u", [Part(1, 3, '"e"')], BytesBody(b"four"))

    assert server.requests == []


async def test_a_refusal_before_the_body_was_read_keeps_its_class() -> None:
    """A throttle must not look like a lost connection (A5)."""
    answer = replace(fault(503, "SlowDown", Retry_After="9", Connection="close"), early=True)

    async with serving(always(answer)) as server, opened(server) as backend:
        with pytest.raises(RetryableError) as caught:
            await backend.put("a", BytesBody(bytes(64 << 10)))

    assert (caught.value.throttle, caught.value.retry_after) == (True, 9.0)


async def test_an_answer_that_breaks_off_is_retried_and_never_shorter() -> None:
    async with serving(always(Answer(body=b"half", length=8))) as server, opened(server) as backend:
        with pytest.raises(RetryableError) as caught:
            await read(backend, "a")

    assert not caught.value.ambiguous


async def test_a_connection_that_is_cut_after_the_body_is_ambiguous() -> None:
    """T0."""

    def handler(request: Request) -> Answer:
        raise ConnectionResetError

    async with serving(handler) as server, opened(server) as backend:
        with pytest.raises(RetryableError) as caught:
            await backend.put("a", BytesBody(b"x"))

    assert caught.value.ambiguous


async def test_no_more_of_a_body_is_read_than_the_server_takes() -> None:
    """16 bodies of 8 MiB in flight hold 5 MiB, not 128: the next chunk is asked for when the transport has room."""
    read_by_all = 0
    release = anyio.Event()

    async def counting(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        nonlocal read_by_all
        async for chunk in chunks:
            read_by_all += 1
            yield chunk

    async with serving(always(Answer())) as server, opened(server) as backend:
        server.before_body = release.wait
        body = PipedBody(BytesBody(bytes(24 << 20)), counting)
        async with anyio.create_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(backend.put, f"o{number}", body)
            stuck = -1
            while read_by_all < 2 or read_by_all > stuck:
                stuck = read_by_all
                await anyio.sleep(0.1)
            release.set()

    # The kernel's buffers on loopback take some MiB of each; ours hold one chunk.
    assert 2 <= stuck <= 2 * 12
    assert [len(request.body) for request in server.requests] == [24 << 20] * 2


async def test_a_cancelled_put_sends_no_end_of_its_body() -> None:
    """It ends in a reset: some servers store what came before an orderly end."""
    sent = anyio.Event()

    async def stopping(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        yield await anext(chunks)
        sent.set()
        await anyio.sleep_forever()

    async with serving(always(Answer())) as server, opened(server) as backend:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.put, "a", PipedBody(BytesBody(bytes(2 << 20)), stopping))
            await sent.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(60):
            while not server.cut:
                await anyio.sleep(0.01)

    assert server.requests == [] and isinstance(server.cut[0], ConnectionResetError)


async def test_connections_are_used_again_until_they_are_dropped() -> None:
    """T6."""
    async with serving(always(Answer(body=b"x"))) as server, opened(server) as backend:
        for _ in range(3):
            await read(backend, "a")
        assert server.opened == 1

        backend.drop_connections()
        await read(backend, "a")

        assert server.opened == 2


@pytest.mark.parametrize(
    ("exempt", "through"), [("", True), ("elsewhere, 7.0.0.1", True), ("127.0.0.1", False), ("x, .0.0.1", False), ("*", False)]
)
async def test_the_users_proxy_is_used_and_netrc_is_not(exempt: str, through: bool, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrcsecret\n")

    async with serving(always(Answer(body=b"proxied"))) as proxy, serving(always(Answer(body=b"direct"))) as server:
        environ = {"http_proxy": proxy.url, "no_proxy": exempt, "HOME": str(tmp_path)}
        async with opened(server, environ=environ) as backend:
            assert await read(backend, "a") == (b"proxied" if through else b"direct")

    (request,) = proxy.requests + server.requests
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256")
    assert request.path == (f"{server.url}/bucket/prefix/a" if through else "/bucket/prefix/a")


async def test_the_end_of_an_object_has_no_bytes_after_it() -> None:
    async with serving(always(fault(416, "InvalidRange"))) as server, opened(server) as backend:
        assert await read(backend, "a", start=10) == b""

    assert server.requests[0].headers["range"] == "bytes=10-"


async def test_keys_that_are_no_names_are_not_listed() -> None:
    """P16: the marker of a folder, and what a server of ill will makes up."""
    keys = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in ("prefix/", "prefix/a", "prefix/../x", "prefix/..", "other")
    )

    answer = Answer(body=f"<ListBucketResult>{keys}</ListBucketResult>".encode())
    async with serving(always(answer)) as server, opened(server) as backend, backend.list() as infos:
        assert [info.name async for info in infos] == ["a"]


async def test_a_listing_that_never_ends_does() -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"

    async with serving(always(Answer(body=page))) as server, opened(server) as backend:
        with pytest.raises(RetryableError, match="same page"):
            async with backend.list() as infos:
                async for _ in infos:
                    pass


async def test_a_missing_bucket_is_for_the_operator_and_a_missing_object_is_not() -> None:
    async with serving(always(fault(404, "NoSuchBucket"))) as server, opened(server) as backend:
        with pytest.raises(OperatorError, match="NoSuchBucket"):
            await read(backend, "a")
        server.handler = always(fault(404, "NoSuchKey"))
        with pytest.raises(NotFound):
            await read(backend, "a")
        await backend.delete("a")
