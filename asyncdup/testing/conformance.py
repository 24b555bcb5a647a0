"""The suite that every backend and every wrapper of one must pass (M7). What is checked stands in ``promises``.

Needs no test framework: ``check_backend`` runs all of it, ``CHECKS`` are the checks one by one. It also works in a location that holds
other objects: its own have names of their own and are removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio

from asyncdup.backends.base import Backend
from asyncdup.errors import AsyncdupError, BackendError
from asyncdup.testing.promises import PROMISES, Applies, Promise
from asyncdup.testing.site import Broken, Site

Make = Callable[[], AbstractAsyncContextManager[Backend]]

BIG = (3 << 20) + 7  # bytes: several chunks and an odd rest
_CLEANUP = 30.0  # seconds to remove what a check has put


class ConformanceError(AsyncdupError):
    """A backend breaks a promise, ``check``. If it raised an error where it should not, that is the cause."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(f"{check}: {message}")
        self.check = check


@dataclass(frozen=True, slots=True)
class Report:
    """Names of the checks that passed, and of those that do not apply because an ability is absent."""

    passed: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, with a sentence for a name."""

    name: str
    promise: Promise
    applies: Applies

    def __str__(self) -> str:
        return self.name

    async def run(self, make: Make, *, many: int = 200, big: int = BIG) -> bool:
        """Run the check on a backend of its own; False if it does not apply. Arguments as of ``check_backend``.

        Raises:
            ConformanceError: the promise is broken.
        """
        async with make() as backend:
            if not self.applies(backend):
                return False
            site = Site(backend, secrets.token_hex(4), many, big)
            try:
                await self.promise(site)
            except Broken as exc:
                raise ConformanceError(self.name, str(exc)) from exc.__cause__
            except BackendError as exc:
                raise ConformanceError(self.name, f"{type(exc).__name__}: {exc}") from exc
            finally:
                await _clean_up(site)
        return True


CHECKS = tuple(Check(promise.__name__.replace("_", " "), promise, applies) for promise, applies in PROMISES)


async def check_backend(make: Make, *, many: int = 200, big: int = BIG) -> Report:
    """Run every check.

    Args:
        make: opens a backend, always of the same location, and closes it after the block.
        many: objects that the check of long listings puts.
        big: bytes of the largest object.

    Raises:
        ConformanceError: the first broken promise.
    """
    done = [(check.name, await check.run(make, many=many, big=big)) for check in CHECKS]
    return Report(tuple(name for name, applied in done if applied), tuple(name for name, applied in done if not applied))


async def _clean_up(site: Site) -> None:
    with anyio.move_on_after(_CLEANUP, shield=True):
        for name in site.names:
            try:
                await site.backend.delete(name)
            except BackendError:
                continue  # a name that could not be put cannot be deleted; anything else, the check itself has said
