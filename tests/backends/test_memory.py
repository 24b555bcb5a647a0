"""What only the memory backend promises; the rest is in the conformance suite."""

from __future__ import annotations

import hashlib

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.backends.registry import open_backend


async def test_backends_of_one_name_share_a_store_and_others_do_not() -> None:
    await open_backend("memory://shared-by-name").put("x", BytesBody(b"x"))

    assert (await open_backend("memory://shared-by-name").stat("x")).size == 1
    async with open_backend("memory://another").list() as infos:
        assert [info async for info in infos] == []


async def test_put_and_stat_tell_strong_digests_and_the_time_that_was_handed_in() -> None:
    backend = MemoryBackend(now=lambda: 12.5)
    data = b"x" * 100_000

    info = await backend.put("x", BytesBody(data))

    assert info.mtime == 12.5
    assert info.digests == {"sha256": hashlib.sha256(data).hexdigest(), "sha1": hashlib.sha1(data).hexdigest()}
    assert backend.capabilities().checksums == ("sha256", "sha1")
    assert await backend.stat("x") == info


async def test_a_reader_keeps_the_object_it_has_opened() -> None:
    backend = MemoryBackend()
    await backend.put("x", BytesBody(b"old"))

    async with backend.get("x") as chunks:
        await backend.put("x", BytesBody(b"new"))
        assert [chunk async for chunk in chunks] == [b"old"]


async def test_the_store_is_the_owners_to_look_at() -> None:
    backend = MemoryBackend(name="mine")

    await backend.put("x", BytesBody(b"x"))

    assert backend.store["x"].data == b"x"
    assert backend.description == "memory://mine"
