"""Ambiguous outcomes are looked at before anything is sent again (I2, P5)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from asyncdup.backends.base import Capabilities, ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import Precondition
from asyncdup.events import Reconciled
from asyncdup.testing.faults import Flip, LostAck, Partial, Raise, Truncate, lost
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.transfer import RetryPolicy, open_engine

DATA = b"twelve bytes"
BODY = BytesBody(DATA, {"sha1": hashlib.sha1(DATA).hexdigest()})


class Plain(MemoryBackend):
    """Reports no digests."""

    atomic = True

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), checksums=(), atomic_put=self.atomic)

    async def stat(self, name: str) -> ObjectInfo:
        return replace(await super().stat(name), digests={})

    async def put(self, name: str, body) -> ObjectInfo:
        return replace(await super().put(name, body), digests={})


class NotAtomic(Plain):
    atomic = False


async def put(backend: FaultyBackend, log, *, verb: str = "put", body: BytesBody = BODY, absent: bool = False) -> list[bool]:
    """Put ``body`` and say what was found out on the way."""
    async with open_engine(events=log.hub, policy=RetryPolicy(max_attempts=5)) as engine:
        await engine.run(engine.lane(backend), verb, "a", body, absent=absent)
    return [event.done for event in log.of(Reconciled)]


async def test_a_put_whose_answer_was_lost_is_found_by_its_digest(log) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.script("put", LostAck())

    assert await put(backend, log) == [True]
    assert backend.names("put") == ["a"]


async def test_a_put_without_effect_is_sent_again(log) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.script("put", Raise(lost))

    assert await put(backend, log) == [False]
    assert backend.inner.store["a"].data == DATA


async def test_a_weak_checksum_proves_nothing(log) -> None:
    """The object of before has the same size and, by bad luck, the same CRC: it is not taken for ours."""
    weak = {"crc32": "0"}

    class Weak(MemoryBackend):
        async def stat(self, name: str) -> ObjectInfo:
            return replace(await super().stat(name), digests=weak)

        async def put(self, name: str, body) -> ObjectInfo:
            return replace(await super().put(name, body), digests=weak)

    backend = FaultyBackend(Weak())
    await backend.inner.put("a", BytesBody(b"TWELVE BYTES"))
    backend.script("put", Raise(lost))

    assert await put(backend, log, body=BytesBody(DATA, weak)) == [False]
    assert backend.inner.store["a"].data == DATA


async def test_other_bytes_of_the_same_size_are_not_ours(log) -> None:
    store = MemoryBackend()
    await store.put("a", BytesBody(b"TWELVE BYTES"))
    backend = FaultyBackend(store)
    backend.script("put", LostAck(), LostAck())
    await store.put("a", BytesBody(b"TWELVE BYTES"))
    backend.script("stat")

    await put(backend, log)

    assert store.store["a"].data == DATA


async def test_part_of_the_bytes_is_not_all(log) -> None:
    backend = FaultyBackend(Plain())
    backend.script("put", Partial(5))

    assert await put(backend, log, absent=True) == [False]
    assert backend.inner.store["a"].data == DATA


@pytest.mark.parametrize(
    ("kind", "absent", "found"), [(Plain, True, True), (Plain, False, False), (NotAtomic, True, False), (NotAtomic, False, False)]
)
async def test_without_a_digest_size_counts_only_for_an_atomic_put_of_an_absent_name(log, kind, absent: bool, found: bool) -> None:
    backend = FaultyBackend(kind())
    backend.script("put", LostAck())

    assert await put(backend, log, absent=absent) == [found]
    assert len(backend.names("put")) == (1 if found else 2)


async def test_put_if_absent_recognises_its_own_first_attempt(log) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.script("put_if_absent", LostAck())

    assert await put(backend, log, verb="put_if_absent") == [True]


async def test_put_if_absent_looks_behind_a_refusal_of_its_repetition(log) -> None:
    """The look comes too early and finds nothing; then the first attempt's object appears."""
    from asyncdup.errors import NotFound

    backend = FaultyBackend(MemoryBackend())
    backend.script("put_if_absent", LostAck())
    backend.script("stat", Raise(lambda: NotFound("not yet")))

    assert await put(backend, log, verb="put_if_absent") == [False]
    assert backend.names("put_if_absent") == ["a", "a"]


async def test_put_if_absent_of_a_name_that_is_taken_is_refused(log) -> None:
    backend = FaultyBackend(MemoryBackend())
    await backend.inner.put("a", BytesBody(b"somebody's"))
    with pytest.raises(Precondition):
        await put(backend, log, verb="put_if_absent")


async def test_a_delete_whose_answer_was_lost_is_done_when_nothing_is_there(log) -> None:
    from asyncdup.errors import NotFound

    class Strict(MemoryBackend):
        async def delete(self, name: str) -> None:
            if name not in self.store:
                raise NotFound(name)
            await super().delete(name)

    backend = FaultyBackend(Strict())
    await backend.inner.put("a", BODY)
    backend.script("delete", LostAck())
    async with open_engine() as engine:
        await engine.run(engine.lane(backend), "delete", "a")

    assert backend.names("delete") == ["a", "a"]


@pytest.mark.parametrize("fault", [Flip(3), Truncate(5)])
async def test_p5_what_the_server_says_it_stored_must_be_what_was_sent(log, fault) -> None:
    class Trusting(MemoryBackend):
        """Stores what it gets and says so."""

        async def put(self, name: str, body) -> ObjectInfo:
            async with body.open() as chunks:
                data = b"".join([chunk async for chunk in chunks])
            return await super().put(name, BytesBody(data))

    backend = FaultyBackend(Trusting())
    backend.script("put", fault)
    await put(backend, log)

    assert backend.names("put") == ["a", "a"] and backend.inner.store["a"].data == DATA


async def test_p5_a_server_that_tells_only_sizes_is_held_to_them(log) -> None:
    class Trusting(Plain):
        """Stores what it gets, and says how much that was."""

        async def put(self, name: str, body) -> ObjectInfo:
            async with body.open() as chunks:
                data = b"".join([chunk async for chunk in chunks])
            return await super().put(name, BytesBody(data))

    backend = FaultyBackend(Trusting())
    backend.script("put", Truncate(5))
    await put(backend, log)

    assert backend.names("put") == ["a", "a"] and backend.inner.store["a"].data == DATA
