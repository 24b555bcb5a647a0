"""The suite that every backend must pass (M7), over SFTP to OpenSSH's sshd and to asyncssh's server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncdup.backends.base import Backend
from asyncdup.testing.conformance import CHECKS, Check

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("any_server", ["OpenSSH", "asyncssh"], indirect=True)
@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_sftp_keeps_the_promise_that(check: Check, any_server: Any) -> None:
    async with any_server() as place:

        @asynccontextmanager
        async def make() -> AsyncGenerator[Backend, None]:
            backend = place.backend(concurrency=4)
            try:
                yield backend
            finally:
                await backend.aclose()

        if not await check.run(make, many=50):
            pytest.skip("needs an ability that SFTP has not")
