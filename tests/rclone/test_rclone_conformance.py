"""The suite that every backend must pass (M7), through rclone: to a remote that renames, and to one that does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncdup.backends.base import Backend
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.testing.conformance import CHECKS, ConformanceError

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("url", ["rclone://disk:/target", "rclone://store:/bucket"], ids=["renames", "does-not"])
async def test_rclone_keeps_every_promise(url: str, rclone_options: BackendOptions) -> None:
    """All checks share one rclone: starting it takes longer than most of them."""
    backend = open_backend(url, rclone_options)
    broken = []

    @asynccontextmanager
    async def make() -> AsyncGenerator[Backend, None]:
        yield backend

    try:
        for check in CHECKS:
            try:
                await check.run(make, many=30)
            except ConformanceError as error:
                broken.append(str(error))
    finally:
        await backend.aclose()

    assert broken == []
