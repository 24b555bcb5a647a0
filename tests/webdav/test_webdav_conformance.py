"""The suite that every backend must pass (M7), over WebDAV to ``rclone serve webdav``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncdup.backends.base import Backend
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.testing.conformance import CHECKS, Check

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_webdav_keeps_the_promise_that(check: Check, dav: Any) -> None:
    @asynccontextmanager
    async def make() -> AsyncGenerator[Backend, None]:
        backend = open_backend(dav.url, BackendOptions(timeout=20, environ={"BACKEND_PASSWORD": "s3cret wörd"}))
        try:
            yield backend
        finally:
            await backend.aclose()

    if not await check.run(make, many=30):
        pytest.skip("needs an ability that WebDAV has not")
