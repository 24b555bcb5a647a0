"""Large objects in parts: their sizes, what fails alone, what a lost answer costs, and what is left of one that was given up (Q4, I2, S2, S3, X5)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import anyio
import pytest

from asyncdup.backends.base import Capabilities, Part, PartLimits
from asyncdup.backends.bodies import CHUNK, BytesBody, SlicedBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import BadRequest, NotFound, OperatorError, RetryableError, Unsupported
from asyncdup.events import AttemptFinished, AttemptStarted, EventHub, OpFailed, OpSucceeded, Progress
from asyncdup.testing.faults import LostAck, Raise, Step
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.transfer import Engine, RetryPolicy, open_engine
from asyncdup.transfer.parts import Begun, part_size

MIB = 1 << 20
LIMITS = PartLimits(least=5 * MIB, most=5 << 30, number=10_000)
DATA = random.Random(4).randbytes(4 * MIB + 1000)
BODY = BytesBody(DATA, {"sha1": hashlib.sha1(DATA).hexdigest()})


class Slow(MemoryBackend):
    """Each part takes a second; how many came at once, and which, is known."""

    def __init__(self) -> None:
        super().__init__()
        self.now_running = self.most_running = 0
        self.sent: list[int] = []

    async def put_part(self, name: str, upload: str, number: int, body) -> Part:
        self.now_running += 1
        self.most_running = max(self.most_running, self.now_running)
        try:
            await anyio.sleep(1)
            part = await super().put_part(name, upload, number, body)
            self.sent.append(number)
            return part
        finally:
            self.now_running -= 1


class Journal:
    """In memory."""

    def __init__(self, begun: Begun | None = None) -> None:
        self.noted = begun

    def earlier(self) -> Begun | None:
        return self.noted

    async def begun(self, upload: str, part_size: int) -> None:
        self.noted = Begun(upload, part_size)

    async def stored(self, upload: str, part: Part) -> None:
        assert self.noted is not None and self.noted.id == upload
        self.noted = self.noted._replace(parts=(*self.noted.parts, part))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MiB each: five of them here."""
    monkeypatch.setattr("asyncdup.transfer.parts.PART", MIB)


class Far(FaultyBackend):
    """One that shows each byte as it moves, and leaves no call behind (T5)."""

    wait_idle = None  # type: ignore[assignment]


def fails(error: Exception) -> Raise:
    return Raise(lambda: error)


def verbs(far: Far) -> list[str]:
    return [call.verb for call in far.calls]


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        (2 * MIB - 1, LIMITS._replace(least=1), None),
        (2 * MIB, LIMITS._replace(least=1), MIB),
        (10 * MIB - 1, LIMITS, None),
        (10 * MIB, LIMITS, 5 * MIB),
        (200 * MIB, LIMITS._replace(least=20 * MIB), 20 * MIB),
        (9000 * 6 * MIB, LIMITS, 6 * MIB),
        (9000 * 6 * MIB + 1, LIMITS, 7 * MIB),
        (100 * 6 * MIB, LIMITS._replace(number=100), 6 * MIB),
        (100 * 6 * MIB, LIMITS._replace(number=10, most=59 * MIB), None),
    ],
)
def test_the_size_of_a_part(size: int, limits: PartLimits, expected: int | None) -> None:
    """Q4."""
    assert part_size(size, limits) == expected


def test_a_part_is_8_mib_unless_more_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q4."""
    monkeypatch.undo()
    assert part_size(16 * MIB, LIMITS) == 8 * MIB
    assert part_size(16 * MIB - 1, LIMITS) is None


async def test_a_small_object_is_one_attempt_as_ever(log) -> None:
    """Q4: no parts below two part sizes."""
    far = Far(MemoryBackend())
    async with open_engine(events=log.hub) as engine:
        await engine.run(engine.lane(far), "put", "a", BytesBody(DATA[: 2 * MIB - 1]))

    assert verbs(far) == ["put"]
    assert [(event.verb, event.op, event.attempt) for event in log.of(AttemptStarted)] == [("put", 1, 1)]
    assert sum(event.bytes for event in log.of(Progress)) == 2 * MIB - 1


async def test_a_large_object_is_begun_sent_in_parts_and_completed(log) -> None:
    """Q4, V3: every byte is counted once, every attempt of the op has a number of its own, and one op has one end."""
    far = Far(store := MemoryBackend())
    async with open_engine(events=log.hub) as engine:
        info = await engine.run(engine.lane(far), "put", "a", BODY)

    assert verbs(far) == ["begin_parts", *["put_part"] * 5, "complete_parts"]
    assert store.store["a"].data == DATA and info.digests["sha1"] == BODY.digests["sha1"]
    assert store.uploads == {}
    assert sum(event.bytes for event in log.of(Progress)) == len(DATA)
    assert {event.op for event in log.of(AttemptStarted)} == {1}
    assert sorted(event.attempt for event in log.of(AttemptFinished)) == list(range(1, 8))
    assert [event.bytes for event in log.of(OpSucceeded)] == [len(DATA)]


@pytest.mark.parametrize("slots", [0, 1, 3, 16])
async def test_parts_go_side_by_side_in_as_many_slots_as_there_are(slots: int) -> None:
    """S1, S2: five parts of a second each."""
    store = Slow()
    async with open_engine(concurrency=slots) as engine:
        began = anyio.current_time()
        await engine.run(engine.lane(store), "put", "a", BODY)
        took = anyio.current_time() - began

    assert store.most_running == max(1, min(slots, 5))
    assert took == pytest.approx(-(-5 // max(1, slots)), abs=0.01)
    assert store.store["a"].data == DATA


async def test_parts_in_flight_keep_to_the_memory() -> None:
    """S3: of five parts of a MiB three fit."""
    store = Slow()
    async with open_engine(concurrency=16, memory_bytes=3 * MIB) as engine:
        file = await engine.spool.new(len(DATA))
        file.path.write_bytes(DATA)
        await engine.run(engine.lane(store), "put", "a", file.seal(len(DATA), BODY.digests))
        assert not file.path.exists()

    assert store.most_running == 3


async def test_only_the_part_that_fails_is_sent_again(log) -> None:
    far = Far(MemoryBackend())
    far.script("put_part", Step(), fails(RetryableError("reset")), fails(RetryableError("reset")))
    async with open_engine(events=log.hub, rng=random.Random(1)) as engine:
        await engine.run(engine.lane(far), "put", "a", BODY)

    assert verbs(far).count("put_part") == 7
    assert verbs(far).count("begin_parts") == verbs(far).count("complete_parts") == 1
    assert far.inner.store["a"].data == DATA


async def test_a_throttle_of_a_part_holds_the_lane(log) -> None:
    """G1, B2: nothing starts before the time that the server names, and no part is lost."""
    far = Far(MemoryBackend())
    far.script("put_part", fails(RetryableError("SlowDown", scope="lane", retry_after=60)))
    async with open_engine(concurrency=1, events=log.hub, rng=random.Random(1)) as engine:
        await engine.run(engine.lane(far), "put", "a", BODY)

    started = [event.t for event in log.of(AttemptStarted) if event.verb == "part"]
    assert len(started) == 6 and started[1] - started[0] >= 60


async def test_a_pause_in_the_middle_is_between_parts() -> None:
    """X3: what runs ends, and goes on from the parts that are there."""
    store = Slow()
    async with open_engine(concurrency=2) as engine:
        lane = engine.lane(store)
        op = await engine.submit(lane, "put", "a", BODY)
        await anyio.sleep(1.5)
        engine.pause(now=True)
        await anyio.sleep(100)
        assert (sorted(store.sent), lane.gate.running) == ([1, 2], 0)
        engine.unpause()
        await op.result()

    assert sorted(store.sent) == [1, 2, 3, 4, 5], "an attempt that a pause ends sends its part later, and nobody sends one twice"


async def test_cancelled_in_the_middle_it_is_given_up() -> None:
    """Q4, C5."""
    store = Slow()
    async with open_engine(concurrency=2) as engine:
        op = await engine.submit(engine.lane(store), "put", "a", BODY)
        await anyio.sleep(1.5)
        assert len(store.uploads) == 1
        op.cancel()
        await op.wait()
        assert store.uploads == {} and store.now_running == 0

    assert store.store == {}


async def test_failed_for_good_it_is_given_up_and_raises_the_root_cause(log) -> None:
    """Q4, C2: the very object, and in no group, though others run beside it."""
    far = Far(MemoryBackend())
    cause = BadRequest("no such part number")
    far.script("put_part", Step(), Step(), fails(cause))
    async with open_engine(concurrency=4, events=log.hub) as engine:
        with pytest.raises(BadRequest) as caught:
            await engine.run(engine.lane(far), "put", "a", BODY)

    assert caught.value is cause
    assert verbs(far)[-1] == "abort_parts" and far.inner.uploads == {}
    assert len(log.of(OpFailed)) == 1


async def test_giving_up_does_not_wait_for_a_target_that_is_away() -> None:
    """G9: a run that is to end ends within 2 s, though the upload cannot be given up."""

    class Dead(MemoryBackend):
        async def put_part(self, name, upload, number, body):
            raise OperatorError("the key has expired")

        async def abort_parts(self, name, upload) -> None:
            await anyio.sleep_forever()

    policy = RetryPolicy(mode="intervention")
    async with open_engine(policy=policy) as engine:
        op = await engine.submit(engine.lane(Dead()), "put", "a", BODY)
        await anyio.sleep(50)
        began = anyio.current_time()
        op.cancel()
        await op.wait()
        assert anyio.current_time() - began <= 1.5


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("begin_parts", {"begin_parts": 2, "put_part": 5, "complete_parts": 1}),
        ("put_part", {"begin_parts": 1, "put_part": 6, "complete_parts": 1}),
        ("complete_parts", {"begin_parts": 1, "put_part": 5, "complete_parts": 1, "stat": 1}),
    ],
)
async def test_a_lost_answer_costs_one_call(verb: str, expected: dict[str, int]) -> None:
    """I2: a part is sent again, a completion is looked at."""
    far = Far(MemoryBackend())
    far.script(verb, LostAck())
    async with open_engine(rng=random.Random(1)) as engine:
        info = await engine.run(engine.lane(far), "put", "a", BODY)

    assert {each: verbs(far).count(each) for each in verbs(far)} == expected
    assert info.size == len(DATA) and far.inner.store["a"].data == DATA


async def test_an_upload_that_is_gone_is_begun_again_once() -> None:
    far = Far(MemoryBackend())
    far.script("put_part", fails(NotFound("NoSuchUpload")))
    async with open_engine(concurrency=1) as engine:
        await engine.run(engine.lane(far), "put", "a", BODY)
    assert (verbs(far).count("begin_parts"), far.inner.store["a"].data == DATA, far.inner.uploads) == (2, True, {})

    far.script("put_part", *[fails(NotFound("NoSuchUpload"))] * 10)
    async with open_engine(concurrency=1) as engine:
        with pytest.raises(NotFound):
            await engine.run(engine.lane(far), "put", "b", BODY)
    assert verbs(far).count("begin_parts") == 4 and far.inner.uploads == {}


async def test_a_backend_that_knows_no_parts_after_all_gets_objects_whole() -> None:
    """Q2: found out once."""

    class Refusing(MemoryBackend):
        async def begin_parts(self, name, body) -> str:
            raise Unsupported("NotImplemented")

    far = Far(Refusing())
    async with open_engine() as engine:
        for name in "ab":
            await engine.run(engine.lane(far), "put", name, BODY)
    assert verbs(far) == ["begin_parts", "put", "put"]


async def test_a_serial_backend_and_one_without_the_capability_get_objects_whole() -> None:
    """S8, Q1."""

    class Without(MemoryBackend):
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities(), parts=None)

    serial = Far(MemoryBackend())
    serial.supports_concurrency = lambda: False  # type: ignore[method-assign]
    for far in (serial, Far(Without())):
        async with open_engine() as engine:
            await engine.run(engine.lane(far), "put", "a", BODY)
        assert verbs(far) == ["put"]


async def test_what_follows_waits_until_the_object_is_complete(log) -> None:
    """S5."""
    far = Far(Slow())
    async with open_engine(events=log.hub) as engine:
        lane = engine.lane(far)
        volumes = [await engine.submit(lane, "put", f"v{number}", BODY) for number in range(3)]
        await engine.run(lane, "put", "manifest", BytesBody(b"m"), after=volumes, metadata=True)

    assert verbs(far)[-1] == "put" and verbs(far).count("complete_parts") == 3


async def half_sent(store: Slow, journal: Journal) -> None:
    """A run that is killed: nothing of it is given up."""

    class Killed(Far):
        async def abort_parts(self, name: str, upload: str) -> None:
            raise OSError("the process is dead")

    async with open_engine(concurrency=2) as engine:
        op = await engine.submit(engine.lane(Killed(store)), "put", "a", BODY, parts=journal)
        await anyio.sleep(2.5)
        op.cancel()
        await op.wait()
    assert journal.noted is not None and sorted(part.number for part in journal.noted.parts) == [1, 2, 3, 4]
    store.sent.clear()


async def test_a_later_run_goes_on_from_the_parts(log) -> None:
    """X5."""
    store, journal = Slow(), Journal()
    await half_sent(store, journal)

    async with open_engine(events=log.hub) as engine:
        await _put(engine, store, journal)

    assert store.sent == [5]
    assert store.store["a"].data == DATA and store.uploads == {}


async def _put(engine: Engine, store: MemoryBackend, journal: Journal) -> None:
    op = await engine.submit(engine.lane(store), "put", "a", BODY, parts=journal)
    await op.result()


def other_etag(store: Slow, journal: Journal) -> None:
    ((part, data), *_) = (upload.parts[2] for upload in store.uploads.values())
    next(iter(store.uploads.values())).parts[2] = part._replace(etag="other"), data


def part_lost(store: Slow, journal: Journal) -> None:
    del next(iter(store.uploads.values())).parts[2]


def upload_gone(store: Slow, journal: Journal) -> None:
    store.uploads.clear()


def other_size(store: Slow, journal: Journal) -> None:
    assert journal.noted is not None
    journal.noted = journal.noted._replace(part_size=2 * MIB)


@pytest.mark.parametrize("odd", [other_etag, part_lost, upload_gone, other_size])
async def test_whatever_is_odd_is_given_up_and_begun_anew(odd: Callable[[Slow, Journal], None]) -> None:
    """X5, I4: going on is a gain and never a risk; what the server lists counts, and not what we believe it has."""
    store, journal = Slow(), Journal()
    await half_sent(store, journal)
    odd(store, journal)

    async with open_engine() as engine:
        await _put(engine, store, journal)

    assert sorted(store.sent) == [1, 2, 3, 4, 5]
    assert store.store["a"].data == DATA and store.uploads == {}


async def test_a_part_that_was_stored_and_not_noted_is_sent_again() -> None:
    """X5: what is not in the journal does not count."""
    store, journal = Slow(), Journal()
    await half_sent(store, journal)
    assert journal.noted is not None
    journal.noted = journal.noted._replace(parts=journal.noted.parts[:2])

    async with open_engine() as engine:
        await _put(engine, store, journal)

    assert sorted(store.sent) == [3, 4, 5] and store.store["a"].data == DATA


async def test_any_weather_leaves_the_object_or_nothing() -> None:
    """Q4: whatever fails wherever, the object is whole or not there, and no upload is left that anybody knew of."""
    for seed in range(40):
        rng = random.Random(seed)
        far = Far(MemoryBackend())
        for verb in ("begin_parts", "put_part", "complete_parts"):
            faults = [Step(), fails(RetryableError("reset")), fails(NotFound("NoSuchUpload")), fails(RetryableError("503", scope="lane"))]
            far.script(verb, *rng.choices(faults, weights=[6, 2, 1, 1], k=6))
        async with open_engine(
            rng=rng, concurrency=rng.randint(0, 4), events=EventHub(wall=lambda: 0.0, clock=anyio.current_time)
        ) as engine:
            with suppress(NotFound):
                await engine.run(engine.lane(far), "put", "a", BODY)
        stored = far.inner.store.get("a")
        assert stored is None or stored.data == DATA
        assert far.inner.uploads == {}


@pytest.mark.parametrize(("start", "size"), [(0, 10), (CHUNK - 5, 10), (CHUNK, 2 * CHUNK), (3 * CHUNK, 1000), (7, 0)])
async def test_a_slice_of_a_body(start: int, size: int) -> None:
    piece = SlicedBody(BODY, start, size)
    for at in {0, size // 2}:
        async with piece.open(at) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == DATA[start + at : start + size]
    assert await piece.digest("crc32") == await BytesBody(DATA[start : start + size]).digest("crc32")
