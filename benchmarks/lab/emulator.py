"""The process between the two ends: forwards packets with the delay, rate, queue, loss and jitter that it was told, until its owner ends.

It is the watchdog, too: when its owner ends for any reason, kill -9 included, it ends every process that is left in the two namespaces, then itself.
Standard library only, since it runs without site-packages: ``python -S -m benchmarks.lab.emulator CLIENT SERVER CONTROL SEED INODE...``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any

from benchmarks.lab.packets import Shape, cut, opens_connection, shape_of

_PR_SET_TIMERSLACK = 29
_LARGEST_PACKET = 70_000  # bytes, more than a super-packet has
_AT_ONCE = 16  # packets read of one end before the other's turn
_GONE = (errno.EIO, errno.EINVAL, errno.EAGAIN, errno.ENOBUFS)  # the far end takes no packets: they are lost, as on a wire


class Pipe:
    """One direction: from one TUN descriptor to the other. Settings are those of ``link.Way``; changed between packets only."""

    def __init__(self, source: int, target: int, rng: random.Random) -> None:
        self.source = source
        self.waiting: deque[tuple[float, bytes]] = deque()  # when it arrives, and the packet
        self.counters: dict[str, int] = dict.fromkeys(("packets", "bytes", "lost", "dropped", "delivered", "connections"), 0)
        self._late = 0.0  # the most since somebody looked
        self._target = target
        self._rng = rng
        self._settings: dict[str, Any] = {}
        self._busy_until = 0.0  # the sender's line
        self._last = 0.0  # the latest arrival given out: packets keep their order

    def set(self, settings: dict[str, Any]) -> None:
        """For all packets from now on."""
        self._settings = settings

    def accept(self, now: float, packet: bytes) -> None:
        """Count it; lose it, drop it or let it arrive later, whole or in part."""
        shape = shape_of(packet)
        counters = self.counters
        counters["packets"] += shape.segments
        counters["bytes"] += shape.size
        counters["connections"] += opens_connection(packet)
        lost = self._lose(shape)
        arrival, kept = self._queue(now, shape)
        if not kept:
            return
        missing = [number for number in lost if number < kept] + list(range(kept, shape.segments))
        counters["delivered"] += shape.size * (shape.segments - len(missing)) // shape.segments
        before = -1
        for number in [*missing, shape.segments]:
            if number - before > 1:
                self.waiting.append((arrival, cut(packet, before + 1, number, shape)))
            before = number

    def deliver(self, now: float) -> None:
        """Hand over what has arrived."""
        if self.waiting and now - self.waiting[0][0] > self._late:
            self._late = now - self.waiting[0][0]
        while self.waiting and self.waiting[0][0] <= now:
            try:
                os.write(self._target, self.waiting.popleft()[1])
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    def look(self) -> dict[str, float]:
        """The counters, as ``lab.Counters`` says."""
        late, self._late = self._late, 0.0
        return {**self.counters, "late": late}

    def _lose(self, shape: Shape) -> list[int]:
        loss = self._settings["loss"]
        lost = [number for number in range(shape.segments) if self._rng.random() < loss] if loss else []
        self.counters["lost"] += len(lost)
        return lost

    def _queue(self, now: float, shape: Shape) -> tuple[float, int]:
        """When it arrives, and how many of its segments found room in the queue."""
        settings, rate, size, kept = self._settings, self._settings["rate"], float(shape.size), shape.segments
        arrival = now
        if rate:
            self._busy_until = max(self._busy_until, now)
            room = settings["queue"] - (self._busy_until - now) * rate
            if size > room:
                kept = max(0, int(shape.segments * room // size))
                self.counters["dropped"] += shape.segments - kept
                size = size * kept / shape.segments
            self._busy_until += size / rate
            arrival = self._busy_until
        arrival += settings["delay"] + (self._rng.random() * settings["jitter"] if settings["jitter"] else 0.0)
        if kept:
            self._last = arrival = max(arrival, self._last)
        return arrival, kept


def serve(client: int, server: int, control: socket.socket, rng: random.Random) -> None:
    """Forward until ``control`` is closed at its other end. A line there changes settings, and is answered by the counters."""
    up, down = Pipe(client, server, rng), Pipe(server, client, rng)
    pipes = {client: up, server: down}
    orders = b""
    while True:
        ready, _, _ = select.select((client, server, control.fileno()), (), (), _time_left(up, down))
        if control.fileno() in ready:
            data = control.recv(1 << 16)
            if not data:
                return
            *lines, orders = (orders + data).split(b"\n")
            for line in lines:
                control.sendall(_obey(json.loads(line), up, down))
        for end in ready:
            if end in pipes:
                _read(pipes[end])


def _time_left(*pipes: Pipe) -> float | None:
    """Deliver what is due; seconds until something else is, None if nothing waits."""
    now = time.monotonic()
    for pipe in pipes:
        pipe.deliver(now)
    due = min((pipe.waiting[0][0] for pipe in pipes if pipe.waiting), default=None)
    return None if due is None else max(0.0, due - time.monotonic())


def _read(pipe: Pipe) -> None:
    with suppress(BlockingIOError):
        for _ in range(_AT_ONCE):
            pipe.accept(time.monotonic(), os.read(pipe.source, _LARGEST_PACKET))


def _obey(order: dict[str, Any], up: Pipe, down: Pipe) -> bytes:
    for pipe, name in ((up, "up"), (down, "down")):
        if name in order:
            pipe.set(order[name])
    return json.dumps({"up": up.look(), "down": down.look()}).encode() + b"\n"


def end_all(inodes: set[int], keep: set[int]) -> None:
    """End every process in the namespaces with these inodes; nothing but what the lab started lives there."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + 1.0
        for pid in _inside(inodes, keep):
            with suppress(OSError):
                os.kill(pid, number)
        while _inside(inodes, keep) and time.monotonic() < end:
            time.sleep(0.02)


def _inside(inodes: set[int], keep: set[int]) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and int(name) not in keep and os.stat(f"/proc/{name}/ns/net").st_ino in inodes and not _is_dead(name):
                found.append(int(name))
    return found


def _is_dead(pid: str) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def _come_first() -> None:
    """A late emulator is a worse link than was asked for, so it goes before all others of the machine, as far as it may."""
    with suppress(OSError):
        os.nice(-10)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main(arguments: list[str]) -> None:
    """Descriptors and inodes come as numbers: they were opened by the owner."""
    client, server, control, seed, *inodes = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the owner, whose end is ours
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)  # ns: wake up on time
    _come_first()
    owner = os.getppid()
    with socket.socket(fileno=control) as orders:
        serve(client, server, orders, random.Random(seed))
    end_all(set(inodes), {owner, os.getpid()})


if __name__ == "__main__":
    main(sys.argv[1:])
