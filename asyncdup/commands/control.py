"""The control socket of a running job (engine rules X1-X3): JSON lines in, JSON lines out, for its owner and root only.

``{"v": 1, "cmd": "status"}`` is answered by ``{"v": 1, "ok": true, ...}`` or ``{"v": 1, "ok": false, "error": "..."}``; ``events`` by a line
that says ok and then a line for each event.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from asyncdup.commands.options import Control
from asyncdup.commands.sockets import socket_path, temporary
from asyncdup.commands.status import status_of
from asyncdup.errors import AsyncdupError, UsageError, in_words
from asyncdup.events import EventHub, Notice
from asyncdup.observe.jsonlines import json_line
from asyncdup.observe.tally import Tally
from asyncdup.threads import in_thread
from asyncdup.transfer.failure import sole

VERSION = 1
MOST_CLIENTS = 16
LONGEST_LINE = 64 << 10  # bytes of an order
PATIENCE = 30.0  # seconds that a client may take to say something, or to take what it asked for

_GONE = (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end; None where the platform does not say (the folder's mode is the guard then)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def is_allowed(uid: int | None, own: int) -> bool:
    """X1: the same user, or root."""
    return uid is None or uid in (own, 0)


@asynccontextmanager
async def control_socket(
    control: Control,
    hub: EventHub,
    *,
    environ: Mapping[str, str],
    now: Callable[[], float],
    peer: Callable[[socket.socket], int | None] = peer_uid,
) -> AsyncGenerator[Path | None, None]:
    """Serve orders inside the block; gives the socket's path, or None (with a notice) where none can be made. The job goes on without."""
    try:
        path = await in_thread(socket_path, hub.job, environ)
        listener = await anyio.create_unix_listener(temporary(path), mode=0o600)
        os.rename(temporary(path), path)
    except (OSError, UsageError) as error:
        hub.emit(Notice(message=f"no control socket ({in_words(error)}): asyncdup job will not find this run"))
        yield None
        return
    server = _Server(control, hub, now, peer)
    hub.on_event(server.tally)
    failure: BaseException | None = None
    try:
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, server.serve, tasks)
            try:
                yield path
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = sole(group)
    finally:
        with suppress(OSError):
            path.unlink()
    if failure is not None:
        raise failure


class _Server:
    def __init__(self, control: Control, hub: EventHub, now: Callable[[], float], peer: Callable[[socket.socket], int | None]) -> None:
        self.tally = Tally()
        self._control = control
        self._hub = hub
        self._now = now
        self._peer = peer
        self._since = now()
        self._clients = 0

    async def serve(self, stream: SocketStream) -> None:
        """One client, until it has gone."""
        async with stream:
            if self._clients >= MOST_CLIENTS or not is_allowed(self._peer(stream.extra(SocketAttribute.raw_socket)), os.getuid()):
                return
            self._clients += 1
            try:
                await self._converse(stream)
            except _GONE:
                return
            finally:
                self._clients -= 1

    async def _converse(self, stream: SocketStream) -> None:
        lines = BufferedByteReceiveStream(stream)
        while True:
            with anyio.move_on_after(PATIENCE) as patience:
                line = await lines.receive_until(b"\n", LONGEST_LINE)
            if patience.cancelled_caught:
                return
            order = _order(line)
            if order.get("cmd") == "events":
                await self._tell_events(stream)
                return
            await _send(stream, json.dumps(self._answer(order)))

    async def _tell_events(self, stream: SocketStream) -> None:
        with closing(self._hub.subscribe()) as events:
            await _send(stream, json.dumps(_ok({})))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_closed, stream, tasks.cancel_scope)
                with suppress(*_GONE):
                    async for event in events:
                        await _send(stream, json_line(event))
                tasks.cancel_scope.cancel()

    def _answer(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            return _ok(self._obey(order))
        except AsyncdupError as error:
            return {"v": VERSION, "ok": False, "error": str(error), "hint": error.hint or ""}
        except Exception as error:  # noqa: BLE001 - whatever a client says must not break the transfer
            return {"v": VERSION, "ok": False, "error": in_words(error), "hint": ""}

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        control = self._control
        match order:
            case {"error": str(error)}:
                raise UsageError(error)
            case {"cmd": "status"}:
                return self._status()
            case {"cmd": "pause"}:
                control.pause("command", now=order.get("now") is True)
            case {"cmd": "resume"}:
                control.unpause("command")
                control.resume("asyncdup job resume")
            case {"cmd": "drain"}:
                control.drain()
            case {"cmd": "abort"}:
                control.abort("asyncdup job abort")
            case {"cmd": "set-concurrency", "concurrency": int(number)} if number >= 1:
                control.set_concurrency(number, "asyncdup job")
            case {"cmd": "set-concurrency", "concurrency": "auto"}:
                control.set_concurrency("auto", "asyncdup job")
            case {"cmd": "set-rate"}:
                control.set_rate(upload=_text(order, "upload"), download=_text(order, "download"), requests=_number(order, "requests"))
            case _:
                raise UsageError(f"no such order: {json.dumps(order)[:200]}")
        return {"state": self._status()["state"]}

    def _status(self) -> dict[str, Any]:
        started = self._hub.started
        about = {"job": self._hub.job, "since": self._since}
        if started is not None:
            about |= {"action": started.action, "source": started.source, "target": started.target}
        return about | status_of(self._control.engine, self.tally, draining=self._control.draining, now=self._now)


def _order(line: bytes) -> dict[str, Any]:
    """What a line asks for; ``error`` says what is wrong with it."""
    try:
        order = json.loads(line)
    except (ValueError, RecursionError):
        return {"error": "that is no JSON"}
    if not isinstance(order, dict) or "error" in order:
        return {"error": "an order is a JSON object with v and cmd"}
    if order.get("v") != VERSION:
        return {"error": f"version {VERSION} of the orders is spoken here"}
    return order


def _text(order: dict[str, Any], name: str) -> str | None:
    value = order.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} is a text")
    return value


def _number(order: dict[str, Any], name: str) -> float | None:
    value = order.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise UsageError(f"{name} is a number")
    return value


def _ok(content: dict[str, Any]) -> dict[str, Any]:
    return {"v": VERSION, "ok": True, **content}


async def _send(stream: SocketStream, line: str) -> None:
    """A client that does not take it is let go: what waits for it would grow."""
    with anyio.fail_after(PATIENCE):  # TimeoutError is an OSError
        await stream.send(line.encode("ascii") + b"\n")


async def _until_closed(stream: SocketStream, scope: anyio.CancelScope) -> None:
    """A client of ``events`` has nothing more to say: when it has gone, ``scope`` ends."""
    with suppress(*_GONE):
        while True:
            await stream.receive()
    scope.cancel()
