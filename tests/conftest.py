"""What every test may count on: async tests run on virtual time unless they are marked ``realtime``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from asyncdup.testing.clock import VirtualLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop a test: the real clock where sockets or processes set the pace, the virtual one elsewhere."""
    if item.get_closest_marker("realtime"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}
