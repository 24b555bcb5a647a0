"""A whole run in one thread and in virtual time (M2): worker threads become turns of the loop, chance comes from a seed.

What a run does then depends on its seed alone: the same seed gives the same calls at the same instants, whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack
from unittest import mock

import anyio.to_thread
from anyio.lowlevel import checkpoint

from asyncdup.testing.clock import VirtualLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_TURNS = 3  # of the loop, before a call that would go to a worker thread is made


class SimulatedLoop(VirtualLoop):
    """A virtual loop without threads: a call for one is made on the loop, some turns later. ``rng`` says how many."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        super().__init__()

    def run_in_executor(self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        """The call is made on the loop; until then it can be cancelled."""
        future: asyncio.Future[T] = self.create_future()
        self._after(self.rng.randint(0, MOST_TURNS), future, func, args)
        return future

    def _after(self, turns: int, future: asyncio.Future[T], func: Callable[[Unpack[Ts]], T], args: tuple[*Ts]) -> None:
        if turns:
            self.call_soon(self._after, turns - 1, future, func, args)
        elif not future.cancelled():
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - whoever waits for the future gets it
                future.set_exception(error)


async def _on_the_loop(func: Callable[..., T], *args: Any, **_: Any) -> T:
    """In the place of ``anyio.to_thread.run_sync``."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    for _turn in range(loop.rng.randint(1, MOST_TURNS)):
        await checkpoint()
    return func(*args)


@contextmanager
def simulation(seed: int) -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Gives a function that runs a coroutine to its end, one after the other on one loop; what is left of the loop ends with the block.

    Inside, the process has no chance but ``seed``: also what asks for an unseeded ``random.Random`` or for a random name gets it from there.
    """
    rng = random.Random(seed)
    seeded = random.Random  # as it is: below it is replaced where the engine looks for it

    def chance(given: int | None = None) -> random.Random:
        return seeded(rng.getrandbits(64) if given is None else given)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(anyio.to_thread, "run_sync", _on_the_loop))
        stack.enter_context(mock.patch.object(random, "Random", chance))
        stack.enter_context(mock.patch.object(secrets, "token_hex", lambda size=8: rng.randbytes(size or 8).hex()))
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: SimulatedLoop(rng)))
        yield runner.run


def simulate(seed: int, main: Callable[[random.Random], Coroutine[Any, Any, T]]) -> T:
    """Run ``main``, which is given a source of chance of its own, to its end."""
    with simulation(seed) as run:
        return run(main(random.Random(seed ^ 0x5EED)))
