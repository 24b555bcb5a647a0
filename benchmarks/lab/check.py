"""Measures a link against what was asked: round trips, loss, and the rate of one TCP stream each way."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.lab.lab import Counters, Lab
from benchmarks.lab.link import Link, Way
from benchmarks.lab.namespaces import CLIENT, SERVER, Side

_ECHOES = 20
_DATAGRAMS = 20_000  # for the loss
_HEADERS = 52  # bytes of IPv4 and TCP with timestamps
_PORT = 5001


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity; ``asked`` 0: no limit, so anything is right."""

    what: str
    asked: float
    measured: float
    tolerance: float

    @property
    def right(self) -> bool:
        """Within the tolerance."""
        return not self.asked or abs(self.measured - self.asked) <= self.tolerance


def check(lab: Lab, *, seconds: float = 6.0, mtu: int = 1500) -> list[Row]:
    """Takes about ``3 * seconds``. The link is as before when it ends."""
    asked = lab.link
    rows = [Row("round trip, ms", asked.rtt * 1e3, _round_trip(lab) * 1e3, max(0.05 * asked.rtt * 1e3, 2.0))]
    ways: tuple[tuple[Side, Way], ...] = (("client", asked.up), ("server", asked.down))
    rows += [_loss(lab, side, way) for side, way in ways]
    lab.set(Link(up=_near(asked.up), down=_near(asked.down)))  # a short round trip: the rate, not the time TCP takes to find it
    for side, way in ways:
        wanted = way.rate * (mtu - _HEADERS) / mtu / 1e6
        rows.append(Row(f"rate from the {side}, MB/s", wanted, _stream(lab, side, seconds) / 1e6, 0.05 * wanted))
    lab.set(asked)
    return rows


def _near(way: Way) -> Way:
    return replace(way, delay=0.0005, loss=0.0, jitter=0.0)


def _round_trip(lab: Lab) -> float:
    """Seconds, the median of some datagrams there and back."""
    with _datagrams(lab, "server") as server, _datagrams(lab, "client") as client:
        client.connect((SERVER, _PORT))
        client.settimeout(lab.link.rtt + 1)
        server.settimeout(lab.link.rtt + 1)
        times = []
        for number in range(_ECHOES):
            began = time.monotonic()
            client.send(b"%d" % number)
            with suppress(TimeoutError):
                data, peer = server.recvfrom(100)
                server.sendto(data, peer)
                while client.recv(100) != data:
                    pass  # one that was given up
                times.append(time.monotonic() - began)
    return median(times) if times else float("inf")


def _loss(lab: Lab, side: Side, way: Way) -> Row:
    before = _counters(lab, side)
    if way.loss:
        with _datagrams(lab, side) as sender:
            for number in range(_DATAGRAMS):
                sender.sendto(b"x", (_other(side), _PORT + 1))
                if number % 50 == 0:
                    time.sleep(0.003)  # the device's own queue must not overflow
        time.sleep(0.2)
    after = _counters(lab, side)
    sent, lost = after.packets - before.packets, after.lost - before.lost
    sigma = (way.loss * (1 - way.loss) / max(1, sent)) ** 0.5
    return Row(f"loss from the {side}, %", way.loss * 100, 100 * lost / max(1, sent), 100 * max(0.05 * way.loss, 4 * sigma))


def _stream(lab: Lab, side: Side, seconds: float) -> float:
    """Payload bytes/s of one TCP connection, its first third left out."""
    with lab.inside(_opposite(side)):
        listener = socket.create_server((_other(side), _PORT))
    with lab.inside(side):
        sender = socket.create_connection((_other(side), _PORT))
    with listener, listener.accept()[0] as receiver:
        receiver.settimeout(10)
        stop = time.monotonic() + seconds
        thread = threading.Thread(target=_send, args=(sender, stop))
        thread.start()
        moved = _receive(receiver, stop - seconds * 2 / 3, stop)
        receiver.close()
        thread.join()
    return moved


def _send(sender: socket.socket, stop: float) -> None:
    block = bytes(1 << 18)
    with sender, suppress(OSError):
        while time.monotonic() < stop:
            sender.sendall(block)


def _receive(receiver: socket.socket, start: float, stop: float) -> float:
    buffer = bytearray(1 << 20)
    first, last, total = 0.0, 0.0, 0
    while (count := receiver.recv_into(buffer)) and (now := time.monotonic()) < stop:
        if now < start:
            continue
        if first:
            total += count
        first, last = first or now, now
    return total / (last - first) if last > first else 0.0


def _datagrams(lab: Lab, side: Side) -> socket.socket:
    with lab.inside(side):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((CLIENT if side == "client" else SERVER, _PORT))
    return made


def _counters(lab: Lab, side: Side) -> Counters:
    statistics = lab.statistics()
    return statistics.up if side == "client" else statistics.down


def _opposite(side: Side) -> Side:
    return "server" if side == "client" else "client"


def _other(side: Side) -> str:
    return SERVER if side == "client" else CLIENT
