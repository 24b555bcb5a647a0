"""What is measured: a link, what goes over it, which way and how many at once; and the time that no program can beat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

from asyncdup.errors import UsageError
from asyncdup.units import parse_rate, parse_size
from benchmarks.lab import Link

Protocol = Literal["sftp", "s3"]
Direction = Literal["put", "get", "backup", "restore"]

MIB = 1 << 20
QUEUE = 1_000_000  # bytes, of the link
_MTU, _PAYLOAD = 1500, 1448  # bytes of a full segment: with and without headers of IPv4 and TCP with timestamps
_LATE = 0.1  # of the round trip: an emulator that is later than that was no such link
_LATE_AT_LEAST = 0.01  # seconds: a quarter of what the queue of 1 MB holds at 200 Mbit/s


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row of the table.

    Attributes:
        rtt: seconds; rate: bytes/s each way; loss: probability for a packet.
        count, size: of the objects, or of the files of the tree for ``backup`` and ``restore``.
        concurrency: of those programs that can be told.
        volume: MiB, for programs that make volumes.
        congestion: what both kernels use.
    """

    protocol: Protocol
    direction: Direction
    rtt: float
    rate: float
    count: int
    size: int
    concurrency: int = 8
    loss: float = 0.0
    queue: int = QUEUE
    volume: int = 25
    congestion: str = "cubic"

    @property
    def bytes(self) -> int:
        """Payload in all."""
        return self.count * self.size

    @property
    def limit(self) -> float:
        """Seconds: the payload in full segments at the rate of the link, and two round trips."""
        return (self.bytes * _MTU / _PAYLOAD / self.rate if self.rate else 0.0) + 2 * self.rtt

    @property
    def late(self) -> float:
        """Seconds: a run in which the emulator was later than this is made again."""
        return max(_LATE * self.rtt, _LATE_AT_LEAST)

    @property
    def link(self) -> Link:
        """For the lab."""
        return Link.of(rtt=self.rtt, rate=self.rate, queue=self.queue, loss=self.loss)

    @property
    def is_up(self) -> bool:
        """Whether the payload goes to the server."""
        return self.direction in ("put", "backup")

    @property
    def name(self) -> str:
        """For people, and unique."""
        rate = f"{self.rate * 8 / 1e6:g} Mbit/s" if self.rate else "no rate limit"
        loss = f", {self.loss:.1%} loss" if self.loss else ""
        bbr = "" if self.congestion == "cubic" else f", {self.congestion}"
        return f"{self.protocol} {self.direction} {self.count} × {_size(self.size)}, {self.rtt * 1e3:g} ms, {rate}{loss}{bbr}, {self.concurrency} at once"


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of what the command line asks for; see ``Cell``."""

    protocols: list[Protocol]
    directions: list[Direction]
    rtts: list[float]
    rates: list[float]
    objects: list[tuple[int, int]]
    concurrencies: list[int]
    losses: list[float]

    @classmethod
    def parse(cls, texts: dict[str, str], *, congestion: str) -> list[Cell]:
        """From lists with commas between. Raises UsageError."""
        try:
            grid = cls(
                [_one_of(text, ("sftp", "s3")) for text in _words(texts["protocol"])],  # type: ignore[misc]
                [_one_of(text, ("put", "get", "backup", "restore")) for text in _words(texts["direction"])],  # type: ignore[misc]
                [float(text) / 1e3 for text in _words(texts["rtt"])],
                [parse_rate(text) for text in _words(texts["rate"])],
                [_objects(text) for text in _words(texts["objects"])],
                [int(text) for text in _words(texts["concurrency"])],
                [float(text) / 100 for text in _words(texts["loss"])],
            )
        except ValueError as error:
            raise UsageError(f"a number was expected: {error}") from error
        return grid.cells(congestion)

    def cells(self, congestion: str) -> list[Cell]:
        """In the order in which they are measured."""
        axes = (self.protocols, self.directions, self.objects, self.rates, self.losses, self.rtts, self.concurrencies)
        return [
            Cell(
                protocol=protocol,
                direction=direction,
                rtt=rtt,
                rate=rate,
                count=count,
                size=size,
                concurrency=concurrency,
                loss=loss,
                volume=25 if direction in ("backup", "restore") else max(1, size // MIB),
                congestion=congestion,
            )
            for protocol, direction, (count, size), rate, loss, rtt, concurrency in product(*axes)
        ]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise UsageError(f"{text} is none of {', '.join(known)}")
    return text


def _objects(text: str) -> tuple[int, int]:
    count, _, size = text.partition("x")
    return int(count), parse_size(size)


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size >> 10} KiB"
