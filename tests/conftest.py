"""What every test may count on: async tests run on virtual time unless they are marked ``realtime``. A property is tried with the same examples in
each run, however long they take on this machine, unless a search for new ones is asked for (``ASYNCDUP_EXAMPLES``)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings

from asyncdup.testing.clock import VirtualLoop

settings.register_profile(
    "asyncdup", deadline=None, derandomize="ASYNCDUP_EXAMPLES" not in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("asyncdup")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop a test: the real clock where sockets or processes set the pace, the virtual one elsewhere."""
    if item.get_closest_marker("realtime"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}
