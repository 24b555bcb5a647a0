"""The proxy passes everything on as it is but for what its rules say, and records all of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from aiohttp import ClientPayloadError, ClientSession, ClientTimeout, ServerDisconnectedError, web
from yarl import URL

from asyncdup.testing.httpfaults import (
    Exchange,
    FaultProxy,
    answers,
    clock_ahead,
    cut_answer,
    cut_request,
    everything,
    fault_proxy,
    flip_in_answer,
    flip_in_request,
    hang,
    lost_answer,
    moved_to,
    slow_down,
    stale,
)

pytestmark = pytest.mark.realtime


@dataclass
class Far:
    """A server that keeps what it is given, and a client that goes to it through the proxy."""

    proxy: FaultProxy
    client: ClientSession
    store: dict[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"{self.proxy.url}{path}", encoded=True)
        async with self.client.request(method, url, data=data, headers=named, allow_redirects=False) as answer:
            self.headers = answer.headers
            return answer.status, await answer.read()


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    async with serving() as made:
        yield made


@asynccontextmanager
async def serving() -> AsyncGenerator[Far, None]:
    store: dict[str, bytes] = {}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            store[request.raw_path] = await request.read()
            return web.Response(headers={"ETag": "e", "Host-Seen": request.headers["Host"]})
        if request.method == "DELETE":
            del store[request.raw_path]
            return web.Response(status=204)
        data = store.get(request.raw_path)
        return web.Response(status=404) if data is None else web.Response(body=data)

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with fault_proxy("http://{}:{}".format(*runner.addresses[0])) as proxy, ClientSession(timeout=ClientTimeout(60)) as client:
            yield Far(proxy, client, store)
    finally:
        await runner.cleanup()


async def test_everything_passes_as_it_is(far: Far) -> None:
    """Signatures cover the host, the path and the query as they are written."""
    assert await far.ask("PUT", "/b/a%20b%2Bc?x=%2F&y", b"data") == (200, b"")
    assert far.headers["ETag"] == "e" and far.proxy.url.endswith(far.headers["Host-Seen"])
    assert list(far.store) == ["/b/a%20b%2Bc?x=%2F&y"]
    assert await far.ask("GET", "/b/a%20b%2Bc?x=%2F&y") == (200, b"data")
    assert await far.ask("HEAD", "/b/a%20b%2Bc?x=%2F&y") == (200, b"")
    assert far.headers["Content-Length"] == "4"
    assert await far.ask("PUT", "/empty", b"") == (200, b"")
    assert await far.ask("DELETE", "/empty") == (204, b"")
    assert await far.ask("GET", "/none") == (404, b"")

    assert [(seen.number, seen.method, seen.status, seen.fault, seen.acted) for seen in far.proxy.seen[:2]] == [
        (1, "PUT", 200, "", True),
        (2, "GET", 200, "", True),
    ]
    assert (far.proxy.seen[0].path, far.proxy.seen[0].query, far.proxy.seen[0].size) == ("/b/a b+c", {"x": "/", "y": ""}, 4)


@pytest.mark.parametrize(
    ("method", "query", "name"),
    [
        ("PUT", "", "PutObject"),
        ("GET", "", "GetObject"),
        ("HEAD", "", "HeadObject"),
        ("DELETE", "", "DeleteObject"),
        ("GET", "?list-type=2&prefix=x", "ListObjects"),
        ("POST", "?uploads", "CreateMultipartUpload"),
        ("GET", "?uploads", "ListMultipartUploads"),
        ("PUT", "?partNumber=1&uploadId=u", "UploadPart"),
        ("GET", "?uploadId=u", "ListParts"),
        ("POST", "?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "?uploadId=u", "AbortMultipartUpload"),
    ],
)
async def test_requests_are_known_by_the_names_of_s3(far: Far, method: str, query: str, name: str) -> None:
    far.proxy.on(everything, answers(204))

    await far.ask(method, f"/b/k{query}")

    assert [seen.operation for seen in far.proxy.seen] == [name]


async def test_rules_say_which_requests_and_how_many(far: Far) -> None:
    far.proxy.on("PutObject", answers(500), skip=1, times=2)
    far.proxy.on("PutObject", answers(502), times=1)

    said = [(await far.ask("PUT", "/k", b"x"))[0] for _ in range(5)]

    assert said == [502, 500, 500, 200, 200]
    assert [seen.acted for seen in far.proxy.seen] == [False, False, False, True, True]
    assert far.proxy.count("PutObject") == 5 and far.proxy.count("GetObject") == 0


async def test_answers_of_its_own_are_those_of_s3(far: Far) -> None:
    far.proxy.on(everything, slow_down("7"))
    far.proxy.on(everything, answers(200, "InternalError", acted=True))

    status, document = await far.ask("PUT", "/k", b"x")
    assert (status, far.headers["Retry-After"], b"<Code>SlowDown</Code>" in document) == (503, "7", True)
    assert far.store == {}
    status, document = await far.ask("PUT", "/k", b"x")
    assert (status, b"<Code>InternalError</Code>" in document) == (200, True)
    assert far.store == {"/k": b"x"}


async def test_connections_end_in_the_body_of_the_request_or_of_the_answer(far: Far) -> None:
    await far.ask("PUT", "/k", bytes(500_000))
    far.proxy.on("PutObject", cut_request(1000), times=2)  # aiohttp sends it once more by itself
    far.proxy.on("GetObject", cut_answer(1000))

    with pytest.raises((ServerDisconnectedError, OSError)):
        await far.ask("PUT", "/k", bytes(900_000))
    with pytest.raises((ClientPayloadError, OSError)):
        await far.ask("GET", "/k")

    assert far.store == {"/k": bytes(500_000)}, "the server has not heard of the put"
    assert {(seen.operation, seen.status, seen.acted) for seen in far.proxy.seen[1:]} == {("PutObject", 0, False), ("GetObject", 0, True)}


async def test_an_answer_is_lost_after_the_server_has_acted(far: Far) -> None:
    far.proxy.on("PutObject", lost_answer, times=2)  # aiohttp asks once more by itself

    with pytest.raises((ServerDisconnectedError, OSError)):
        await far.ask("PUT", "/k", b"x")

    assert far.store == {"/k": b"x"}


async def test_a_request_that_hangs_ends_with_its_client(far: Far) -> None:
    begun = anyio.Event()

    async def taken(exchange: Exchange) -> None:
        begun.set()
        await hang(exchange)

    far.proxy.on(everything, taken)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(far.ask, "GET", "/k")
        await begun.wait()
        tasks.cancel_scope.cancel()
    while not far.proxy.seen:
        await anyio.sleep(0.005)

    assert far.proxy.seen[0].status == 0


async def test_one_bit_flips_on_the_way_there_or_back(far: Far) -> None:
    far.proxy.on("PutObject", flip_in_request(1))
    far.proxy.on("GetObject", flip_in_answer(999))

    await far.ask("PUT", "/k", b"abc")

    assert far.store == {"/k": b"acc"}
    assert await far.ask("GET", "/k") == (200, b"acb"), "the last byte, if there are not so many"
    assert await far.ask("GET", "/k") == (200, b"acc")


async def test_a_stale_answer_is_the_first_one_to_the_same_question(far: Far) -> None:
    await far.ask("PUT", "/k", b"old")
    far.proxy.on("GetObject", stale(), times=None)

    assert await far.ask("GET", "/k") == (200, b"old")
    await far.ask("PUT", "/k", b"new")

    assert await far.ask("GET", "/k") == (200, b"old")
    assert await far.ask("GET", "/other") == (404, b"")


async def test_a_clock_that_is_ahead_refuses_other_dates_and_says_its_own(far: Far) -> None:
    far.proxy.on(everything, clock_ahead(7200), times=None)

    assert (await far.ask("GET", "/k", x_amz_date="20200101T000000Z"))[0] == 403

    assert far.headers["Date"].endswith("GMT")


async def test_a_bucket_that_has_moved_wants_the_signature_for_its_region(far: Far) -> None:
    far.proxy.on(everything, moved_to("eu-central-1"), times=None)

    assert (await far.ask("PUT", "/k", b"x", Authorization="Credential=k/20200101/us-east-1/s3/aws4_request"))[0] == 301
    assert far.headers["x-amz-bucket-region"] == "eu-central-1"
    assert (await far.ask("PUT", "/k", b"x", Authorization="Credential=k/20200101/eu-central-1/s3/aws4_request"))[0] == 200
