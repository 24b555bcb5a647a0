"""The suite that every backend must pass (M7), over S3 to each server; and uploads in parts, which it does not look at."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from asyncdup.backends.base import Backend, ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.s3.backend import S3Backend
from asyncdup.errors import NotFound, OperatorError, Unsupported
from asyncdup.testing.conformance import CHECKS, Check
from asyncdup.testing.httpfaults import Exchange, fault_proxy
from tests.s3.conftest import Place

pytestmark = pytest.mark.realtime

# What a server lacks that a check asks for.
LACKS = {
    ("seaweedfs", "odd but legal names are kept as they are"): "takes a backslash in a key for a slash",
    ("seaweedfs", "parts become one object when they are completed"): "lists a part that was sent again as it was the first time",
    ("localbucket", "parts become one object when they are completed"): "lists no uploads and no parts",
    ("localbucket", "an upload that was given up is gone"): "lists no uploads and no parts",
    ("moto", "an upload that was given up is gone"): "answers 500 to a part of an unknown upload",
}
PART = 5 << 20  # bytes: the least that a part may be, if it is not the last


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_s3_keeps_the_promise_that(check: Check, place: Place, request: pytest.FixtureRequest) -> None:
    @asynccontextmanager
    async def make() -> AsyncGenerator[Backend, None]:
        async with opened(place) as backend:
            yield backend

    server = request.node.callspec.id.partition("-")[0]
    if reason := LACKS.get((server, check.name)):
        pytest.skip(f"{server} {reason}")
    if not await check.run(make, many=30):
        pytest.skip("needs an ability that S3 has not")


@asynccontextmanager
async def opened(place: Place) -> AsyncGenerator[S3Backend, None]:
    backend = place.backend()
    try:
        yield backend
    finally:
        await backend.aclose()


async def read(backend: Backend, name: str) -> bytes:
    async with backend.get(name) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def listed(backend: Backend, prefix: str = "") -> list[ObjectInfo]:
    async with backend.list(prefix) as infos:
        return [info async for info in infos]


def big_body(size: int = PART + 12_345) -> BytesBody:
    data = random.Random(size).randbytes(size)
    return BytesBody(data, {"sha1": hashlib.sha1(data).hexdigest()})


async def test_parts_in_any_order_and_at_once_make_the_object(place: Place) -> None:
    body = big_body()

    async with opened(place) as backend:
        upload = await backend.begin_parts("big", body)
        last = await backend.put_part("big", upload, 2, BytesBody(body.data[PART:]))
        first = await backend.put_part("big", upload, 1, BytesBody(body.data[:PART]))
        unseen = await listed(backend)
        info = await backend.complete_parts("big", upload, [first, last], body)

        assert unseen == [], "an upload that is not complete is no object"
        assert (first.number, first.size, last.number, last.size) == (1, PART, 2, 12_345)
        assert (info.name, info.size) == ("big", body.size)
        assert await read(backend, "big") == body.data


async def test_a_part_that_is_sent_again_replaces_the_one_before(place: Place) -> None:
    """I2: a part whose answer was lost is sent again, whatever became of it."""
    body = big_body()

    async with opened(place) as backend:
        upload = await backend.begin_parts("big", body)
        await backend.put_part("big", upload, 1, BytesBody(bytes(PART)))
        parts = [
            await backend.put_part("big", upload, 1, BytesBody(body.data[:PART])),
            await backend.put_part("big", upload, 2, BytesBody(body.data[PART:])),
        ]
        await backend.complete_parts("big", upload, parts, body)

        assert await read(backend, "big") == body.data


async def test_an_aborted_upload_is_unknown_and_aborting_it_again_is_success(place: Place, request: pytest.FixtureRequest) -> None:
    body = big_body()

    async with opened(place) as backend:
        upload = await backend.begin_parts("big", body)
        part = await backend.put_part("big", upload, 1, BytesBody(body.data[:PART]))
        await backend.abort_parts("big", upload)
        await backend.abort_parts("big", upload)

        if "moto" not in request.node.name:  # which answers 500
            with pytest.raises(NotFound):
                await backend.put_part("big", upload, 2, BytesBody(body.data[PART:]))
        with pytest.raises(NotFound):
            await backend.complete_parts("big", upload, [part], BytesBody(body.data[:PART]))
        with pytest.raises(NotFound):
            await backend.stat("big")


async def test_unfinished_uploads_and_their_parts_are_listed_below_the_prefix_only(place: Place) -> None:
    """What the next run goes on with, and ``cleanup`` removes."""
    body = big_body()

    async with opened(place) as backend:
        upload = await backend.begin_parts("big one", body)
        other = await backend.begin_parts("other", body)
        part = await backend.put_part("big one", upload, 1, BytesBody(body.data[:PART]))
        try:
            uploads = await backend.list_uploads()
            chosen = await backend.list_uploads("big")
            parts = await backend.list_parts("big one", upload)
        except Unsupported:
            pytest.skip("localbucket lists no uploads")
        finally:
            await backend.abort_parts("big one", upload)
            await backend.abort_parts("other", other)
        afterwards = await backend.list_uploads()

        assert {(each.name, each.id) for each in uploads} == {("big one", upload), ("other", other)}
        assert [each.name for each in chosen] == ["big one"]
        assert [(each.number, each.size) for each in parts] == [(1, PART)]
        assert parts[0].etag.split(";")[0] == part.etag.split(";")[0], "what is behind it is the checksum, which not every server tells"
        assert afterwards == []
        with pytest.raises(NotFound):
            await backend.list_parts("big one", upload)


async def test_the_digest_of_an_object_in_parts_is_that_of_the_whole(place: Place, request: pytest.FixtureRequest) -> None:
    """I2: a lost answer to the completion is settled by a look."""
    body = big_body()

    async with opened(place) as backend:
        upload = await backend.begin_parts("big", body)
        halves = enumerate((body.data[:PART], body.data[PART:]), 1)
        parts = [await backend.put_part("big", upload, number, BytesBody(half)) for number, half in halves]
        completed = await backend.complete_parts("big", upload, parts, body)

        if "localbucket" in request.node.name:
            pytest.skip("localbucket keeps no metadata of uploads in parts")
        assert completed.digests["sha1"] == body.digests["sha1"]
        assert (await backend.stat("big")).digests["sha1"] == body.digests["sha1"]


async def test_lists_of_several_pages_are_whole(moto_place: Place) -> None:
    """Three keys to a page, as the proxy asks for, instead of 1000."""

    async def short_pages(exchange: Exchange) -> None:
        await exchange.answer(await exchange.forward(query="&max-keys=3"))

    async with fault_proxy(moto_place.endpoint) as proxy, opened(moto_place.through(proxy.url)) as backend:
        proxy.on("ListObjects", short_pages, times=None)
        for number in range(10):
            await backend.put(f"{number:04}", BytesBody(b""))

        assert [info.name for info in await listed(backend)] == [f"{number:04}" for number in range(10)]
        assert proxy.count("ListObjects") == 4


async def test_what_lies_above_beside_and_below_the_prefix_is_not_listed(moto_place: Place) -> None:
    """P16: and cannot be deleted by mistake."""
    prefix = moto_place.prefix
    for where in (prefix, prefix + "/below", prefix + "er", prefix.rpartition("/")[0]):
        async with opened(replace(moto_place, prefix=where)) as backend:
            await backend.put("object", BytesBody(where.encode()))

    async with opened(moto_place) as backend:
        found = await listed(backend)

    assert [(info.name, info.size) for info in found] == [("object", len(prefix))]


@pytest.mark.slow
async def test_a_wrong_secret_is_for_the_operator(weed_place: Place) -> None:
    """K1, C8: with the words of the server, and no secret."""
    async with opened(replace(weed_place, environ={"AWS_SECRET_ACCESS_KEY": "wrongsecret"})) as backend:
        with pytest.raises(OperatorError, match="SignatureDoesNotMatch") as caught:
            await backend.put("object", BytesBody(b"x"))

    assert "AWS_SECRET_ACCESS_KEY" in (caught.value.hint or "")
    assert "wrongsecret" not in str(caught.value)
