"""The lab: two ends, the link between them, and the programs that run there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.lab.link import Link
from benchmarks.lab.namespaces import CLIENT, SERVER, End, Side, Stack, Unavailable, inside, make_end

_ROOT = Path(__file__).parents[2]
_PATIENCE = 5.0  # seconds until an emulator that does not end is killed


@dataclass(frozen=True, slots=True)
class Counters:
    """One direction so far.

    Attributes:
        packets, bytes: that came to the link, as segments of at most the MTU; bytes of IP.
        lost: packets, at random or because the link was cut; dropped: because the queue was full.
        delivered: bytes that got through.
        connections: TCP connections that were asked for, repetitions by the kernel included.
        late: seconds, the most by which a packet was handed over too late since these were last asked for: a busy machine is a worse link.
    """

    packets: int
    bytes: int
    lost: int
    dropped: int
    delivered: int
    connections: int
    late: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """Both directions at one moment."""

    up: Counters
    down: Counters


class Lab:
    """``with Lab(Link.of(rtt=0.1, rate=12.5e6)) as lab: ...``. At the end of the block everything that runs in it is ended.

    Args:
        link: as it is at the beginning.
        stack: the kernel's part. seed: of loss and jitter.

    Raises:
        Unavailable: on entering.
    """

    client_address, server_address = CLIENT, SERVER

    def __init__(self, link: Link, *, stack: Stack | None = None, seed: int = 1) -> None:
        self.link = link
        self._stack = stack or Stack()
        self._seed = seed
        self._ends: dict[Side, End] = {}
        self._processes: list[subprocess.Popen[Any]] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for side in ("client", "server"):
                end = self._ends[side] = make_end(side, self._stack)
                stack.callback(end.close)
            self._start_emulator(stack)
            self.set(self.link)
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        for process in self._processes:
            process.wait()  # the emulator has ended it
        self._processes.clear()

    # The link

    def set(self, link: Link) -> None:
        """Change the link while it runs; what is on its way arrives."""
        self.link = link
        self._tell(link)

    def down(self) -> None:
        """Cut the link: nothing gets through, and nobody is told."""
        self._tell(self.link.cut())

    def up(self) -> None:
        """Mend it: it is as it was before ``down``."""
        self._tell(self.link)

    def statistics(self) -> Statistics:
        """The counters of this moment."""
        answer = self._ask({})
        return Statistics(Counters(**answer["up"]), Counters(**answer["down"]))

    # What runs on it

    @contextmanager
    def inside(self, side: Side) -> Iterator[Self]:
        """The calling thread lives there for the time of the block: its new sockets and processes are that side's."""
        with inside(self._ends[side]):
            yield self

    def start(self, side: Side, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """``subprocess.Popen`` there, in a session of its own; ended with the lab at the latest."""
        with self.inside(side):
            process = subprocess.Popen(command, start_new_session=True, **options)
        self._processes.append(process)
        return process

    def run(self, side: Side, command: Sequence[str | Path], *, timeout: float | None = None, **options: Any) -> int:
        """Run it there to its end and return its exit code; -9 if it was killed because ``timeout`` seconds were over."""
        process = self.start(side, command, **options)
        try:
            return process.wait(timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return process.wait()
            raise
        finally:
            process.wait()
            self._processes.remove(process)

    def wait_port(self, port: int, *, side: Side = "server", timeout: float = 15.0) -> None:
        """Return when something listens on a TCP port, asked on that side itself. Raises TimeoutError."""
        address = CLIENT if side == "client" else SERVER
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with self.inside(side), socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((address, port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"nothing listens on port {port} of the {side} after {timeout:g} s")

    # The emulator

    def _start_emulator(self, stack: ExitStack) -> None:
        devices = [end.device for end in self._ends.values()]
        self._control, theirs = socket.socketpair()
        inodes = [end.inode for end in self._ends.values()]
        numbers = [*devices, theirs.fileno(), self._seed, *inodes]
        command = [sys.executable, "-S", "-m", "benchmarks.lab.emulator", *map(str, numbers)]
        try:
            process = subprocess.Popen(
                command, cwd=_ROOT, pass_fds=[*devices, theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL
            )
        finally:
            theirs.close()
            for device in devices:
                os.close(device)
        stack.callback(_wait, process)
        stack.enter_context(self._control)  # closed first: that is what ends the emulator
        self._answers = stack.enter_context(self._control.makefile("rb"))

    def _tell(self, link: Link) -> None:
        self._ask({"up": link.up.record(), "down": link.down.record()})

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        self._control.sendall(json.dumps(order).encode() + b"\n")
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError("the emulator of the link has ended")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed


def available() -> str | None:
    """None where the lab works, else the reason in one line."""
    try:
        with Lab(Link()) as lab:
            lab.statistics()
    except (Unavailable, OSError, RuntimeError) as error:
        return str(error)
    return None


def _wait(process: subprocess.Popen[Any]) -> None:
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
