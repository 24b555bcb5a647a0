"""An S3 server behind a proxy that loses every fifth answer, of any request, after the server has acted: no 412 or 409 surfaces (I1, I2)."""

from __future__ import annotations

import hashlib
import itertools
import random
import urllib.request
from collections.abc import Iterator
from typing import Literal

import anyio
import pytest
from moto.server import ThreadedMotoServer

from asyncdup.backends.base import Backend
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.events import AttemptFinished, Event, EventHub, OpFailed
from asyncdup.testing.proxy import losing_proxy
from asyncdup.transfer import RetryPolicy, open_engine

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

LOST = 0.2
VOLUMES, SIZE = 60, 20_000


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    """A server's port; it has a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
    yield port
    server.stop()


class Answers:
    """Loses some by chance."""

    def __init__(self, seed: int) -> None:
        self.seen = self.lost = 0
        self._rng = random.Random(seed)

    def lose(self, piece: bytes) -> bool:
        if not piece.startswith(b"HTTP/1."):
            return False  # the rest of an answer
        lost = self._rng.random() < LOST
        self.seen, self.lost = self.seen + 1, self.lost + lost
        return lost


def backend_at(port: int) -> Backend:
    settings = {"s3_endpoint_url": f"http://127.0.0.1:{port}", "s3_path_style": True, "s3_region_name": "us-east-1"}
    environ = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return open_backend("s3://bucket/lost", BackendOptions(settings=settings, environ=environ))


def body_of(number: int) -> BytesBody:
    data = random.Random(number).randbytes(SIZE)
    return BytesBody(data, {"sha1": hashlib.sha1(data).hexdigest()})


async def test_lost_answers_of_s3_surface_nowhere_and_cost_no_volume(moto: int) -> None:
    """Puts, conditional puts (whose repetition is answered 412), deletes, lists and gets."""
    answers = Answers(3)
    hub, seen = EventHub(wall=lambda: 0.0, clock=anyio.current_time), list[Event]()
    hub.on_event(seen.append)
    names = [f"v{number:03}" for number in range(VOLUMES)]
    async with losing_proxy(moto, lose=answers.lose) as port:
        backend = backend_at(port)
        policy = RetryPolicy(base=0.01, cap=0.05)
        async with open_engine(concurrency=4, events=hub, rng=random.Random(1), policy=policy) as engine:
            lane = engine.lane(backend)
            verbs: Iterator[Literal["put", "put_if_absent"]] = itertools.cycle(("put", "put_if_absent"))
            for op in [await engine.submit(lane, next(verbs), name, body_of(number), absent=True) for number, name in enumerate(names)]:
                await op.result()
            assert [info.name for info in await engine.list(lane, "v")] == names
            assert [await engine.fetch(lane, name) for name in names] == [body_of(number).data for number in range(VOLUMES)]
            for name in names[:20]:
                await engine.run(lane, "delete", name)
            assert [info.name for info in await engine.list(lane, "v")] == names[20:]
        await backend.aclose()

    finished = [event for event in seen if isinstance(event, AttemptFinished) and event.verb.startswith("put")]
    lost = [event for event in finished if event.outcome == "error" and event.bytes >= SIZE]
    resent = sum(event.bytes for event in finished) - VOLUMES * SIZE
    assert [event for event in seen if isinstance(event, OpFailed)] == []
    assert len(lost) >= VOLUMES * LOST / 2
    assert resent <= 0.05 * len(lost) * SIZE
