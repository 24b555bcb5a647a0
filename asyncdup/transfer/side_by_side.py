"""The pieces of one object side by side, in whatever slots are free.

They come to the gate one after the other, each when the one before has its slot: no more of them wait there than have failed, plus one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

P = TypeVar("P")

Move = Callable[[P, Callable[[], None]], Awaitable[None]]


async def side_by_side(pieces: Iterable[P], move: Move[P]) -> None:
    """``move`` every piece. It is given the piece, and what to call when its attempt has begun, every time that one does.

    Raises:
        Exception: of the first that failed, as it is and in no group (C2, C4); the others were cancelled.
    """
    failures: list[Exception] = []

    async def one(piece: P, started: anyio.Event) -> None:
        try:
            await move(piece, started.set)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for piece in pieces:
            started = anyio.Event()
            tasks.start_soon(one, piece, started)
            await started.wait()
    if failures:
        raise failures[0]
