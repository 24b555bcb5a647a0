"""Calls that cannot be stopped keep their slot (T5, S8)."""

from __future__ import annotations

import anyio
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.errors import RetryableError
from asyncdup.transfer import RetryPolicy, open_engine
from asyncdup.transfer.gate import State


class Stubborn(MemoryBackend):
    """Its first put goes on for ``seconds`` however often it is cancelled; ``alive`` until then."""

    def __init__(self, seconds: float, *, serial: bool = True) -> None:
        super().__init__()
        self.seconds = seconds
        self.serial = serial
        self.ends: float | None = None
        self.puts: list[tuple[float, str]] = []

    def supports_concurrency(self) -> bool:
        return not self.serial

    def capabilities(self):
        from asyncdup.backends.base import Capabilities

        return Capabilities()

    async def put(self, name: str, body):
        self.puts.append((anyio.current_time(), name))
        if self.ends is None:
            self.ends = anyio.current_time() + self.seconds
            await anyio.sleep_forever()
        assert self.serial is False or anyio.current_time() >= self.ends
        return await super().put(name, body)

    async def wait_idle(self) -> None:
        if self.ends is not None:
            await anyio.sleep_until(self.ends)


POLICY = RetryPolicy(stall_timeout=10, response_timeout=20, max_elapsed=500)


async def test_t5_an_abandoned_call_holds_the_lane_until_it_returns() -> None:
    backend = Stubborn(200)
    async with open_engine(policy=POLICY) as engine:
        lane = engine.lane(backend)
        await engine.submit(lane, "put", "a", BytesBody(b"x"))
        await engine.submit(lane, "put", "b", BytesBody(b"x"))

    assert backend.puts[0] == (0, "a") and [name for _, name in sorted(backend.puts[1:])] in (["a", "b"], ["b", "a"])
    assert min(at for at, _ in backend.puts[1:]) == 200


async def test_t5_other_names_go_on_where_calls_may_run_at_once() -> None:
    backend = Stubborn(200, serial=False)
    async with open_engine(policy=POLICY, concurrency=2) as engine:
        lane = engine.lane(backend)
        for name in "abc":
            await engine.submit(lane, "put", name, BytesBody(b"x"))

    assert backend.puts[:3] == [(0, "a"), (0, "b"), (0, "c")]
    assert backend.puts[3][1] == "a" and backend.puts[3][0] >= 200, "the same name only when the first call is over"


async def test_t5_a_cancelled_call_holds_the_lane_too() -> None:
    backend = Stubborn(100)
    async with open_engine(policy=POLICY) as engine:
        lane = engine.lane(backend)
        with anyio.move_on_after(5):
            await engine.run(lane, "put", "a", BytesBody(b"x"))
        await engine.run(lane, "put", "b", BytesBody(b"x"))

    assert backend.puts == [(0, "a"), (100, "b")]


async def test_t5_a_call_that_never_returns_makes_the_lane_give_up() -> None:
    backend = Stubborn(1e9)
    with pytest.raises(TimeoutError):
        async with open_engine(policy=POLICY) as engine:
            await engine.run(engine.lane(backend), "put", "a", BytesBody(b"x"))

    assert anyio.current_time() == pytest.approx(520, abs=0.01)


async def test_t5_a_call_that_never_returns_is_an_intervention() -> None:
    backend = Stubborn(1e6)
    policy = RetryPolicy(mode="intervention", response_timeout=20, max_elapsed=500)
    async with open_engine(policy=policy) as engine:
        lane = engine.lane(backend)
        op = await engine.submit(lane, "put", "a", BytesBody(b"x"))
        await anyio.sleep(1000)
        assert lane.gate.state is State.WAITING and lane.gate.running == 1
        engine.resume()
        await op.result()

    assert anyio.current_time() >= 1e6


async def test_t1_bytes_out_of_sight_get_the_time_their_size_would_take() -> None:
    class Legacy(Stubborn):
        async def put(self, name: str, body):
            await anyio.sleep(1000)
            return await MemoryBackend.put(self, name, body)

    backend = Legacy(0)
    async with open_engine(policy=POLICY) as engine:
        await engine.run(engine.lane(backend), "put", "a", BytesBody(bytes(32 << 20)))

    assert anyio.current_time() == 1000


async def test_an_ordinary_error_of_such_a_backend_holds_nothing() -> None:
    class Failing(Stubborn):
        async def put(self, name: str, body):
            self.puts.append((anyio.current_time(), name))
            if len(self.puts) == 1:
                raise RetryableError
            return await MemoryBackend.put(self, name, body)

    backend = Failing(1e9)
    backend.ends = 1e9
    async with open_engine(policy=POLICY) as engine:
        await engine.run(engine.lane(backend), "put", "a", BytesBody(b"x"))

    assert anyio.current_time() < 1
