"""One answer in five is lost after the far end has acted: nothing surfaces, and next to nothing is sent twice (I1, I2, P11)."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from asyncdup.backends.base import Capabilities, ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import NotFound
from asyncdup.events import OpFailed, Reconciled
from asyncdup.testing.faults import Chance, LostAck
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend
from asyncdup.transfer import RetryPolicy, open_engine

LOST = 0.2
VOLUMES, SIZE = 200, 4000
ALL = frozenset({"put", "put_if_absent", "delete", "stat", "list", "get", "move"})


class WithoutDigests(MemoryBackend):
    """As an SFTP server: an atomic put, a size, and no more. It says so when there is nothing to delete."""

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), checksums=())

    async def stat(self, name: str) -> ObjectInfo:
        return replace(await super().stat(name), digests={})

    async def put(self, name: str, body) -> ObjectInfo:
        return replace(await super().put(name, body), digests={})

    async def delete(self, name: str) -> None:
        if name not in self.store:
            raise NotFound(name)
        await super().delete(name)


def body_of(number: int) -> BytesBody:
    data = random.Random(number).randbytes(SIZE)
    return BytesBody(data, {"sha1": hashlib.sha1(data).hexdigest()})


@pytest.mark.parametrize(("kind", "verb"), [(MemoryBackend, "put"), (MemoryBackend, "put_if_absent"), (WithoutDigests, "put")])
async def test_lost_answers_cost_a_look_and_not_the_bytes(log, kind: type[MemoryBackend], verb: str) -> None:
    """Resent bytes are at most 5 % of what a blind retry sends again, which is all whose answer was lost."""
    store = kind()
    far = FaultyBackend(SlowBackend(store, latency=0.1), chances=[Chance(LOST, lambda _: LostAck(), ALL)], rng=random.Random(5))

    async with open_engine(concurrency=8, events=log.hub, rng=random.Random(6), policy=RetryPolicy(base=0.1)) as engine:
        lane = engine.lane(far)
        ops = [await engine.submit(lane, verb, f"v{number:03}", body_of(number), absent=True) for number in range(VOLUMES)]
        ops.append(await engine.submit(lane, "put", "manifest", BytesBody(b"m"), after=ops, metadata=True))
        for op in ops:
            await op.result()
        assert len(await engine.list(lane)) == VOLUMES + 1
        assert await engine.fetch(lane, "v007") == body_of(7).data
        for number in range(50):
            await engine.run(lane, "delete", f"v{number:03}")

    assert log.of(OpFailed) == []
    assert {name: stored.data for name, stored in store.store.items() if name != "manifest"} == {
        f"v{number:03}": body_of(number).data for number in range(50, VOLUMES)
    }
    puts = [call for call in far.calls if call.verb == verb and call.name != "manifest"]
    lost = [call for call in far.calls if call.verb == verb and call.outcome == "error"]
    resent = sum(call.bytes for call in puts) - VOLUMES * SIZE
    blind = SIZE * len(lost)
    assert len(lost) > LOST * VOLUMES / 2
    assert resent <= 0.05 * blind
    assert sum(event.done for event in log.of(Reconciled)) >= len(lost)
