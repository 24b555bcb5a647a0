"""Work on a clock of its own, which jumps over every wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from asyncdup.testing.clock import VirtualLoop

T = TypeVar("T")


def on_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
