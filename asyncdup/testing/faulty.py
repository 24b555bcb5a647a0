"""A backend that fails by script or by chance (M1) and remembers every call. What the faults are is in ``faults``."""

from __future__ import annotations

import builtins
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

import anyio

from asyncdup.backends.base import (
    Backend,
    Body,
    Capabilities,
    ObjectInfo,
    Part,
    SupportsMove,
    SupportsParts,
    SupportsPutIfAbsent,
    SupportsWaitIdle,
    Upload,
)
from asyncdup.backends.bodies import PipedBody, piped
from asyncdup.errors import Unsupported
from asyncdup.testing.faults import Chance, Change, Step

Verb = Literal[
    "list",
    "stat",
    "get",
    "put",
    "put_if_absent",
    "move",
    "delete",
    "begin_parts",
    "put_part",
    "complete_parts",
    "abort_parts",
    "list_uploads",
    "list_parts",
]
PASS = Step()


@dataclass(slots=True)
class Call:
    """One call as it was made. ``name``: the prefix of a list; ``bytes``: that passed; times in seconds of the loop's clock."""

    number: int
    verb: Verb
    name: str
    step: Step
    began: float
    ended: float | None = None
    outcome: Literal["running", "ok", "error", "cancelled"] = "running"
    error: BaseException | None = None
    bytes: int = 0


class FaultyBackend:
    """``inner``, with faults. Without a script or chances it behaves as ``inner``; capabilities are passed on (Q5).

    Each call takes the next step of the first script that fits its verb and name; with none left, the chances are drawn in order, at the
    moment of the call, so one seed and one order of calls give the same faults.

    Args:
        rng: needed for ``chances``.

    Attributes:
        calls: every call so far, in order of their beginning; ``aclose`` and ``wait_idle`` are not counted.
        most_at_once: the greatest number of calls that ran at one time.
    """

    def __init__(self, inner: Backend, *, chances: Iterable[Chance] = (), rng: random.Random | None = None) -> None:
        self.inner = inner
        self.calls: list[Call] = []
        self.most_at_once = 0
        self.chances = tuple(chances)
        self._rng = rng or random.Random(0)
        self._scripts: list[tuple[Verb, str, deque[Step]]] = []
        self._running = 0
        self._history: list[Change] = []
        self._known: dict[str, ObjectInfo] = {}

    def script(self, verb: Verb, *steps: Step, name: str = "*") -> None:
        """Let the next calls of ``verb`` whose name matches the pattern ``name`` meet ``steps``, one each; ``PASS`` for none."""
        self._scripts.append((verb, name, deque(steps)))

    def heal(self) -> None:
        """No more faults: forget scripts and chances."""
        self._scripts.clear()
        self.chances = ()

    def names(self, verb: Verb, outcome: str | None = None) -> list[str]:
        """Names of the calls of ``verb`` so far, in order; only those with ``outcome`` if it is given."""
        return [call.name for call in self.calls if call.verb == verb and outcome in (None, call.outcome)]

    @property
    def description(self) -> str:
        """Of what it wraps."""
        return self.inner.description

    def capabilities(self) -> Capabilities:
        """Of what it wraps."""
        return self.inner.capabilities()

    def supports_concurrency(self) -> bool:
        """As what it wraps."""
        return self.inner.supports_concurrency()

    @asynccontextmanager
    async def list(self, prefix: str = "") -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
        """Gathered whole, so that a step can change it."""
        async with self._call("list", prefix) as call:
            async with self.inner.list(prefix) as infos:
                found = [info async for info in infos]
            changed = call.step.change_listing(found, self._history)
            async with _each([info for info in changed if info.name.startswith(prefix)]) as shown:
                yield shown

    async def stat(self, name: str) -> ObjectInfo:
        """As ``inner``."""
        async with self._call("stat", name):
            return await self.inner.stat(name)

    @asynccontextmanager
    async def get(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Byte positions of steps count from ``start``."""
        async with self._call("get", name) as call:
            opened = piped(self.inner.get(name, start=start, length=length), call.step.pipe)
            async with piped(opened, partial(_counted, call=call)) as chunks:
                yield chunks

    async def put(self, name: str, body: Body) -> ObjectInfo:
        """As ``inner``, with the body that the step makes of ``body``."""
        async with self._call("put", name) as call:
            for _ in range(call.step.times):
                self._changed(name, info := await self.inner.put(name, _sent(body, call)))
        return info

    async def put_if_absent(self, name: str, body: Body) -> ObjectInfo:
        """Unsupported if ``inner`` cannot."""
        if not isinstance(self.inner, SupportsPutIfAbsent):
            raise Unsupported(f"{self.description} has no put_if_absent")
        async with self._call("put_if_absent", name) as call:
            for _ in range(call.step.times):
                self._changed(name, info := await self.inner.put_if_absent(name, _sent(body, call)))
        return info

    async def move(self, source: str, target: str) -> None:
        """Unsupported if ``inner`` cannot."""
        if not isinstance(self.inner, SupportsMove):
            raise Unsupported(f"{self.description} has no move")
        async with self._call("move", source) as call:
            for _ in range(call.step.times):
                await self.inner.move(source, target)
                moved = self._known.get(source)
                self._changed(source, None)
                self._changed(target, moved and ObjectInfo(target, moved.size, moved.mtime, moved.digests))

    async def delete(self, name: str) -> None:
        """As ``inner``."""
        async with self._call("delete", name) as call:
            for _ in range(call.step.times):
                await self.inner.delete(name)
                self._changed(name, None)

    async def begin_parts(self, name: str, body: Body) -> str:
        """A begun upload of which nobody was told stays, as it does at a real server."""
        inner = self._in_parts()
        async with self._call("begin_parts", name) as call:
            for _ in range(call.step.times):
                upload = await inner.begin_parts(name, body)
        return upload

    async def put_part(self, name: str, upload: str, number: int, body: Body) -> Part:
        """As ``inner``, with the body that the step makes of ``body``."""
        inner = self._in_parts()
        async with self._call("put_part", name) as call:
            for _ in range(call.step.times):
                part = await inner.put_part(name, upload, number, _sent(body, call))
        return part

    async def complete_parts(self, name: str, upload: str, parts: Sequence[Part], body: Body) -> ObjectInfo:
        """As ``inner``."""
        inner = self._in_parts()
        async with self._call("complete_parts", name) as call:
            for _ in range(call.step.times):
                self._changed(name, info := await inner.complete_parts(name, upload, parts, body))
        return info

    async def abort_parts(self, name: str, upload: str) -> None:
        """As ``inner``."""
        inner = self._in_parts()
        async with self._call("abort_parts", name) as call:
            for _ in range(call.step.times):
                await inner.abort_parts(name, upload)

    async def list_uploads(self, prefix: str = "") -> builtins.list[Upload]:
        """As ``inner``."""
        inner = self._in_parts()
        async with self._call("list_uploads", prefix):
            return await inner.list_uploads(prefix)

    async def list_parts(self, name: str, upload: str) -> builtins.list[Part]:
        """As ``inner``."""
        inner = self._in_parts()
        async with self._call("list_parts", name):
            return await inner.list_parts(name, upload)

    def _in_parts(self) -> SupportsParts:
        if not isinstance(self.inner, SupportsParts):
            raise Unsupported(f"{self.description} puts no objects in parts")
        return self.inner

    async def wait_idle(self) -> None:
        """Of what it wraps."""
        if isinstance(self.inner, SupportsWaitIdle):
            await self.inner.wait_idle()

    async def aclose(self) -> None:
        """At once."""
        await self.inner.aclose()

    @asynccontextmanager
    async def _call(self, verb: Verb, name: str) -> AsyncGenerator[Call, None]:
        call = Call(len(self.calls), verb, name, self._next_step(verb, name), anyio.current_time())
        self.calls.append(call)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            await call.step.begin()
            yield call
            await call.step.end()
            call.outcome = "ok"
        except BaseException as exc:
            call.outcome = "error" if isinstance(exc, Exception) else "cancelled"
            call.error = exc
            raise
        finally:
            call.ended = anyio.current_time()
            self._running -= 1

    def _next_step(self, verb: Verb, name: str) -> Step:
        for scripted, pattern, steps in self._scripts:
            if steps and scripted == verb and fnmatchcase(name, pattern):
                return steps.popleft()
        for chance in self.chances:
            if verb in chance.verbs and self._rng.random() < chance.probability:
                return chance.make(self._rng)
        return PASS

    def _changed(self, name: str, info: ObjectInfo | None) -> None:
        self._history.append(Change(name, self._known.pop(name, None), info))
        if info is not None:
            self._known[name] = info


def _sent(body: Body, call: Call) -> Body:
    return PipedBody(call.step.change_body(body), partial(_counted, call=call))


async def _counted(chunks: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        call.bytes += len(chunk)
        yield chunk


@asynccontextmanager
async def _each(infos: list[ObjectInfo]) -> AsyncGenerator[AsyncIterator[ObjectInfo], None]:
    async def each() -> AsyncGenerator[ObjectInfo, None]:
        for info in infos:
            yield info

    iterator = each()
    try:
        yield iterator
    finally:
        await iterator.aclose()
