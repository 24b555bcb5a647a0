"""The suite that every backend must pass (M7), through obstore: its store in memory, with the adapter that gs:// and azure:// have."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncdup.backends.base import Backend
from asyncdup.backends.obstore_backend import ObstoreBackend
from asyncdup.testing.conformance import CHECKS, Check

obstore_store = pytest.importorskip("obstore.store", reason="pip install obstore")
pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_obstore_keeps_the_promise_that(check: Check) -> None:
    store = obstore_store.MemoryStore()

    @asynccontextmanager
    async def make() -> AsyncGenerator[Backend, None]:
        yield ObstoreBackend(store, "some/prefix", "memory of obstore")

    # Above 8 MiB a body goes up in parts.
    if not await check.run(make, many=30, big=(9 << 20) + 7):
        pytest.skip("needs an ability that it has not")
