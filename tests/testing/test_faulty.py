"""M1: each fault does what it says, the record is right, and a seed gives the same faults again."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest

from asyncdup.backends.base import Capabilities
from asyncdup.backends.bodies import CHUNK, BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import BackendError, OperatorError, RetryableError, Unsupported
from asyncdup.testing.faults import (
    Cut,
    Delay,
    Extend,
    Flip,
    Hang,
    LostAck,
    Partial,
    Raise,
    Stale,
    Stall,
    Step,
    Truncate,
    Twice,
    auth_lost,
    disk_full,
    throttled,
    usual_chances,
)
from asyncdup.testing.faulty import PASS, FaultyBackend

DATA = bytes(range(256)) * 10


async def read(backend: FaultyBackend, name: str = "x") -> bytes:
    async with backend.get(name) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def listed(backend: FaultyBackend) -> list[str]:
    async with backend.list() as infos:
        return sorted([info.name async for info in infos])


@pytest.fixture
def memory() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def faulty(memory: MemoryBackend) -> FaultyBackend:
    return FaultyBackend(memory)


async def put(faulty: FaultyBackend, name: str = "x", data: bytes = DATA) -> None:
    await faulty.put(name, BytesBody(data))


@pytest.mark.parametrize("step", [Raise(), Cut(100), Cut(0), Raise(throttled), Raise(auth_lost), Raise(disk_full), Cut(5, disk_full)])
async def test_a_put_that_fails_before_its_end_has_no_effect(step: Step, memory: MemoryBackend, faulty: FaultyBackend) -> None:
    faulty.script("put", step)

    with pytest.raises(RetryableError):
        await put(faulty)
    assert memory.store == {}
    await put(faulty)

    assert memory.store["x"].data == DATA
    assert [call.outcome for call in faulty.calls] == ["error", "ok"]


async def test_a_lost_acknowledgement_comes_after_the_effect(memory: MemoryBackend, faulty: FaultyBackend) -> None:
    faulty.script("put", LostAck())
    faulty.script("delete", LostAck())

    with pytest.raises(RetryableError) as caught:
        await put(faulty)
    assert caught.value.ambiguous and isinstance(caught.value.__cause__, ConnectionResetError)
    assert memory.store["x"].data == DATA
    with pytest.raises(RetryableError):
        await faulty.delete("x")

    assert memory.store == {}


async def test_a_partial_put_is_visible(memory: MemoryBackend, faulty: FaultyBackend) -> None:
    faulty.script("put", Partial(100), Partial(10 * len(DATA)))

    with pytest.raises(RetryableError):
        await put(faulty)
    assert memory.store["x"].data == DATA[:100]
    with pytest.raises(RetryableError):
        await put(faulty)

    assert memory.store["x"].data == DATA


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Truncate(100), DATA[:100]),
        (Truncate(0), b""),
        (Extend(b"more"), DATA + b"more"),
        (Flip(0), bytes([DATA[0] ^ 1]) + DATA[1:]),
        (Flip(len(DATA) - 1), DATA[:-1] + bytes([DATA[-1] ^ 1])),
        (Twice(), DATA),
        (PASS, DATA),
    ],
)
async def test_a_get_that_lies_says_nothing(step: Step, expected: bytes, faulty: FaultyBackend) -> None:
    await put(faulty)
    faulty.script("get", step)

    assert await read(faulty) == expected
    assert await read(faulty) == DATA
    assert faulty.calls[-2].bytes == len(expected)


async def test_a_get_that_is_cut_has_given_what_came_before(faulty: FaultyBackend) -> None:
    await put(faulty, data=bytes(CHUNK) + b"tail")
    faulty.script("get", Cut(CHUNK + 2))
    got = b""

    with pytest.raises(RetryableError):
        async with faulty.get("x") as chunks:
            async for chunk in chunks:
                got += chunk

    assert got == bytes(CHUNK) + b"ta"


async def test_a_flipped_bit_can_be_stored(memory: MemoryBackend, faulty: FaultyBackend) -> None:
    faulty.script("put", Flip(3))

    await put(faulty, data=b"abcdef")

    assert memory.store["x"].data == b"abceef"


async def test_a_stale_list_lacks_what_is_new_and_shows_what_was_deleted(faulty: FaultyBackend) -> None:
    for name in ("a", "b", "c"):
        await put(faulty, name)
    await faulty.delete("a")
    await faulty.move("b", "d")
    faulty.script("list", Stale(2), Stale(3), Stale(5), Stale(99), Truncate(1))

    assert await listed(faulty) == ["b", "c"]
    assert await listed(faulty) == ["a", "b", "c"]
    assert await listed(faulty) == ["a"]
    assert await listed(faulty) == []
    assert await listed(faulty) == ["c"]
    assert await listed(faulty) == ["c", "d"]


async def test_waits_are_on_the_loops_clock(faulty: FaultyBackend) -> None:
    faulty.script("put", Delay(5), Stall(0, 7))
    faulty.script("stat", Hang())

    await put(faulty)
    assert anyio.current_time() == 5
    await put(faulty)
    assert anyio.current_time() == 12
    with anyio.move_on_after(1000) as scope:
        await faulty.stat("x")

    assert scope.cancelled_caught
    last = faulty.calls[-1]
    assert (last.outcome, last.began, last.ended) == ("cancelled", 12, 1012)


async def test_a_stall_without_end_keeps_what_has_passed(faulty: FaultyBackend) -> None:
    await put(faulty, data=bytes(2 * CHUNK))
    faulty.script("get", Stall(CHUNK))
    sizes = []

    with anyio.move_on_after(60):
        async with faulty.get("x") as chunks:
            async for chunk in chunks:
                sizes.append(len(chunk))

    assert sizes == [CHUNK]


async def test_scripts_are_taken_in_order_by_verb_and_name(faulty: FaultyBackend) -> None:
    faulty.script("put", PASS, Raise(), name="vol2*")
    faulty.script("put", Raise(auth_lost))

    for name in ("vol1", "vol2", "vol2", "vol2"):
        try:
            await put(faulty, name)
        except BackendError:
            continue

    assert [(call.name, type(call.error)) for call in faulty.calls] == [
        ("vol1", OperatorError),
        ("vol2", type(None)),
        ("vol2", RetryableError),
        ("vol2", type(None)),
    ]
    assert faulty.names("put", "error") == ["vol1", "vol2"]
    assert faulty.names("get") == []


async def test_healed_it_fails_no_more(faulty: FaultyBackend) -> None:
    faulty.script("put", *[Raise()] * 3)
    faulty.chances = usual_chances(1.0)

    faulty.heal()

    await put(faulty)
    assert await read(faulty) == DATA


async def test_it_counts_calls_that_run_at_once(faulty: FaultyBackend) -> None:
    faulty.script("put", *[Delay(1)] * 5)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(put, faulty, f"x{number}")

    assert faulty.most_at_once == 5
    assert anyio.current_time() == 1


async def outcomes(seed: int) -> list[tuple[str, str, float]]:
    faulty = FaultyBackend(MemoryBackend(), chances=usual_chances(0.5, size=len(DATA)), rng=random.Random(seed))
    calls: list[Callable[[], object]] = []
    for number in range(60):
        calls += [lambda number=number: put(faulty, f"x{number}"), lambda: listed(faulty)]  # type: ignore[misc]
    began = anyio.current_time()
    for call in calls:
        try:
            await call()  # type: ignore[misc]
        except RetryableError:
            continue
    return [(call.verb, call.outcome, round((call.ended or 0) - began, 6)) for call in faulty.calls]


async def test_one_seed_gives_the_same_faults_again_and_another_does_not() -> None:
    first = await outcomes(1)

    assert await outcomes(1) == first
    assert first != await outcomes(2)
    failed = sum(outcome == "error" for _, outcome, _ in first)
    assert 20 < failed < 70


async def test_it_has_the_capabilities_of_what_it_wraps() -> None:
    """Q5."""

    class Poor:
        description = "poor"

        def capabilities(self) -> Capabilities:
            return Capabilities(max_concurrency=3)

        def supports_concurrency(self) -> bool:
            return False

    faulty = FaultyBackend(Poor())  # type: ignore[arg-type]

    assert faulty.capabilities() == Capabilities(max_concurrency=3)
    assert not faulty.supports_concurrency()
    assert faulty.description == "poor"
    with pytest.raises(Unsupported):
        await faulty.put_if_absent("x", BytesBody(b""))
    with pytest.raises(Unsupported):
        await faulty.move("x", "y")
    await faulty.wait_idle()
