"""Waiting for the operator: the flag file, and what a person may do with it (engine rules N2, R1, G8-G10).

The file is ours: written whole, read once a second while a lane waits, removed when the wait is over by any way.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup

from asyncdup.errors import UsageError, in_words
from asyncdup.events import EpisodeContinues, Event, Notice
from asyncdup.threads import in_thread
from asyncdup.transfer.failure import explain
from asyncdup.transfer.gate import State
from asyncdup.transfer.hook import run_hook
from asyncdup.transfer.lane import Gate

HOUR, DAY = 3600.0, 86400.0
LOOK_EVERY = 1.0  # seconds between two looks at the flag (R1)
CLEANUP = 1.0  # seconds that removing the flag may take; with it a Ctrl-C ends within 2 s (G9)
LARGEST_FLAG = 64 << 10  # bytes that are read of it: anybody may have written it
VERSION = 1

Order = Literal["removed", "touched", "resume", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """How the operator is told, and may answer.

    Attributes:
        flag: where the flag file goes; None: none.
        command: run when a lane begins to wait, as words; empty: none (N3). ``environ``: what it inherits, less what may be secret.
        timeout: seconds until a wait ends as mode ``fail`` would, with exit code 61; 0 = never (G8).
        job: an id for the flag file.
        other_ways: commands of our own that resume.
        signals: SIGUSR1 resumes this process, so that it may be named as a way to.
        now: the wall clock, seconds since the epoch.
    """

    flag: Path | None = None
    timeout: float = 0.0
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    job: str = ""
    other_ways: tuple[str, ...] = ()
    signals: bool = False
    now: Callable[[], float] = time.time  # noqa: TID251 - the edge where the wall clock is handed in

    def ways(self) -> tuple[str, ...]:
        """The commands that resume, for the announcement (N1)."""
        ways = []
        if self.flag is not None:
            path = shlex.quote(str(self.flag))
            ways += [f"rm {path}", f"touch {path}", f"echo resume > {path}"]
        ways += self.other_ways
        if self.signals:
            ways.append(f"kill -USR1 {os.getpid()}")
        if self.flag is not None:
            ways.append(f"echo abort > {path}  # to give up")
        return tuple(ways)


class FlagFile:
    """The file on the disk. Methods named ``..._in_thread`` block; the rest is for the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier: dict[str, Any] | None = None  # what a process that is dead left behind (G10)
        self.holder: object | None = None  # the wait that it stands for: a second lane of ours that waits shares it
        self._wanted = False  # a writing thread that was left behind must not create the flag after the wait is over
        self._lock = threading.Lock()  # held while the flag is written or removed
        self._mine = b""
        self._mtime = 0
        self._strange: bytes | None = None  # content that was already complained about

    async def check(self) -> None:
        """At the start: the folder can be written and no flag is in the way; that of a dead process is noted in ``earlier``.

        Raises:
            UsageError: there is no such folder, it cannot be written, or the file is not ours or its process lives (exit code 23).
        """
        await in_thread(self._check_in_thread)

    async def forget_earlier(self) -> None:
        """Remove the flag of the dead process (G10)."""
        self.earlier = None
        if not self._mine:
            await in_thread(self._forget_in_thread)

    async def write(self, record: dict[str, Any]) -> None:
        """Create the flag (N2). Raises OSError. Cancelled, it may go on in its thread; ``remove`` is what ends it."""
        self.earlier = None
        self._wanted = True
        await in_thread(self._write_in_thread, json.dumps(record, indent=1, ensure_ascii=True).encode() + b"\n", abandon_on_cancel=True)

    async def look(self) -> tuple[Order | None, str]:
        """What the operator did with the flag since it was written, and content that makes no sense, once."""
        if not self._mine:
            return None, ""
        return await in_thread(self._look_in_thread, abandon_on_cancel=True)  # a dead mount must not hold up a Ctrl-C

    async def remove(self) -> None:
        """The wait is over. A file that is gone is no error, nor is one that cannot be removed: the next run will report it."""
        self._wanted = False
        with anyio.move_on_after(CLEANUP, shield=True), suppress(OSError):
            await in_thread(self._remove_in_thread, abandon_on_cancel=True)

    def _check_in_thread(self) -> None:
        try:
            probe = self._create(b"")
            os.unlink(probe)
        except OSError as error:
            raise UsageError(
                f"the flag {self.path} cannot be written: {error}", hint="name a file in a folder that can be written"
            ) from error
        try:
            content = self._read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.path} is there and cannot be read: {error}") from error
        record = _record(content)
        if record is None:
            raise UsageError(f"{self.path} is there and is no flag of ours", hint="name another file, or remove this one")
        if _is_alive(record):
            raise UsageError(
                f"{self.path} belongs to process {record['pid']} on {record['host']}, which is at work", hint="name another file"
            )
        self.earlier = record

    def _write_in_thread(self, content: bytes) -> None:
        with self._lock:
            if not self._wanted:
                return
            temporary = self._create(content)
            try:
                os.rename(temporary, self.path)
            except OSError:
                os.unlink(temporary)
                raise
            self._mine = content
            self._mtime = os.stat(self.path).st_mtime_ns
            self._strange = None

    def _create(self, content: bytes) -> Path:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        return temporary

    def _read(self) -> bytes:
        file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(file, LARGEST_FLAG)
        finally:
            os.close(file)

    def _look_in_thread(self) -> tuple[Order | None, str]:
        try:
            content = self._read()
            mtime = os.stat(self.path).st_mtime_ns
        except FileNotFoundError:
            return "removed", ""
        except OSError as error:
            return None, self._complain(in_words(error).encode())
        if content == self._mine:
            return ("touched", "") if mtime != self._mtime else (None, "")
        word = content.strip().lower()
        if word == b"resume":
            return "resume", ""
        if word == b"abort":
            return "abort", ""
        return None, self._complain(content) if word else ""  # empty: ``echo abort >`` truncates first

    def _complain(self, content: bytes) -> str:
        if content == self._strange:
            return ""
        self._strange = content
        return content[:80].decode("utf-8", "backslashreplace")

    def _remove_in_thread(self) -> None:
        with self._lock:
            mine, self._mine = self._mine, b""
            if mine:
                with suppress(FileNotFoundError):
                    os.unlink(self.path)

    def _forget_in_thread(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path)


def next_reminder(waited: float) -> float:
    """N1: after an hour, after six, then daily. Seconds since the beginning of the episode; ``waited``: what of them is over."""
    return next((due for due in (HOUR, 6 * HOUR) if waited < due), (waited // DAY + 1) * DAY)


async def attend(
    gate: Gate,
    intervention: Intervention,
    flag: FlagFile | None,
    resume_all: Callable[[str], None],
    emit: Callable[[Event], None],
) -> None:
    """Be there whenever ``gate`` waits, until cancelled: flag, command, reminders, time limit, orders."""
    told = ""  # the episode that the command was run for
    async with anyio.create_task_group() as tasks:
        while True:
            if gate.state is not State.WAITING:
                await gate.wait_change()
                continue
            wait = _Wait(gate, intervention, flag, resume_all, emit)
            if told != gate.episode:
                told = gate.episode
                wait.start_hook(tasks)
            await wait.run()


class _Wait:
    """One stay in WAITING."""

    def __init__(
        self,
        gate: Gate,
        intervention: Intervention,
        flag: FlagFile | None,
        resume_all: Callable[[str], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._gate = gate
        self._intervention = intervention
        self._flag = flag if flag is not None and flag.holder is None else None
        if self._flag is not None:
            self._flag.holder = self
        self._resume_all = resume_all
        self._emit = emit
        self._entry = gate.diary.entries

    def start_hook(self, tasks: TaskGroup) -> None:
        """N3: beside everything else."""
        operator = self._intervention
        if operator.command:
            hook = partial(run_hook, operator.command, self._record(), environ=operator.environ, say=self._say)
            tasks.start_soon(hook)

    async def run(self) -> None:
        """Until the wait is over."""
        limit = self._intervention.timeout or math.inf
        due = next_reminder(self._waited())
        try:
            await self._raise_flag()
            while self._waits():
                if self._waited() >= limit:
                    self._gate.abort("time limit of the intervention")
                    return
                if self._waited() >= due:
                    self._remind()
                    due = next_reminder(self._waited())
                with anyio.move_on_after(LOOK_EVERY):
                    await self._gate.wait_change()
                if self._waits():
                    await self._look()
        finally:
            if self._flag is not None:
                await self._flag.remove()
                self._flag.holder = None

    def _waits(self) -> bool:
        return self._gate.state is State.WAITING and self._gate.diary.entries == self._entry

    def _waited(self) -> float:
        """Seconds since the episode began."""
        return anyio.current_time() - self._gate.diary.episode_since

    def _remind(self) -> None:
        told = self._record()
        self._emit(
            EpisodeContinues(
                lane=self._gate.name,
                episode=told["episode"],
                error=told["message"],
                hint=told["hint"],
                resume=tuple(self._gate.diary.ways),
                waited=self._waited(),
            )
        )

    async def _raise_flag(self) -> None:
        if self._flag is None:
            return
        try:
            await self._flag.write(self._record())
        except OSError as error:
            self._say(f"the flag {self._flag.path} cannot be written ({error}); resume by another way: {', '.join(self._gate.diary.ways)}")

    async def _look(self) -> None:
        if self._flag is None:
            return
        order, strange = await self._flag.look()
        if strange:
            self._say(f"{self._flag.path}: nothing is known to be done with {strange!r}; write resume or abort, or remove the file")
        if order == "abort":
            self._gate.abort("flag: abort")
        elif order is not None:
            self._resume_all(f"flag {order}" if order != "resume" else "flag: resume")

    def _record(self) -> dict[str, Any]:
        failure = self._gate.diary.failure
        return {
            "version": VERSION,
            "program": "asyncdup",
            "episode": self._gate.episode,
            "job": self._intervention.job,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self._intervention.now(),
            "backend": self._gate.name,
            "class": failure.kind if failure else "",
            "message": explain(failure) if failure else "",
            "hint": (failure.hint if failure else None) or "",
            "attempts": self._gate.attempts,
            "resume": list(self._gate.diary.ways),
        }

    def _say(self, message: str) -> None:
        self._emit(Notice(lane=self._gate.name, message=message))


def earlier_cause(record: dict[str, Any]) -> str:
    """One line about what an earlier run waited for (G10)."""
    return f"an earlier run (process {record['pid']}) ended while it waited for the operator: {record.get('message', '')}"


def _record(content: bytes) -> dict[str, Any] | None:
    """A flag that we or another process of ours has written; None if it is anything else."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return None
    ours = isinstance(record, dict) and record.get("program") == "asyncdup" and isinstance(record.get("pid"), int)
    return record if ours and isinstance(record.get("host"), str) else None


def _is_alive(record: dict[str, Any]) -> bool:
    """Whether the writer may be at work. Of another host nobody can tell; our own number means that a container was started again."""
    if record["host"] != socket.gethostname():
        return True
    if record["pid"] == os.getpid() or record["pid"] <= 0:
        return False
    try:
        os.kill(record["pid"], 0)
    except (ProcessLookupError, OverflowError):  # a number beyond all processes is nobody's
        return False
    except PermissionError:
        return True
    return True
