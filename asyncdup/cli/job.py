"""The client of a running job's control socket: finds it, sends one order, shows the answer. Standard library only, so that it starts fast."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from asyncdup.cli.json_output import iso_time, record_line
from asyncdup.cli.orders import Order
from asyncdup.cli.printable import printable
from asyncdup.commands.sockets import folders, live_sockets
from asyncdup.errors import AsyncdupError, UsageError
from asyncdup.units import format_duration, format_size

VERSION = 1
PATIENCE = 10.0  # seconds: a job answers within 0.2 unless its machine is very busy
_NOTHING = 1  # exit code: there is no such job

_DONE = {
    "pause": "paused: no new transfers; asyncdup job resume goes on",
    "resume": "goes on",
    "drain": "finishes what it has, and ends",
    "abort": "ends",
    "set-concurrency": "concurrency is set",
    "set-rate": "rate is set",
}


def send_order(order: Order, out: TextIO, *, environ: Mapping[str, str] = os.environ) -> int:
    """Give ``order`` to the job it is for, write the answer to ``out``, and return the exit code.

    Raises:
        AsyncdupError: there is no such job, it does not answer, or it says no.
    """
    path = _find(order.job, environ)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(json.dumps({"v": VERSION, **order.content}).encode("ascii") + b"\n")
            with connection.makefile("rb") as lines:
                answer = _answer(lines)
                if order.content["cmd"] == "events":
                    _copy(connection, lines, out)
                else:
                    out.writelines(f"{line}\n" for line in _shown(order, answer))
                    out.flush()
        except OSError as error:
            raise AsyncdupError(f"job {path.stem} does not answer: {error}") from error
    return 0


def _find(job: str, environ: Mapping[str, str]) -> Path:
    found = [path for path in live_sockets(folders(environ)) if path.stem.startswith(job)]
    exact = [path for path in found if path.stem == job]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        names = ", ".join(path.stem for path in found)
        raise UsageError(f"several jobs are running: {names}", hint="name one with --job ID")
    raise AsyncdupError(f"job {job} is not running" if job else "no job of yours is running", exit_code=_NOTHING)


def _answer(lines: BinaryIO) -> dict[str, Any]:
    line = lines.readline()
    if not line:
        raise AsyncdupError("the job has hung up", hint="it may just have ended, or it has too many clients")
    answer = json.loads(line)
    if not answer.get("ok"):
        raise UsageError(str(answer.get("error", "the job says no")), hint=answer.get("hint") or None)
    return dict(answer)


def _copy(connection: socket.socket, lines: BinaryIO, out: TextIO) -> None:
    connection.settimeout(None)
    with suppress(BrokenPipeError):  # ``| head``
        for line in lines:
            out.write(line.decode("ascii"))
            out.flush()


def _shown(order: Order, answer: dict[str, Any]) -> Iterator[str]:
    if order.json:
        content = {name: value for name, value in answer.items() if name not in ("ok", "v")}
        for each in (content, *(lane["episode"] for lane in content.get("lanes", ()) if "episode" in lane)):
            each |= {name: iso_time(each[name]) for name in ("since", "now") if name in each}
        yield record_line(f"job {order.content['cmd']}", content)
    elif order.content["cmd"] == "status":
        yield from status_lines(answer)
    else:
        yield _DONE[order.content["cmd"]]


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """The record of a job as a person reads it."""
    volumes, moved = status["volumes"], status["bytes"]
    about = " ".join(printable(str(status[name])) for name in ("action", "source", "target") if status.get(name))
    age = format_duration(status["now"] - status["since"])
    yield f"job {status['job']} (process {status['pid']}): {about}; {status['state']}, begun {age} ago"
    if volumes["read"] or volumes["needed"]:
        yield f"  volumes: {volumes['read']} of {volumes['needed']} read, {format_size(moved['read'])}"
    else:
        yield f"  volumes: {volumes['made']} made, {volumes['stored']} stored, {format_size(moved['stored'])}"
    to_go = f", about {format_duration(status['remaining'])} to go" if status["remaining"] is not None else ""
    yield f"  moved: {format_size(moved['moved'])}, {format_size(round(status['rate']))}/s now{to_go}"
    for lane in status["lanes"]:
        yield from _lane_lines(lane)
    if "spool" in status:
        yield f"  spool: {status['spool']['files']} files, {format_size(status['spool']['bytes'])}"
        limits = [
            f"{name} {value}{'/s' if name == 'requests' else ''}" for name, value in status["limits"].items() if value not in ("off", 0)
        ]
        yield f"  limits: {', '.join(limits) or 'none'}"


def _lane_lines(lane: dict[str, Any]) -> Iterator[str]:
    paused = f", paused ({', '.join(lane['pauses'])})" if lane["pauses"] else ""
    yield f"  {printable(lane['name'])}: {lane['gate']}{paused}; {lane['running']} of {lane['concurrency']} slots busy, {lane['waiting']} waiting"
    if lane["trouble"]:
        yield f"    {printable(lane['trouble'])}"
    if episode := lane.get("episode"):
        yield f"    WAITING for you: {printable(episode['error'])}"
        if episode["hint"]:
            yield f"    {printable(episode['hint'])}"
        yield from (f"    to go on: {printable(way)}" for way in episode["resume"])
